"""A mock of vLLM's HTTP server with little CPU use: responses are rendered once and cached.

It implements what the engine probe and chat completions need: usage and token ids in every chunk, `n` and
`stream_interval`. Every completion ends in a boxed number. The numbers rotate, so that no vote is decided before its
last ballot. A model whose name ends in `-roots` answers with square roots, mostly new ones, which only a comparison
worker can compare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

ANSWERS = 4
PROMPT_TOKENS = 20
ROOTS = 512
"""Period of the answers of a `-roots` model: it has more pairs of answers than the service caches."""
PREFIX = "mock-"
ROOTS_SUFFIX = "-roots"

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
)
_EVENTS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Cache key of a response. `turn` selects the first answer; chunks have `interval` tokens."""

    model: str
    n: int
    tokens: int
    turn: int
    interval: int = 1
    has_ids: bool = False
    has_usage: bool = False


@lru_cache(maxsize=1024)
def full_reply(shape: Shape) -> bytes:
    """Render the response to a chat without streaming."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": "".join(_words(shape, index))},
            "finish_reason": "stop",
        }
        for index in range(shape.n)
    ]
    usage = _usage(shape.tokens * shape.n)
    return _json_response(_envelope(shape, "chat.completion", choices) | {"usage": usage})


@lru_cache(maxsize=1024)
def streamed_reply(shape: Shape) -> tuple[bytes, ...]:
    """Render the response to a streamed chat: the bytes of each engine step."""
    steps = []
    texts = [_words(shape, index) for index in range(shape.n)]
    for at in range(0, shape.tokens, shape.interval):
        events = [_chunk(shape, index, at, words) for index, words in enumerate(texts)]
        steps.append(_framed(b"".join(events)))
    last = b"data: [DONE]\n\n"
    if shape.has_usage:
        total = _envelope(shape, "chat.completion.chunk", []) | {
            "usage": _usage(shape.tokens * shape.n)
        }
        last = _event(total) + last
    return (_EVENTS + steps[0], *steps[1:], _framed(last) + b"0\r\n\r\n")


def _words(shape: Shape, index: int) -> list[str]:
    if shape.model.endswith(ROOTS_SUFFIX):
        answer = f"\\sqrt{{{2 + shape.turn * ANSWERS + index % ANSWERS}}}"
    else:
        answer = str(40 + (shape.turn + index) % ANSWERS)
    return [*["so "] * (shape.tokens - 1), f"\\boxed{{{answer}}}"]


def _chunk(shape: Shape, index: int, at: int, words: Sequence[str]) -> bytes:
    end = min(at + shape.interval, shape.tokens)
    choice: dict[str, Any] = {
        "index": index,
        "delta": {"content": "".join(words[at:end])},
        "logprobs": None,
        "finish_reason": "stop" if end == shape.tokens else None,
    }
    if shape.has_ids:
        choice["token_ids"] = list(range(at, end))
    chunk = _envelope(shape, "chat.completion.chunk", [choice])
    return _event(chunk | {"usage": _usage(end)} if shape.has_usage else chunk)


def _envelope(shape: Shape, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 0,
        "model": shape.model,
        "choices": choices,
    }


def _usage(completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": PROMPT_TOKENS + completion,
    }


def _event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _json_response(value: object) -> bytes:
    body = json.dumps(value).encode()
    return _OK % (len(body), body)


class Upstream(asyncio.Protocol):
    """One connection without pipelining; each completion has `tokens` tokens."""

    def __init__(self, latencies: Sequence[int], tokens: int, turns: count[int]) -> None:
        self._latencies = {
            f"{PREFIX}{ms}ms{suffix}": ms / 1e3 for ms in latencies for suffix in ("", ROOTS_SUFFIX)
        }
        self._tokens = tokens
        self._turns = turns
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        _, _, declared = head.partition(b"\r\ncontent-length:")
        size = int(declared.partition(b"\r\n")[0] or 0)
        if len(self._buffer) < end + 4 + size:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + size])
        self._buffer.clear()
        self._answer(head.split(b" ", 2)[1], body)

    def _answer(self, path: bytes, body: bytes) -> None:
        if path == b"/v1/chat/completions":
            self._chat(json.loads(body))
        elif path == b"/v1/models":
            models = [
                {"id": name, "owned_by": "vllm", "max_model_len": 32_768}
                for name in self._latencies
            ]
            self._transport.write(_json_response({"object": "list", "data": models}))
        elif path == b"/tokenize":
            self._transport.write(_json_response({"tokens": list(range(PROMPT_TOKENS))}))
        else:
            self._transport.write(_OK % (2, b"{}") if path == b"/health" else _NOT_FOUND)

    def _chat(self, chat: dict[str, Any]) -> None:
        options = chat.get("stream_options") or {}
        n = chat.get("n") or 1
        shape = Shape(
            model=chat["model"],
            n=n,
            tokens=min(self._tokens, chat.get("max_tokens") or self._tokens),
            turn=self._turn(chat["model"], n),
            interval=chat.get("stream_interval") or 1,
            has_ids=bool(chat.get("return_token_ids")),
            has_usage=bool(options.get("continuous_usage_stats")),
        )
        steps = streamed_reply(shape) if chat.get("stream") else (full_reply(shape),)
        latency = self._latencies[shape.model]
        if latency:
            self._loop.call_later(latency, self._write, steps, 0)
        else:
            self._write(steps, 0)

    def _turn(self, model: str, n: int) -> int:
        if model.endswith(ROOTS_SUFFIX):
            return next(self._turns) % ROOTS
        return next(self._turns) % ANSWERS if n == 1 else 0

    def _write(self, steps: tuple[bytes, ...], at: int) -> None:
        """Write one step, and the next one after the pending writes of other connections."""
        if self._transport.is_closing():
            return
        self._transport.write(steps[at])
        if at + 1 < len(steps):
            self._loop.call_soon(self._write, steps, at + 1)


async def serve(port: int, latencies: Sequence[int], tokens: int) -> None:
    """Serve on loopback until cancelled, with a model `mock-Nms` for each latency of N milliseconds."""
    turns = count()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Upstream(latencies, tokens, turns), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until the process receives a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latencies", type=int, nargs="+", default=[0, 100], metavar="MS")
    parser.add_argument("--tokens", type=int, default=16, help="tokens per completion")
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.latencies, options.tokens))


if __name__ == "__main__":
    main()

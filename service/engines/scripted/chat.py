"""Plain OpenAI chat requests to the scripted engine."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from secondpass.service.engines.common.status_codes import excerpt
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Message, ReportedUsage, Sampling

_HEADERS = (("content-type", "application/json"),)
_EVENTS = (("content-type", "text/event-stream; charset=utf-8"),)


class _StreamingEngine(Protocol):
    model: str

    def stream(self, call: Call) -> Any: ...


class _ChatRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    messages: tuple[Message, ...]
    n: int = Field(default=1, ge=1, le=128)
    max_tokens: int | None = None
    seed: int | None = None
    stream: bool = False


@asynccontextmanager
async def reply_to(engine: _StreamingEngine, request: PlainRequest) -> AsyncIterator[PlainReply]:
    """Yield the scripted reply to a chat request, as JSON or as a stream; leaving the block aborts it."""
    call = _call(request)
    if isinstance(call, PlainReply):
        yield call
    elif call.visible:
        async with aclosing(_chunks(engine, call)) as chunks:
            yield PlainReply(200, _EVENTS, chunks)
    else:
        yield await _whole_reply(engine, call)


def _call(request: PlainRequest) -> Call | PlainReply:
    """Return the call for a chat request, visible if it streams; or the error reply if it is invalid."""
    try:
        chat = _ChatRequest.model_validate_json(request.body)
        sampling = Sampling(max_tokens=chat.max_tokens, seed=chat.seed)
    except ValidationError as error:
        problem = error.errors()[0]
        return _failure(400, excerpt(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"))
    return Call(
        role="actor",
        purpose="chat",
        messages=chat.messages,
        n=chat.n,
        sampling=sampling,
        visible=chat.stream,
    )


async def _whole_reply(engine: _StreamingEngine, call: Call) -> PlainReply:
    try:
        return PlainReply(200, _HEADERS, _once(await _whole(engine, call)))
    except CallRejected as error:
        return _failure(error.status, str(error))
    except (EngineUnavailable, StreamInterrupted) as error:
        return _failure(500, str(error))


async def _whole(engine: _StreamingEngine, call: Call) -> bytes:
    texts = [""] * call.n
    finish: list[str | None] = [None] * call.n
    usage = ReportedUsage()
    async with aclosing(engine.stream(call)) as deltas:
        async for delta in deltas:
            texts[delta.index] += delta.text
            finish[delta.index] = delta.finish_reason or finish[delta.index]
            if delta.usage is not None:
                usage = usage.updated(delta.usage)
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish[i],
        }
        for i, text in enumerate(texts)
    ]
    return json.dumps(
        _envelope(engine, "chat.completion", choices) | {"usage": _usage(usage)}
    ).encode()


async def _chunks(engine: _StreamingEngine, call: Call) -> AsyncGenerator[bytes]:
    async with aclosing(engine.stream(call)) as deltas:
        async for delta in deltas:
            if delta.text or delta.finish_reason:
                yield _event(engine, delta)
    yield b"data: [DONE]\n\n"


def _event(engine: _StreamingEngine, delta: Delta) -> bytes:
    choice = {
        "index": delta.index,
        "delta": {"content": delta.text},
        "finish_reason": delta.finish_reason,
    }
    chunk = _envelope(engine, "chat.completion.chunk", [choice])
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _envelope(engine: _StreamingEngine, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": kind,
        "created": 0,
        "model": engine.model,
        "choices": choices,
    }


def _usage(usage: ReportedUsage) -> dict[str, int]:
    prompt, completion = usage.prompt or 0, usage.completion or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _failure(status: int, message: str) -> PlainReply:
    error = {"error": {"message": message, "type": "invalid_request_error", "code": status}}
    return PlainReply(status, _HEADERS, _once(json.dumps(error).encode()))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body

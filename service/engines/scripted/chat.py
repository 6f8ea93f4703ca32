"""Replies of the scripted engine to plain chat requests, in the shapes of OpenAI's server."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

from secondpass.service.engines.scripted.chat_request import InvalidChat, ScriptedChat, parse_chat
from secondpass.service.engines.scripted.tokens import tokens_of
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import CallRejected, EngineError, EngineUnavailable
from secondpass.strategies.api.values import ReportedUsage

_HEADERS = (("content-type", "application/json"),)
_EVENTS = (("content-type", "text/event-stream; charset=utf-8"),)


class _StreamingEngine(Protocol):
    model: str

    def stream(self, call: Call) -> AsyncGenerator[Delta]: ...


@asynccontextmanager
async def reply_to(engine: _StreamingEngine, request: PlainRequest) -> AsyncIterator[PlainReply]:
    """Yield the reply to a chat request, as JSON or as a stream; leaving the block aborts it.

    A failure before the first token is an error reply. A later one interrupts a stream.
    """
    try:
        chat = parse_chat(request.body, engine.model)
    except InvalidChat as error:
        code = "model_not_found" if error.status == 404 else None
        yield _failure(error.status, str(error), error.param, code)
        return
    async with aclosing(engine.stream(chat.to_call())) as deltas:
        reply = _Reply(engine.model, chat)
        try:
            first = await anext(deltas)
            if not chat.stream:
                content = await reply.whole(first, deltas)
        except EngineError as error:
            yield _failure(_status_of(error), str(error))
            return
        if chat.stream:
            async with aclosing(reply.chunks(first, deltas)) as chunks:
                yield PlainReply(200, _EVENTS, chunks)
        else:
            yield PlainReply(200, _HEADERS, _once(content))


class _Reply:
    """The reply to one request."""

    def __init__(self, model: str, chat: ScriptedChat) -> None:
        self._model, self._chat = model, chat
        self._usage = ReportedUsage()

    async def whole(self, first: Delta, rest: AsyncIterator[Delta]) -> bytes:
        """Return the completions as JSON."""
        deltas = [first, *[delta async for delta in rest]]
        choices = [
            self._completion(index, [delta for delta in deltas if delta.index == index])
            for index in range(self._chat.n)
        ]
        for delta in deltas:
            self._usage = self._usage.updated(delta.usage or ReportedUsage())
        document = self._envelope("chat.completion", choices) | {"usage": self._usage_document()}
        return json.dumps(document).encode()

    def _completion(self, index: int, deltas: Sequence[Delta]) -> dict[str, Any]:
        text = "".join(delta.text for delta in deltas)
        reason = next((delta.finish_reason for delta in deltas if delta.finish_reason), None)
        entries = [entry for delta in deltas for entry in self._logprobs(delta)]
        return _choice(
            index, reason, self._content(entries), message=_message(text) | {"annotations": []}
        )

    async def chunks(self, first: Delta, rest: AsyncIterator[Delta]) -> AsyncGenerator[bytes]:
        """Yield the chunks: the role of each choice, its text, its finish reason, then the usage."""
        for index in range(self._chat.n):
            yield self._chunk([_choice(index, None, None, delta=_message(""))])
        for choice in self._choices_of(first):
            yield self._chunk([choice])
        async for delta in rest:
            for choice in self._choices_of(delta):
                yield self._chunk([choice])
        if self._chat.includes_usage:
            yield self._chunk([], usage=self._usage_document())
        yield b"data: [DONE]\n\n"

    def _choices_of(self, delta: Delta) -> Iterator[dict[str, Any]]:
        self._usage = self._usage.updated(delta.usage or ReportedUsage())
        if delta.text:
            logprobs = self._content(self._logprobs(delta))
            yield _choice(delta.index, None, logprobs, delta={"content": delta.text})
        if delta.finish_reason:
            yield _choice(delta.index, delta.finish_reason, None, delta={})

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        usage = {"usage": None} if self._chat.includes_usage else {}
        chunk = self._envelope("chat.completion.chunk", choices) | usage | more
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": "chatcmpl-scripted",
            "object": kind,
            "created": 0,
            "model": self._model,
            "choices": choices,
        }

    def _logprobs(self, delta: Delta) -> list[dict[str, Any]]:
        """Return the log probability of each token; the only alternative is the token itself."""
        entries = []
        for token, logprob in zip(tokens_of(delta.text), delta.logprobs, strict=False):
            entry = {"token": token, "logprob": logprob, "bytes": list(token.encode())}
            entries.append(entry | {"top_logprobs": [entry] if self._chat.top_logprobs else []})
        return entries

    def _content(self, entries: list[dict[str, Any]]) -> dict[str, Any] | None:
        return {"content": entries, "refusal": None} if self._chat.logprobs else None

    def _usage_document(self) -> dict[str, int]:
        prompt, completion = self._usage.prompt or 0, self._usage.completion or 0
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }


def _message(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "refusal": None}


def _choice(
    index: int, reason: str | None, logprobs: dict[str, Any] | None, **content: dict[str, Any]
) -> dict[str, Any]:
    return {"index": index, **content, "logprobs": logprobs, "finish_reason": reason}


def _status_of(error: EngineError) -> int:
    if isinstance(error, CallRejected):
        return error.status
    return 503 if isinstance(error, EngineUnavailable) else 500


def _failure(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> PlainReply:
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return PlainReply(status, _HEADERS, _once(json.dumps(error).encode()))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body

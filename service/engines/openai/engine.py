"""Any OpenAI-compatible server as an engine: most of it where the server speaks vLLM's dialect.

Deltas are exact there: token ids and usage come with every chunk, completions are continued from their tokens, and
labels are read by their ids. What another server cannot do is missing from its capabilities. asyncio only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from secondpass.service.common.routing_headers import AFFINITY, DESTINATION, FORWARDED, PRIORITY
from secondpass.service.engines.common.prefix_ids import prefix_ids
from secondpass.service.engines.common.utf8_seam import Seam, open_character
from secondpass.service.engines.openai.labels import fetch_labels
from secondpass.service.engines.openai.probe import probe
from secondpass.service.engines.openai.remote import RemoteEngine
from secondpass.service.engines.openai.token_cache import Tokenizer
from secondpass.service.engines.openai.wire import (
    Dialect,
    ReplyReader,
    chat_body,
    completion_body,
    streamed,
    usage_of,
)
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import (
    CallRejected,
    CapabilityMissing,
    EngineUnavailable,
    StreamInterrupted,
)
from secondpass.strategies.api.values import ImagePart

_TAKEN_ALONG = FORWARDED | AFFINITY | PRIORITY | {"x-request-id", "traceparent", "tracestate"}
# Those of one connection only (RFC 9110, 7.6.1), and those that our own server writes.
_LEFT_BEHIND = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "date",
        "server",
        "set-cookie",
    )
)


@dataclass(frozen=True, slots=True)
class _Server:
    """What is known of a server that has answered."""

    dialect: Dialect
    tokenizer: Tokenizer | None


class HttpEngine(RemoteEngine[_Server]):
    """An engine that writes, over OpenAI's API; see `RemoteEngine` for its parameters."""

    async def _found(self) -> _Server:
        dialect = await probe(self._connection, self._wanted)
        if "tokenize" not in dialect.capabilities:
            return _Server(dialect, None)
        return _Server(dialect, Tokenizer(self._connection, dialect, self._routing))

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Deltas as the server sends them; closing the generator closes the connection, which aborts.

        Raises CallRejected for a 4xx, EngineUnavailable for 5xx, 429 and silence, StreamInterrupted for a stream that ends
        early or is no such stream, CapabilityMissing for what the server was not found to do.
        """
        server = self._server_for(call)
        if call.labels:
            for delta in await self._read_labels(call, server):
                yield delta
            return
        route, body, seam = await self._request(call, server)
        reader = ReplyReader(call, self._connection)
        url = f"{self._connection.url}/{route}"
        content = json.dumps(body).encode()
        async with (
            self._connection.open(
                "POST", url, content, headers=self._routing.of_call(call), role=call.role
            ) as response,
            aclosing(self._connection.events(response, role=call.role)) as events,
        ):
            try:
                # Once around the stream and not around each chunk: this is the hot path.
                with self._connection.readable(call.role):
                    async for payloads in events:
                        for payload in payloads:
                            for delta in reader.read(payload):
                                yield await seam.mend(delta) if seam else delta
            except StreamInterrupted:
                if not reader.is_finished:
                    raise
        reader.finish()
        if server.tokenizer and reader.prompt_ids:
            server.tokenizer.remember(call, reader.prompt_ids)

    async def _read_labels(self, call: Call, server: _Server) -> tuple[Delta, ...]:
        headers = self._routing.of_call(call)
        labels, reply = await fetch_labels(
            call, self._connection, server.dialect, server.tokenizer, headers
        )
        with self._connection.readable(call.role):
            usage = usage_of(reply)
        read = Delta(tokens=1, labels=labels, finish_reason="stop")
        return (read, Delta(usage=usage)) if usage else (read,)

    async def _request(
        self, call: Call, server: _Server
    ) -> tuple[str, dict[str, Any], Seam | None]:
        """The route below /v1 and the body that stream the reply, and what mends its beginning."""
        if not (isinstance(call.prefix, tuple) and server.tokenizer):
            body = chat_body(call, server.dialect)
            return "chat/completions", streamed(body, call, server.dialect), None
        tail = await open_character(call, server.tokenizer)
        if tail and call.sampling.stop:
            raise self._rejected(call, "a prefix ends inside a character: no stop strings after it")
        held = await prefix_ids(call, server.tokenizer)
        prompt = [*await server.tokenizer.render(call), *held]
        body = streamed(completion_body(call, server.dialect, prompt), call, server.dialect)
        return "completions", body, Seam(call, server.tokenizer, tail) if tail else None

    async def count_prompt(self, call: Call) -> int:
        """Prompt tokens of `call`, its prefix included, by the server's own tokenizer.

        Raises CapabilityMissing without `tokenize`, EngineError and its kinds when the server fails.
        """
        if not (self._server and self._server.tokenizer):
            raise CapabilityMissing(self.name, ("tokenize",))
        held = await prefix_ids(call, self._server.tokenizer)
        return len(await self._server.tokenizer.render(call)) + len(held)

    @asynccontextmanager
    async def forward(self, request: PlainRequest) -> AsyncIterator[PlainReply]:
        """Proxy `request` byte for byte, with our key and none of the client's; leaving the block aborts.

        Headers that are not ASCII, which no server has to understand, stay behind.

        Raises EngineUnavailable when nothing answers; reading the chunks raises StreamInterrupted when they break off.
        """
        url = f"{self._connection.url}/{request.path.lstrip('/')}"
        headers = self._routing.of(request.routing) | {
            name.lower(): value
            for name, value in request.headers
            if name.lower() in _TAKEN_ALONG and value.isascii()
        }
        async with (
            self._connection.open("POST", url, request.body, headers=headers) as response,
            aclosing(self._connection.chunks(response)) as chunks,
        ):
            yield PlainReply(response.status_code, _passed_back(response.headers), chunks)

    def _server_for(self, call: Call) -> _Server:
        """The server, if it can serve `call`: what cannot be done is never imitated in silence."""
        if self._server is None:
            raise EngineUnavailable(
                f"not ready: {self.why_not_ready}", engine=self.name, role=call.role
            )
        missing = set(call.needs - self.capabilities)
        if isinstance(call.prefix, tuple):
            if not self._server.dialect.continues_tokens:
                missing.add("tokenize")
            if any(isinstance(part, ImagePart) for m in call.messages for part in m.content or ()):
                raise self._rejected(call, "a prompt with images is not continued from token ids")
        if missing:
            raise CapabilityMissing(self.name, missing)
        if call.prefix is not None and call.schema is not None:
            raise self._rejected(call, "a schema constrains whole replies, not continuations")
        return self._server

    def _rejected(self, call: Call, why: str) -> CallRejected:
        return CallRejected(why, engine=self.name, role=call.role)


def _passed_back(headers: httpx.Headers) -> tuple[tuple[str, str], ...]:
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    return tuple(
        (name, value)
        for name, value in headers.multi_items()
        if name not in _LEFT_BEHIND and name not in named and not name.startswith(DESTINATION)
    )

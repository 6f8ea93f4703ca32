"""Engine for OpenAI-compatible servers over HTTP, with extra features on vLLM.

On vLLM each chunk has token ids and usage, completions are continued from their token ids, and labels are read by
token id. Features that a server lacks are missing from the engine's capabilities. asyncio only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx

from secondpass.service.common.cache_salt import with_cache_salt
from secondpass.service.common.routing_headers import AFFINITY, DESTINATION, FORWARDED, PRIORITY
from secondpass.service.engines.common.decompression import encoding_of
from secondpass.service.engines.common.prefix_ids import prefix_ids
from secondpass.service.engines.common.redaction import masked_chunks
from secondpass.service.engines.common.status_codes import KEY_STATUSES
from secondpass.service.engines.common.utf8_repair import Utf8Repair, incomplete_character
from secondpass.service.engines.openai.labels import fetch_labels
from secondpass.service.engines.openai.probe import probe
from secondpass.service.engines.openai.remote import RemoteEngine
from secondpass.service.engines.openai.replies import ReplyReader
from secondpass.service.engines.openai.token_cache import Tokenizer
from secondpass.service.engines.openai.usage import usage_of
from secondpass.service.engines.openai.wire import (
    Dialect,
    chat_body,
    completion_body,
    with_streaming,
)
from secondpass.strategies.api.engine import Call, Delta, PlainReply, PlainRequest
from secondpass.strategies.api.errors import (
    CallRejected,
    CapabilityMissing,
    EngineUnavailable,
    StreamInterrupted,
)
from secondpass.strategies.api.values import ImagePart

_FORWARDED_HEADERS = FORWARDED | AFFINITY | PRIORITY | {"x-request-id", "traceparent", "tracestate"}
Headers: TypeAlias = tuple[tuple[str, str], ...]

_CORS = "access-control-"
# Hop-by-hop headers (RFC 9110, 7.6.1), headers that secondpass sets itself, and those that direct a client or its browser.
_DROPPED_RESPONSE_HEADERS = frozenset(
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
        "set-cookie2",
        "alt-svc",
        "clear-site-data",
        "location",
        "nel",
        "refresh",
        "report-to",
        "strict-transport-security",
        "via",
        "www-authenticate",
    )
)


@dataclass(frozen=True, slots=True)
class _Server:
    """Probe result of a server."""

    dialect: Dialect
    tokenizer: Tokenizer | None


class HttpEngine(RemoteEngine[_Server]):
    """A generating engine over OpenAI's API; see `RemoteEngine` for the parameters."""

    async def _probe_server(self) -> _Server:
        dialect = await probe(self._connection, self._requested_model)
        if "tokenize" not in dialect.capabilities:
            return _Server(dialect, None)
        return _Server(dialect, Tokenizer(self._connection, dialect, self._routing))

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Yield deltas as the server sends them; closing the generator aborts the request.

        Raises:
            CallRejected: the server returned a 4xx.
            EngineUnavailable: the engine is not ready, or the server returned a 5xx or 429 or did not answer.
            StreamInterrupted: the stream ended early, stalled or is malformed.
            EngineError: the reply has tool calls instead of text.
            CapabilityMissing: the call needs a capability that the server lacks.
        """
        server = self._server_for(call)
        if call.labels:
            for delta in await self._read_labels(call, server):
                yield delta
            return
        route, body, repair = await self._request(call, server)
        reader = ReplyReader(call, self._connection, server.dialect)
        url = f"{self._connection.url}/{route}"
        content = json.dumps(body).encode()
        async with (
            self._connection.open(
                "POST", url, content, headers=self._routing.of_call(call), role=call.role
            ) as response,
            aclosing(self._connection.events(response, role=call.role)) as events,
        ):
            interruption = None
            try:
                # One block around the whole stream, because this loop is the hot path.
                with self._connection.parsing(call.role):
                    async for payloads in events:
                        for payload in payloads:
                            for delta in reader.read(payload):
                                yield await repair.apply(delta) if repair else delta
                        if reader.is_ended:
                            break
            except StreamInterrupted as error:
                interruption = error
        for delta in reader.early_usage():
            yield delta
        reader.finish(interruption)
        if server.tokenizer and reader.prompt_ids:
            server.tokenizer.remember(call, reader.prompt_ids)

    async def _read_labels(self, call: Call, server: _Server) -> tuple[Delta, ...]:
        headers = self._routing.of_call(call)
        labels, reply = await fetch_labels(
            call, self._connection, server.dialect, server.tokenizer, headers
        )
        with self._connection.parsing(call.role):
            usage = usage_of(reply)
        read = Delta(tokens=1, labels=labels, finish_reason="stop")
        return (read, Delta(usage=usage)) if usage else (read,)

    async def _request(
        self, call: Call, server: _Server
    ) -> tuple[str, dict[str, Any], Utf8Repair | None]:
        """Return the route below /v1, the body, and the UTF-8 repair that the reply needs, if any."""
        if not (isinstance(call.prefix, tuple) and server.tokenizer):
            body = chat_body(call, server.dialect)
            return "chat/completions", with_streaming(body, call, server.dialect), None
        tail = await incomplete_character(call, server.tokenizer)
        if tail and call.sampling.stop:
            raise self._rejected(
                call, "stop: not supported after a prefix that ends inside a character"
            )
        prefix = await prefix_ids(call, server.tokenizer)
        prompt = [*await server.tokenizer.render(call), *prefix]
        body = with_streaming(completion_body(call, server.dialect, prompt), call, server.dialect)
        return "completions", body, Utf8Repair(call, server.tokenizer, tail) if tail else None

    async def count_prompt(self, call: Call) -> int:
        """Return the number of prompt tokens of `call`, prefix included, by the server's tokenizer.

        Raises:
            CapabilityMissing: the server lacks `tokenize`.
            EngineError: the request to the server failed.
        """
        if not (self._server and self._server.tokenizer):
            raise CapabilityMissing(self.name, ("tokenize",))
        prefix = await prefix_ids(call, self._server.tokenizer)
        return len(await self._server.tokenizer.render(call)) + len(prefix)

    @asynccontextmanager
    async def forward(self, request: PlainRequest) -> AsyncIterator[PlainReply]:
        """Forward `request` with the engine's API key; leaving the block aborts it.

        The body is forwarded byte for byte, except that vLLM gets the `cache_salt` of the request in it.

        API keys in the reply are masked. The text of an error has no inner addresses. A compressed reply, which the request
        does not ask for, is decompressed.

        Only an allowlist of the client's headers is forwarded, and of those only headers with ASCII values.

        Raises:
            CallRejected: the server refuses the API key, which is not the client's.
            EngineUnavailable: the server did not answer. Reading the chunks raises StreamInterrupted when the
                connection breaks.
        """
        url = f"{self._connection.url}/{request.path.lstrip('/')}"
        sent = self._salted(request)
        headers = self._routing.of(request.routing) | {
            name.lower(): value
            for name, value in request.headers
            if name.lower() in _FORWARDED_HEADERS and value.isascii()
        }
        async with self._connection.open("POST", url, sent, headers=headers) as response:
            if response.status_code in KEY_STATUSES:
                await self._connection.check_status(response, None)
            returned, body = await self._forwarded(response)
            async with aclosing(body):
                yield PlainReply(response.status_code, returned, body)

    async def _forwarded(self, response: httpx.Response) -> tuple[Headers, AsyncGenerator[bytes]]:
        """Return headers and body without our keys.

        An error has no inner addresses either, and at most 64 KiB.
        """
        connection = self._connection
        connection.check_encoding(response)
        headers = _response_headers(response.headers, connection.redactor.clean)
        if response.status_code >= 400:
            body = await connection.redactor.clean_body(await connection.error_body(response))
            headers = _without(headers, "content-length", "content-encoding")
            return (*headers, ("content-length", str(len(body)))), _one(body)
        if encoding_of(response.headers) != "identity":
            headers = _without(headers, "content-length", "content-encoding")
        chunks = connection.decoded_chunks(response)
        return headers, masked_chunks(chunks, connection.redactor.secrets)

    def _salted(self, request: PlainRequest) -> bytes:
        """Return the body, with the `cache_salt` if the server is vLLM.

        Raises EngineUnavailable before the first probe.
        """
        if request.cache_salt is None:
            return request.body
        if self._server is None:
            message = f"engine {self.name!r} is not ready: {self.why_not_ready}"
            raise EngineUnavailable(message, engine=self.name)
        is_vllm = self._server.dialect.is_vllm
        return with_cache_salt(request.body, request.cache_salt) if is_vllm else request.body

    def _server_for(self, call: Call) -> _Server:
        """Return the server; raise if it is not ready or cannot serve `call` exactly as requested."""
        if self._server is None:
            raise self._not_ready(call)
        missing = set(call.needs - self.capabilities)
        if isinstance(call.prefix, tuple):
            if not self._server.dialect.continues_tokens:
                missing.add("tokenize")
            if any(isinstance(part, ImagePart) for m in call.messages for part in m.content or ()):
                raise self._rejected(
                    call, "prefix: token ids are not supported for a prompt with images"
                )
        if missing:
            raise CapabilityMissing(self.name, missing)
        if call.resumable and not self._server.dialect.is_vllm:
            excluded = set(call.excluded_stop)
            if lost := [stop for stop in call.sampling.stop or () if stop not in excluded]:
                raise self._rejected(
                    call, f"stop: the server does not return the stop string {lost[0]!r}"
                )
        if call.prefix is not None and call.schema is not None:
            raise self._rejected(call, "schema: not supported together with a prefix")
        return self._server

    def _rejected(self, call: Call, why: str) -> CallRejected:
        return CallRejected(why, engine=self.name, role=call.role)


def _response_headers(headers: httpx.Headers, clean: Callable[[str], str]) -> Headers:
    """Return the headers to forward; `clean` removes keys and addresses from a value."""
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    return tuple(
        (name, clean(value))
        for name, value in headers.multi_items()
        if name not in _DROPPED_RESPONSE_HEADERS
        and name not in named
        and not name.startswith((DESTINATION, _CORS))
    )


def _without(headers: Headers, *names: str) -> Headers:
    return tuple([each for each in headers if each[0] not in names])


async def _one(body: bytes) -> AsyncGenerator[bytes]:
    if body:
        yield body

"""The HTTP connection of an engine, and the translation of transport errors to engine errors.

It uses httpx's API over aiohttp's transport, which handles six times the calls of httpx's own. asyncio only.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import aiohttp
import anyio
import httpx
from httpx_aiohttp import AiohttpTransport

from secondpass.service.common.sse import MAX_EVENT_BYTES, EventParser
from secondpass.service.engines.common.decompression import ENCODINGS, decompressed, encoding_of
from secondpass.service.engines.common.json_text import parse_json
from secondpass.service.engines.common.redaction import Quote, Redactor
from secondpass.service.engines.common.status_codes import (
    DROPPED_REASON_HEADER,
    error_for_status,
    error_in,
    error_message,
    error_status,
    parse_object,
    parse_retry_after,
)
from secondpass.service.engines.openai.event_stream import (
    CLOSE_SECONDS,
    DONE,
    EVENT_FIELDS,
    drain,
    start,
    until_end,
)
from secondpass.strategies.api.errors import EngineError, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Role

# uvicorn, and so vLLM, closes an idle connection after 5 s. A request sent at that moment would fail.
KEEP_ALIVE_SECONDS = 4.0
MAX_ERROR_BYTES = 64 * 1024
MAX_BODY_BYTES = 16 * 2**20
"""Most bytes of a fetched reply, decompressed: token ids of a prompt of two million tokens."""

# aiohttp raises ValueError for a URL that it does not accept.
_TRANSPORT_ERRORS = (
    aiohttp.ClientError,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,
    ValueError,
    zlib.error,
)
_UNREADABLE = (AttributeError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError)


class Connection:
    """HTTP client for one server; all requests of an engine use it.

    The API key is sent to this server only: redirects are not followed. Cookies and the environment's proxies are
    not used.

    Args:
        engine: name of the engine, for errors.
        url: base URL of the OpenAI API, usually ending in /v1. `root`, the URL without /v1, has vLLM's own routes.
        key: API key, sent as a bearer token.
        secrets: API keys of other engines, which are removed from errors like `key`.
        headers: default headers with lower-case names; a request's own headers override them.
        connect_timeout: seconds to connect.
        idle_timeout: most seconds without data within a reply. The total duration is not limited.
        client: httpx client to use instead of a new one.
    """

    def __init__(
        self,
        engine: str,
        url: str,
        key: str | None = None,
        *,
        secrets: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = 5.0,
        idle_timeout: float | None = 120.0,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.engine = engine
        self.url = url.rstrip("/")
        self.root = self.url.removesuffix("/v1")
        self.redactor = Redactor(engine, self.url, (*secrets, *([] if key is None else [key])))
        self._default_headers = {"content-type": "application/json", **(headers or {})}
        self._fixed_headers = {"accept-encoding": "identity", "user-agent": "secondpass"}
        if key is not None:
            self._fixed_headers["authorization"] = f"Bearer {key}"
        self._client = client or _new_client()
        self._timeout = {
            "connect": connect_timeout,
            "read": idle_timeout,
            "write": idle_timeout,
            "pool": None,
        }

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        role: Role | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and yield the response once its headers have arrived, whatever its status.

        The response is closed at the end of the block.

        Raises:
            EngineUnavailable: no response, a redirect, or a status that ends no request.
        """
        if self._client.is_closed:
            raise EngineUnavailable(
                f"engine {self.engine!r} is closed", engine=self.engine, role=role
            )
        with self._translating_errors(EngineUnavailable, role):
            request = httpx.Request(
                method,
                url,
                content=body,
                headers={**self._default_headers, **(headers or {}), **self._fixed_headers},
                extensions={"timeout": self._timeout},
            )
            response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            if response.is_redirect:
                raise self._redirected(response, role)
            if not 200 <= response.status_code < 600:
                raise EngineUnavailable(
                    f"status {response.status_code}, which is not a final HTTP status",
                    engine=self.engine,
                    role=role,
                )
            yield response
        finally:
            # Close also under cancellation, so that the server aborts the request at once.
            with anyio.move_on_after(CLOSE_SECONDS, shield=True), suppress(*_TRANSPORT_ERRORS):
                await response.aclose()

    def _redirected(self, response: httpx.Response, role: Role | None) -> EngineUnavailable:
        target, status = response.headers.get("location", ""), response.status_code
        return self.redactor.error(
            lambda quote: EngineUnavailable(
                f"status {status}: redirect to {quote(target)!r}, which is not followed; "
                f"set the final URL for engine {self.engine!r}",
                engine=self.engine,
                role=role,
            )
        )

    async def chunks(
        self, response: httpx.Response, *, role: Role | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the raw bytes of the body. Raises StreamInterrupted when the connection breaks."""
        with self._translating_errors(StreamInterrupted, role):
            async for chunk in response.aiter_raw():
                yield chunk

    def check_encoding(self, response: httpx.Response, role: Role | None = None) -> None:
        """Raise StreamInterrupted for a content encoding that cannot be decompressed."""
        if (found := encoding_of(response.headers)) not in ENCODINGS | {"identity"}:
            raise self.interrupted(lambda quote: f"unknown content encoding {quote(found)!r}", role)

    async def decoded_chunks(
        self, response: httpx.Response, *, role: Role | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the body, decompressed. Requests ask for no compression.

        Raises StreamInterrupted for an unknown content encoding, and when the connection breaks.
        """
        encoding = encoding_of(response.headers)
        self.check_encoding(response, role)
        if encoding == "identity":
            async with aclosing(self.chunks(response, role=role)) as plain:
                async for chunk in plain:
                    yield chunk
            return
        with self._translating_errors(StreamInterrupted, role):
            async with (
                aclosing(self.chunks(response, role=role)) as chunks,
                aclosing(decompressed(chunks, encoding)) as pieces,
            ):
                async for piece in pieces:
                    yield piece

    async def events(
        self, response: httpx.Response, *, role: Role | None = None
    ) -> AsyncGenerator[list[bytes]]:
        """Yield the data of server-sent events until [DONE]; events of one chunk come in one list.

        A reply that is a JSON object is yielded like one event, because some servers ignore `stream`. The content decides
        which of the two a reply is, because servers label event streams in several ways. Iterate within a `parsing` block.

        Raises:
            CallRejected, EngineUnavailable: an error status, or an event with the name "error".
            StreamInterrupted: the connection broke, or the reply is neither an event stream nor a JSON object.
        """
        await self.check_status(response, role)
        parser = EventParser()
        body = self.chunks if encoding_of(response.headers) == "identity" else self.decoded_chunks
        async with aclosing(body(response, role=role)) as chunks:
            chunk: bytes | None = await start(chunks)
            if chunk and not chunk.startswith(EVENT_FIELDS):
                kind = response.headers.get("content-type") or "no content type"
                yield [await self._document(chunk, chunks, kind, role)]
                return
            while chunk is not None:
                events, last = until_end(parser.feed(chunk), parser.names)
                if events:
                    yield events
                if last is not None:
                    self._raise_if_error_event(last, role)
                    await drain(chunks)
                    return
                chunk = await anext(chunks, None)
        events, last = until_end(parser.close(), parser.names)
        if events:
            yield events
        if last is not None:
            self._raise_if_error_event(last, role)

    async def fetch(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        role: Role | None = None,
    ) -> dict[str, Any]:
        """Send `body` as JSON and return the JSON object of the reply; empty for an empty reply.

        Raises:
            CallRejected, EngineUnavailable: an error status, or an error object in the reply.
            StreamInterrupted: the connection broke, or the reply is not a JSON object, or it exceeds MAX_BODY_BYTES.
        """
        reply = await self.fetch_json(method, url, body, headers=headers, role=role)
        if not isinstance(reply, dict):
            with self.parsing(role):
                text = json.dumps(reply)
            raise self.interrupted(lambda quote: f"expected a JSON object, got {quote(text)}", role)
        return reply

    async def fetch_json(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        role: Role | None = None,
    ) -> Any:
        """Send `body` as JSON and return the JSON of the reply, of any type. Raises as `fetch` does."""
        content = None if body is None else json.dumps(body).encode()
        async with self.open(method, url, content, headers=headers, role=role) as response:
            await self.check_status(response, role)
            raw = await self._body(response, role)
        with self.parsing(role):
            reply = parse_json(raw) if raw.strip() else {}
        if isinstance(reply, dict):
            self.raise_if_error(reply, role)
        return reply

    def raise_if_error(self, reply: Mapping[str, Any], role: Role | None) -> None:
        """Raise the engine error for an error object in `reply`, a whole reply or a chunk of a stream."""
        if (error := error_in(reply)) is not None:
            raise self._reported(error, role)

    def _reported(self, error: Any, role: Role | None) -> EngineError:
        """Return the engine error for an error object without an HTTP status."""
        message = error_message({"error": error})
        return self.redactor.error(
            lambda quote: error_for_status(
                error_status(error), quote(message), engine=self.engine, role=role
            )
        )

    @contextmanager
    def parsing(self, role: Role | None) -> Iterator[None]:
        """Raise StreamInterrupted for a reply that does not have the expected shape."""
        try:
            yield
        except _UNREADABLE as error:
            text = repr(error)
            raise self.interrupted(
                lambda quote: f"unreadable reply: {quote(text)}", role
            ) from error

    @contextmanager
    def _translating_errors(self, failure: type[EngineError], role: Role | None) -> Iterator[None]:
        try:
            yield
        except _TRANSPORT_ERRORS as error:
            # aiohttp adds its TLS default to the message even for a plain HTTP address.
            message = str(error).replace(" ssl:default", "") or type(error).__name__
            raise self.redactor.error(
                lambda quote: failure(quote(message), engine=self.engine, role=role)
            ) from error

    def interrupted(self, message: Callable[[Quote], str], role: Role | None) -> StreamInterrupted:
        """Return the error whose message `message` returns for a function that quotes the server's text."""
        return self.redactor.error(
            lambda quote: StreamInterrupted(message(quote), engine=self.engine, role=role)
        )

    async def check_status(self, response: httpx.Response, role: Role | None) -> None:
        """Raise the engine error for an error status. Reads the body."""
        if response.status_code >= 400:
            text = (await self.error_body(response)).decode(errors="replace")
            message = error_message(parse_object(text)) or text
            raise self.redactor.error(
                lambda quote: error_for_status(
                    response.status_code,
                    quote(message),
                    engine=self.engine,
                    role=role,
                    retry_after=parse_retry_after(response.headers.get("retry-after")),
                    dropped=response.headers.get(DROPPED_REASON_HEADER),
                )
            )

    def _raise_if_error_event(self, data: bytes, role: Role | None) -> None:
        """Raise the engine error for the data of an event with the name "error"."""
        if data.strip() == DONE:
            return
        text = data.decode(errors="replace")
        reply = parse_object(text)
        raise self._reported(error_in(reply) or reply or text, role)

    async def _document(
        self, start: bytes, chunks: AsyncIterator[bytes], kind: str, role: Role | None
    ) -> bytes:
        """Return the rest of a reply that is not an event stream. Raises StreamInterrupted unless it is JSON."""
        body = bytearray(start)
        limit = MAX_EVENT_BYTES if start.startswith(b"{") else MAX_ERROR_BYTES
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                break
        if len(body) <= limit and parse_object(body.decode(errors="replace")):
            return bytes(body)
        text = body[:MAX_ERROR_BYTES].decode(errors="replace")
        body.clear()  # an error keeps the frame that raised it alive
        raise self.interrupted(
            lambda quote: f"expected an event stream, got {quote(kind)}: {quote(text)}", role
        )

    async def _body(self, response: httpx.Response, role: Role | None) -> bytes:
        """Return the body, decompressed. Raises StreamInterrupted if it exceeds MAX_BODY_BYTES."""
        body = bytearray()
        async with aclosing(self.decoded_chunks(response, role=role)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    body.clear()  # as above
                    raise self.interrupted(lambda _: f"reply over {MAX_BODY_BYTES} bytes", role)
        return bytes(body)

    async def error_body(self, response: httpx.Response) -> bytes:
        """Return the first MAX_ERROR_BYTES of the body of an error, or all before the connection broke."""
        body = bytearray()
        with suppress(StreamInterrupted):
            async with aclosing(self.decoded_chunks(response)) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= MAX_ERROR_BYTES:
                        break
        return bytes(body[:MAX_ERROR_BYTES])


def _new_client() -> httpx.AsyncClient:
    # limit=0 means no limit: admission limits the number of concurrent calls.
    transport = AiohttpTransport(
        client=lambda: aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
    )
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.AsyncClient(transport=transport, trust_env=False, cookies=no_cookies)

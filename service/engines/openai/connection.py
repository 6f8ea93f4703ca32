"""The HTTP side of an engine: one client, and the one place where its foreign errors become ours.

httpx's API over aiohttp's transport, which carries six times the calls of httpx's own. asyncio only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import aiohttp
import anyio
import httpx
from httpx_aiohttp import AiohttpTransport

from secondpass.service.common.sse import EventParser
from secondpass.service.engines.common.status_codes import (
    DROPPED_REASON,
    message_of,
    object_in,
    refusal,
    seconds_until,
    short,
    status_of,
)
from secondpass.strategies.api.errors import EngineError, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Role

# Below the 5 s after which uvicorn, and so vLLM, closes an idle connection: a request that meets the
# closing would fail.
KEEP_ALIVE_SECONDS = 4.0
CLOSE_SECONDS = 1.0
MAX_ERROR_BYTES = 64 * 1024

# ValueError: a URL that aiohttp does not take.
_FOREIGN = (
    aiohttp.ClientError,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,
    ValueError,
)


class Connection:
    """How to reach one server: every request of an engine goes through here.

    `url` ends in /v1; `root` is what vLLM's own routes stand below. The key is sent there and nowhere else:
    redirects are not followed, and neither cookies nor the environment's proxies are used. `headers`, with names in lower
    case, go with every request that does not carry its own. `connect_timeout` and `idle_timeout` (silence within a
    reply) are in seconds; a reply as a whole may take any time.
    """

    def __init__(
        self,
        engine: str,
        url: str,
        key: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = 5.0,
        idle_timeout: float | None = 120.0,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.engine = engine
        self.url = url.rstrip("/")
        self.root = self.url.removesuffix("/v1")
        self._usual = {"content-type": "application/json", **(headers or {})}
        self._headers = {"accept-encoding": "identity", "user-agent": "secondpass"}
        if key is not None:
            self._headers["authorization"] = f"Bearer {key}"
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
        """A response, whatever its status, as soon as its headers are there; closed with the block.

        Raises EngineUnavailable when nothing answers or the answer is a redirect.
        """
        if self._client.is_closed:
            raise EngineUnavailable("the engine was closed", engine=self.engine, role=role)
        with self._boundary(EngineUnavailable, role):
            request = httpx.Request(
                method,
                url,
                content=body,
                headers={**self._usual, **(headers or {}), **self._headers},
                extensions={"timeout": self._timeout},
            )
            response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            if response.is_redirect:
                target = short(response.headers.get("location", ""))
                raise EngineUnavailable(
                    f"status {response.status_code}: redirects to {target!r}, which is not followed",
                    engine=self.engine,
                    role=role,
                )
            yield response
        finally:
            # Under cancellation too the server must learn at once that nobody listens.
            with anyio.move_on_after(CLOSE_SECONDS, shield=True), suppress(*_FOREIGN):
                await response.aclose()

    async def chunks(
        self, response: httpx.Response, *, role: Role | None = None
    ) -> AsyncGenerator[bytes]:
        """The raw bytes of the body as they arrive. Raises StreamInterrupted when the connection breaks."""
        with self._boundary(StreamInterrupted, role):
            async for chunk in response.aiter_raw():
                yield chunk

    async def events(
        self, response: httpx.Response, *, role: Role | None = None
    ) -> AsyncGenerator[list[bytes]]:
        """The data of the server-sent events, as many at a time as arrived together, until [DONE].

        Raises CallRejected or EngineUnavailable for an error status, StreamInterrupted for what is no event stream. To be
        read within a `readable` block.
        """
        await self._check_status(response, role)
        kind = response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            text = await self._text(response)
            self.raise_if_error(object_in(text), role)
            raise self._cut(f"no event stream but {kind or 'no content type'}: {short(text)}", role)
        parser = EventParser()
        async with aclosing(self.chunks(response, role=role)) as chunks:
            async for chunk in chunks:
                events = parser.feed(chunk)
                if events and events[-1] == b"[DONE]":
                    if len(events) > 1:
                        yield events[:-1]
                    await _drain(chunks)
                    return
                if events:
                    yield events
        if events := parser.close():
            yield events

    async def fetch(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        role: Role | None = None,
    ) -> dict[str, Any]:
        """The JSON object that answers the JSON of `body`; an empty one for an empty reply.

        Raises CallRejected or EngineUnavailable for an error, StreamInterrupted for a reply that is no JSON object.
        """
        content = None if body is None else json.dumps(body).encode()
        async with self.open(method, url, content, headers=headers, role=role) as response:
            await self._check_status(response, role)
            with self._boundary(StreamInterrupted, role):
                raw = await response.aread()
        with self.readable(role):
            reply = json.loads(raw) if raw.strip() else {}
        if not isinstance(reply, dict):
            raise self._cut(f"no JSON object: {short(raw.decode(errors='replace'))}", role)
        self.raise_if_error(reply, role)
        return reply

    def raise_if_error(self, reply: Mapping[str, Any], role: Role | None) -> None:
        """Raise what an error object stands for, whether it is a whole reply or a chunk of a stream."""
        if reply.get("error"):
            raise refusal(status_of(reply), message_of(reply), engine=self.engine, role=role)

    @contextmanager
    def readable(self, role: Role | None) -> Iterator[None]:
        """Turn the surprise of a reply with another shape than expected into a StreamInterrupted."""
        try:
            yield
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._cut(f"unreadable reply: {short(repr(error))}", role) from error

    @contextmanager
    def _boundary(self, failure: type[EngineError], role: Role | None) -> Iterator[None]:
        try:
            yield
        except _FOREIGN as error:
            # aiohttp names its default for TLS, of an address without TLS too.
            said = short(str(error).replace(" ssl:default", "")) or type(error).__name__
            raise failure(said, engine=self.engine, role=role) from error

    def _cut(self, message: str, role: Role | None) -> StreamInterrupted:
        return StreamInterrupted(message, engine=self.engine, role=role)

    async def _check_status(self, response: httpx.Response, role: Role | None) -> None:
        if response.status_code >= 400:
            text = await self._text(response)
            raise refusal(
                response.status_code,
                message_of(object_in(text)) or text,
                engine=self.engine,
                role=role,
                retry_after=seconds_until(response.headers.get("retry-after")),
                dropped=response.headers.get(DROPPED_REASON),
            )

    async def _text(self, response: httpx.Response) -> str:
        """The beginning of a body that is only read to be quoted."""
        held = bytearray()
        with suppress(*_FOREIGN):
            async for chunk in response.aiter_raw():
                held += chunk
                if len(held) >= MAX_ERROR_BYTES:
                    break
        return held.decode(errors="replace")


def _new_client() -> httpx.AsyncClient:
    # The connector's limit of 0 is none: how many calls run at once is decided by admission.
    transport = AiohttpTransport(
        client=lambda: aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
    )
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.AsyncClient(transport=transport, trust_env=False, cookies=no_cookies)


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read what follows [DONE], for only a connection at its reply's end can be used again."""
    with anyio.move_on_after(CLOSE_SECONDS), suppress(StreamInterrupted):
        async for _ in chunks:
            pass

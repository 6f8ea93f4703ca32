"""A plain request to an ASGI application in this process: what a connection would carry, without one.

asyncio only: vLLM's handlers make tasks of their own, which end when the client is said to have left, and not when
whoever called them is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from secondpass.service.engines.common.status_codes import short
from secondpass.strategies.api.engine import PlainReply, PlainRequest
from secondpass.strategies.api.errors import EngineUnavailable, StreamInterrupted

Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]

GRACE_SECONDS = 5.0
"""What an application may take to end after its client has left."""


@asynccontextmanager
async def forwarded(
    app: ASGIApp, request: PlainRequest, *, engine: str
) -> AsyncIterator[PlainReply]:
    """The reply of `app` to a POST of `request`; leaving the block is the client's leaving.

    Raises EngineUnavailable when the application fails without an answer; reading the chunks raises StreamInterrupted when
    it fails later.
    """
    exchange = _Exchange(request, engine)
    task = asyncio.create_task(exchange.run(app))
    try:
        yield await exchange.reply()
    finally:
        with anyio.CancelScope(shield=True):
            await exchange.leave()
            await asyncio.wait((task,), timeout=GRACE_SECONDS)
            task.cancel()
            await asyncio.wait((task,))


class _Exchange:
    """Both ends of one request: the application's, in `run`, and the client's, in `reply`."""

    def __init__(self, request: PlainRequest, engine: str) -> None:
        self._request, self._engine = request, engine
        self._begun, self._left = anyio.Event(), anyio.Event()
        self._send, self._receive = anyio.create_memory_object_stream[bytes](1)
        self._asked = self._is_whole = False
        self._start: Message | None = None
        self._failure: Exception | None = None

    async def run(self, app: ASGIApp) -> None:
        """Let the application answer."""
        with self._send:
            try:
                await app(self._scope(), self._next_message, self._take)
            except Exception as failure:  # noqa: BLE001 - whatever an application raises, it has not answered
                self._failure = failure
            finally:
                self._begun.set()

    async def reply(self) -> PlainReply:
        """The head of the answer, once it is there."""
        await self._begun.wait()
        if self._start is None:
            raise EngineUnavailable(f"no reply{self._cause()}", engine=self._engine)
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._start.get("headers", ())
        )
        return PlainReply(self._start["status"], headers, self._chunks())

    async def leave(self) -> None:
        """The client goes. First a waiting writer is let go on: cancelled while it writes, its source would stay open."""
        self._receive.close()
        await anyio.lowlevel.checkpoint()
        self._left.set()

    async def _chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._receive:
            yield chunk
        if not self._is_whole:
            raise StreamInterrupted(f"the reply broke off{self._cause()}", engine=self._engine)

    def _cause(self) -> str:
        return f": {short(str(self._failure))}" if self._failure else ""

    async def _next_message(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            self._begun.set()
            return
        try:
            if body := message.get("body"):
                await self._send.send(bytes(body))
        except anyio.BrokenResourceError:  # nobody reads any more, which `_next_message` tells
            if self._left.is_set():
                await anyio.lowlevel.checkpoint()  # who only writes gets to hear it too
            return
        if not message.get("more_body"):
            self._is_whole = True
            self._send.close()

    def _scope(self) -> dict[str, Any]:
        path = f"/v1/{self._request.path.lstrip('/')}"
        length = ("content-length", str(len(self._request.body)))
        headers = [pair for pair in self._request.headers if pair[0].lower() != "content-length"]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in (*headers, length)
            ],
            "client": None,
            "server": None,
            "state": {},
        }

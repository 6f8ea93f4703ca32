"""In-process requests to an ASGI application, without a connection.

asyncio only: vLLM's handlers start asyncio tasks. These end on a client disconnect, not when the caller is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from secondpass.service.engines.common.status_codes import excerpt
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
"""Seconds that an application has to finish after the client disconnects."""


@asynccontextmanager
async def forward_to_app(
    app: ASGIApp, request: PlainRequest, *, engine: str
) -> AsyncIterator[PlainReply]:
    """POST `request` to `app` and yield the reply; leaving the block disconnects the client.

    Raises:
        EngineUnavailable: the application failed before the response started. Reading the chunks raises
            StreamInterrupted if it fails later.
    """
    exchange = _Exchange(request, engine)
    task = asyncio.create_task(exchange.run(app))
    try:
        yield await exchange.reply()
    finally:
        with anyio.CancelScope(shield=True):
            await exchange.disconnect()
            await asyncio.wait((task,), timeout=GRACE_SECONDS)
            task.cancel()
            await asyncio.wait((task,))


class _Exchange:
    """One request: `run` is the application's end, `reply` the client's."""

    def __init__(self, request: PlainRequest, engine: str) -> None:
        self._request, self._engine = request, engine
        self._started, self._disconnected = anyio.Event(), anyio.Event()
        self._chunk_sender, self._chunk_receiver = anyio.create_memory_object_stream[bytes](1)
        self._is_request_sent = self._is_complete = False
        self._start: Message | None = None
        self._failure: Exception | None = None

    async def run(self, app: ASGIApp) -> None:
        """Run the application until it returns or fails."""
        with self._chunk_sender:
            try:
                await app(self._scope(), self._receive, self._send)
            except Exception as failure:  # noqa: BLE001 - `reply` reports any exception of the application
                self._failure = failure
            finally:
                self._started.set()

    async def reply(self) -> PlainReply:
        """Wait for the start of the response and return the reply."""
        await self._started.wait()
        if self._start is None:
            raise EngineUnavailable(
                f"no reply from the server of engine {self._engine!r}{self._cause()}",
                engine=self._engine,
            )
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._start.get("headers", ())
        )
        return PlainReply(self._start["status"], headers, self._chunks())

    async def disconnect(self) -> None:
        """Disconnect the client, after a pending send has returned.

        An application that is cancelled within a send would leave its source open.
        """
        self._chunk_receiver.close()
        await anyio.lowlevel.checkpoint()
        self._disconnected.set()

    async def _chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunk_receiver:
            yield chunk
        if not self._is_complete:
            raise StreamInterrupted(
                f"the reply of engine {self._engine!r} is incomplete{self._cause()}",
                engine=self._engine,
            )

    def _cause(self) -> str:
        return f": {excerpt(str(self._failure))}" if self._failure else ""

    async def _receive(self) -> Message:
        if not self._is_request_sent:
            self._is_request_sent = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            self._started.set()
            return
        try:
            if body := message.get("body"):
                await self._chunk_sender.send(bytes(body))
        except anyio.BrokenResourceError:  # the client has disconnected, as `_receive` reports
            if self._disconnected.is_set():
                await anyio.lowlevel.checkpoint()  # lets a writer that never receives be cancelled
            return
        if not message.get("more_body"):
            self._is_complete = True
            self._chunk_sender.close()

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

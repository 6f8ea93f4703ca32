"""Work whose client may leave at any time: the socket's watcher and the work share one task group.

Neither uvicorn nor Starlette cancels a handler when its client goes; only `receive()` tells. Leaving the group
cancels the work, and with it every call that it has in an engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from secondpass.service.common.concurrency import task_group
from secondpass.service.common.errors import Abandoned

T = TypeVar("T")

KEEP_ALIVE = b": keep-alive\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def cancel_on_disconnect(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` returns or raises. Raises Abandoned, after `work` was cancelled, if the client leaves first."""
    finished: list[T] = []
    async with task_group() as group:
        group.start_soon(_cancel_when_left, receive, group.cancel_scope)
        finished.append(await work())
        group.cancel_scope.cancel()
    if not finished:
        raise Abandoned("the client left")
    return finished[0]


class Outbox:
    """Bytes on their way to a client. Putting never waits: a slow reader must not hold up what it reads about."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._changed = anyio.Event()
        self.has_begun = False
        """Did the response begin? From then on its status cannot change."""
        self.is_closed = False

    def put(self, chunk: bytes) -> None:
        """Send `chunk` as soon as the client takes it."""
        self._chunks.append(chunk)
        self._changed.set()

    def close(self) -> None:
        """Nothing more comes."""
        self.is_closed = True
        self._changed.set()

    async def take(self, patience: float) -> bytes:
        """Everything that waits; nothing once it is closed, or when nothing came for `patience` seconds."""
        if not self._chunks and not self.is_closed:
            self._changed = anyio.Event()
            with anyio.move_on_after(patience):
                await self._changed.wait()
        taken, self._chunks = b"".join(self._chunks), []
        return taken


class EventStream(Response):
    """Server-sent events from `produce`, which is cancelled when the client leaves.

    The response begins with the first bytes, or after `keep_alive` seconds: an error that `produce` raises before
    becomes a response with a status of its own.
    """

    def __init__(self, produce: Callable[[Outbox], Awaitable[None]], keep_alive: float) -> None:
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._produce = produce
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until `produce` has ended and the client has everything. Raises Abandoned if it leaves before."""
        outbox = Outbox()
        await cancel_on_disconnect(receive, partial(self._serve, outbox, send))
        # Only now: after its last bytes the client counts as gone, and what is left to do would be cancelled.
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _serve(self, outbox: Outbox, send: Send) -> None:
        async with task_group() as writing:
            writing.start_soon(self._write, outbox, send)
            await self._produce(outbox)
            outbox.close()

    async def _write(self, outbox: Outbox, send: Send) -> None:
        while True:
            chunk = await outbox.take(self._keep_alive)
            if not outbox.has_begun:
                outbox.has_begun = True
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status_code,
                        "headers": self.raw_headers,
                    }
                )
            if not chunk and outbox.is_closed:
                return
            await send(
                {"type": "http.response.body", "body": chunk or KEEP_ALIVE, "more_body": True}
            )


async def _cancel_when_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

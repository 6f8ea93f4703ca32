"""Cancellation of a request's work when its client disconnects.

Neither uvicorn nor Starlette cancels a handler on disconnect: only `receive()` reports it. The work and a watcher of the
socket therefore share a task group. Cancelling the group cancels the work with all of its engine calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from secondpass.service.common.concurrency import task_group
from secondpass.service.common.errors import ClientDisconnected

T = TypeVar("T")

KEEP_ALIVE = b": keep-alive\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def cancel_on_disconnect(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` and return its result. Its exceptions propagate unchanged.

    If the client disconnects first, `work` is cancelled and ClientDisconnected is raised.
    """
    finished: list[T] = []
    async with task_group() as group:
        group.start_soon(_watch, receive, group.cancel_scope)
        finished.append(await work())
        group.cancel_scope.cancel()
    if not finished:
        raise ClientDisconnected("the client disconnected")
    return finished[0]


class Outbox:
    """Unbounded queue of bytes for a client. `put` never waits: a slow client must not delay its run."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._changed = anyio.Event()
        self.has_started = False
        """True once the response has started or has queued bytes: its status cannot change then."""
        self.is_closed = False

    def put(self, chunk: bytes) -> None:
        """Queue `chunk`, which is sent as soon as the client reads."""
        self.has_started = True
        self._chunks.append(chunk)
        self._changed.set()

    def close(self) -> None:
        """Mark the end of the stream."""
        self.is_closed = True
        self._changed.set()

    async def take(self, max_wait: float) -> bytes:
        """Wait up to `max_wait` seconds for bytes, unless closed, and return all that are queued."""
        if not self._chunks and not self.is_closed:
            self._changed = anyio.Event()
            with anyio.move_on_after(max_wait):
                await self._changed.wait()
        data, self._chunks = b"".join(self._chunks), []
        return data


class EventStream(Response):
    """Server-sent events from `produce`, which is cancelled when the client disconnects.

    The response starts with the first bytes, or after `keep_alive` seconds. An error that `produce` raises earlier
    propagates, so that it gets its own response and status.
    """

    def __init__(self, produce: Callable[[Outbox], Awaitable[None]], keep_alive: float) -> None:
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._produce = produce
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until `produce` has finished and the client has everything.

        Raises:
            ClientDisconnected: The client disconnected.
        """
        outbox = Outbox()
        await cancel_on_disconnect(receive, partial(self._serve, outbox, send))
        # Sent last: after it, `receive` reports a disconnect, which would cancel unfinished work.
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _serve(self, outbox: Outbox, send: Send) -> None:
        async with task_group() as group:
            group.start_soon(self._write, outbox, send)
            # Closed also if `produce` raises, so that the response does not start while the error propagates.
            try:
                await self._produce(outbox)
            finally:
                outbox.close()

    async def _write(self, outbox: Outbox, send: Send) -> None:
        has_started = False
        while True:
            chunk = await outbox.take(self._keep_alive)
            if not has_started:
                if outbox.is_closed and not outbox.has_started:
                    return
                has_started = outbox.has_started = True
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


async def _watch(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

"""Request bodies that are being read, and their limits of time, rate and memory.

If another request needs room, the oldest body is refused, so that slow clients never exclude others.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from functools import partial

import anyio
from starlette.datastructures import Headers
from starlette.types import Message, Receive

from secondpass.service.common.errors import BodyTooSlow, HttpError, NotAdmitted

PATIENCE_SECONDS = 2.0
"""Age from which a body is refused if another request needs its room."""

GRACE_SECONDS = 10.0
"""Seconds before the least rate applies."""

_NO_ROOM = "too many request bodies are being read; retry later"

COLLECT_BYTES = 4 * 2**20
"""Bytes of bodies of ended requests after which reference cycles are freed.

A run consists of objects that refer to each other and to its request. The garbage collector counts objects, not bytes."""

LINGER_SECONDS = 5.0
"""Maximum time to discard the rest of a body that is refused."""


class Uploads:
    """The bodies that are being read, with their limits.

    Args:
        timeout: Seconds in which a body must arrive.
        min_rate: Least bytes per second, on average, after the first `GRACE_SECONDS`.
        max_bytes: Bytes that all bodies may hold together.
    """

    def __init__(
        self, timeout: float = math.inf, min_rate: float = 1.0, max_bytes: float = math.inf
    ) -> None:
        self._timeout, self._min_rate, self._max_bytes = timeout, min_rate, max_bytes
        self._open: dict[Upload, int] = {}  # bytes by body, oldest first
        self._bytes = 0
        self._uncollected = 0

    @property
    def size(self) -> int:
        """Bytes of all bodies that are being read."""
        return self._bytes

    def deadline(self, upload: Upload) -> float:
        """Return the time until which more of a body must arrive."""
        seconds = max(GRACE_SECONDS, upload.received / self._min_rate)
        return upload.started + min(self._timeout, seconds)

    def open(self, upload: Upload) -> None:
        """Count a body until it is closed."""
        self._open.setdefault(upload, 0)

    def grow(self, upload: Upload, size: int) -> None:
        """Count `size` more bytes of an open body. Raises NotAdmitted if all bodies hold too many."""
        self._open[upload] += size
        self._bytes += size
        while self._bytes > self._max_bytes:
            oldest = next(iter(self._open))
            if oldest is upload or not oldest.is_old:
                raise NotAdmitted(_NO_ROOM)
            oldest.refuse(_NO_ROOM)

    def close(self, upload: Upload) -> None:
        """Stop counting a body; without effect if it is not open."""
        self._bytes -= self._open.pop(upload, 0)

    def end(self, upload: Upload) -> None:
        """Note that the request of a body has ended, and free the memory of such requests from time to time."""
        self._uncollected += upload.received
        if self._uncollected >= COLLECT_BYTES:
            self._uncollected = 0
            gc.collect()

    def refuse_all(self, reason: str) -> None:
        """Refuse every body that is being read."""
        for upload in list(self._open):
            upload.refuse(reason)


class Upload:
    """The body of one request.

    Attributes:
        started: Time at which its reading started.
        received: Number of bytes received.
        is_complete: True once nothing more of it can arrive, or if the request has no body.
    """

    def __init__(self, uploads: Uploads, headers: Headers, receive: Receive) -> None:
        self._uploads, self._receive = uploads, receive
        self._awaits_continue = "expect" in headers
        self._scope: anyio.CancelScope | None = None
        self._refusal: Callable[[], HttpError] | None = None
        self.started = 0.0
        self.received = 0
        has_length = headers.get("content-length", "0") != "0"
        self.is_complete = not (has_length or "transfer-encoding" in headers)

    @property
    def is_old(self) -> bool:
        """True if it may be refused to make room for another request."""
        return anyio.current_time() - self.started >= PATIENCE_SECONDS

    async def receive(self) -> Message:
        """Return the next ASGI message of the request.

        Raises:
            BodyTooSlow: The body arrives too late or too slowly.
            NotAdmitted: The body was refused, or all bodies hold too many bytes.
        """
        if self.is_complete:
            return await self._receive()
        if not self.started:
            self.started = anyio.current_time()
        self._awaits_continue = False
        message: Message | None = None
        if self._refusal is None:
            self._uploads.open(self)
            with anyio.CancelScope(deadline=self._uploads.deadline(self)) as self._scope:
                message = await self._receive()
            self._scope = None
        if message is None or self._refusal is not None:
            self._refusal = self._refusal or _too_slow
            raise self._refusal()  # a stored error would keep its traceback, and so the body
        size = len(message.get("body", b""))
        self.received += size
        self._note(message)
        if not self.is_complete:
            self._uploads.grow(self, size)
        return message

    def refuse(self, reason: str) -> None:
        """End the reading of the body: it raises NotAdmitted."""
        self._refusal = partial(NotAdmitted, reason)
        self.close()
        if self._scope is not None:
            self._scope.cancel()

    def close(self) -> None:
        """Stop counting the body."""
        self._uploads.close(self)

    async def discard(self) -> bool:
        """Discard the rest of the body for up to `LINGER_SECONDS`. Return whether the body is complete.

        Most clients send everything before they read a response, and would otherwise see a connection reset. A client
        that waits for "100 Continue" sends nothing, and one that was too slow has had its time.
        """
        self.close()
        if not (self.is_complete or self._refusal or self._awaits_continue or self._scope):
            with anyio.move_on_after(LINGER_SECONDS):
                while not self.is_complete:
                    self._note(await self._receive())
        return self.is_complete

    def _note(self, message: Message) -> None:
        if not message.get("more_body", False):  # the last part, or a disconnect
            self.is_complete = True
            self.close()


def _too_slow() -> BodyTooSlow:
    return BodyTooSlow("arrived too slowly", field="body")

"""Limits of connections, their number, and replies without the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from secondpass.service.common.errors import HttpError
from secondpass.service.config.settings import Settings
from secondpass.service.http.problems import error_response

LINGERING_REFUSALS = 128
"""Refused connections that may stay open until their client has read the reply, per process."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of a connection; the settings of the same names define them."""

    max_connections: int
    header_timeout_seconds: float
    max_header_bytes: int
    max_headers: int
    max_target_bytes: int
    stalled_client_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> ConnectionLimits:
        """Return the limits that the settings define."""
        return cls(
            max_connections=settings.max_connections,
            header_timeout_seconds=settings.header_timeout_seconds,
            max_header_bytes=settings.max_header_bytes,
            max_headers=settings.max_headers,
            max_target_bytes=settings.max_target_bytes,
            stalled_client_seconds=settings.stalled_client_seconds,
        )


class Evictable(Protocol):
    """A connection that may end for a new one while it has no request in progress."""

    def evict(self) -> None:
        """End the connection at once."""


class ConnectionPool:
    """The connections of a server: which have no request in progress, and how many are being refused."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.lingering = 0
        """Refused connections that are still open."""
        self._waiting: dict[Evictable, None] = {}

    def admit(self, open_connections: int) -> bool:
        """Return whether a new connection may be served beside `open_connections` others.

        At the limit, the connection that has waited longest without a request in progress is ended for it. Such a connection
        is idle, or has not sent all headers of its request.
        """
        if open_connections < self.limits.max_connections:
            return True
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        del self._waiting[oldest]
        oldest.evict()
        return True

    def start_waiting(self, connection: Evictable) -> None:
        """Note that a connection has no request in progress from now on."""
        self._waiting[connection] = None

    def stop_waiting(self, connection: Evictable) -> None:
        """Note that a connection has a request in progress, or has ended."""
        self._waiting.pop(connection, None)


class ReplyTransport:
    """A transport whose `close` is another function, because a plain close can destroy the reply.

    A socket that is closed with unread input sends a reset, and the client then loses the reply.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        close: Callable[[], None],
        is_closing: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self.close = close
        self.is_closing = is_closing
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def raw_reply(error: HttpError, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the whole HTTP response to a request that is refused before the application sees it.

    Args:
        error: The reason.
        target: The request's target as far as it is known. It decides the shape of the error.
        headers: Headers that every response has.
    """
    response = error_response(error, target.decode("latin-1"))
    status = HTTPStatus(response.status_code)
    lines = [b"HTTP/1.1 %d %b" % (status, status.phrase.encode())]
    fields = (*headers, *response.raw_headers, (b"connection", b"close"))
    lines += [b"%b: %b" % field for field in fields]
    return b"\r\n".join((*lines, b"", bytes(response.body)))

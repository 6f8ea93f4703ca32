"""HTTP connections whose cost is bounded before the application sees a request.

uvicorn's protocol for httptools limits neither headers nor time nor connections. After a pipelined request it also stops
reading, and so misses a disconnect. This subclass adds:

* Limits of the target, of the number and bytes of headers, and of everything in a chunked body that is not content: chunk
  extensions and trailers. Trailers count as headers and are dropped.
* A deadline for complete headers, and an end of every idle connection.
* One request at a time. If more input arrives during a response, the connection is closed after it. The input is discarded,
  so that a disconnect is noticed.
* A close that lets the client read the reply, and that ends a connection whose client reads nothing.

The headers of a request are complete in the phase BODY, and its body too in the phase REPLY.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from secondpass.service.common.errors import HttpError, Malformed, NotAdmitted
from secondpass.service.http.problems import HeadersTooLarge, HeadersTooSlow, TargetTooLong
from secondpass.service.server.connections import (
    LINGERING_REFUSALS,
    ConnectionPool,
    ReplyTransport,
    raw_reply,
)

IDLE_SECONDS = 5
"""Seconds after a response in which the next request on the connection must begin."""

LINGER_SECONDS = 2.0
"""Seconds for a client to read the last reply of its connection and to close it."""

LINGER_BYTES = 16 * 2**20
"""Input in bytes that a connection discards before it ends without regard to its client."""

_REQUEST_LINE_BYTES = 64
"""Upper bound of a request line without its target, in bytes."""

_HEADER_BYTES = len(b": \r\n")
"""Bytes of a header besides its name and value."""

_CHUNK_BYTES = 24
"""Upper bound of the framing of a chunk without extensions, in bytes: 16 digits and two line ends."""

_SMALL_CHUNKS = 65_536
"""Chunks that every body may have."""

_CHUNK_CONTENT_BYTES = 64
"""Bytes of content for which a body may have one chunk more."""

logger = logging.getLogger(__name__)


class _Phase(Enum):
    HEAD = auto()
    BODY = auto()
    REPLY = auto()


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection, within the limits of its pool."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        pool: ConnectionPool,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._pool = pool
        self._limits = pool.limits
        self._phase = _Phase.HEAD
        self._refusal: HttpError | None = None
        self._discards = False  # input is not parsed any more
        self._lingers = False  # the sending half is closed
        self._is_refused = False  # never served
        self._is_lost = False
        self._timer: asyncio.TimerHandle | None = None
        self._unread, self._last_progress = 0, 0.0
        self._start_request()

    def _start_request(self) -> None:
        self.url = b""
        self._has_begun = False
        self._head_bytes = 0  # received while the headers were incomplete
        self._header_count = self._header_bytes = 0
        self._chunks = self._body_bytes = self._framing_bytes = 0
        self._discarded = 0

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Serve the connection, or refuse it with a 503."""
        self._socket = transport
        reply_transport = ReplyTransport(transport, self._close, self._is_closing)
        self.transport = cast("asyncio.Transport", reply_transport)
        if not self._pool.admit(len(self.connections)):
            self._refuse_connection()
            return
        super().connection_made(self.transport)
        self._pool.start_waiting(self)
        self._set_timer(self._limits.header_timeout_seconds, self._on_head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what belongs to the connection. A request in progress sees a disconnect."""
        self._is_lost = True
        self._cancel_timer()
        self._pool.stop_waiting(self)
        if self._is_refused:
            self._pool.lingering -= 1
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """End the connection: a client that closes its sending half counts as disconnected."""
        if self._is_in_progress():
            self._socket.abort()
        else:
            self._end_soon()  # the transport closes itself, but only once the client has read everything

    def data_received(self, data: bytes) -> None:
        """Parse input, or discard it."""
        if self._discards:
            self._discard(len(data))
            return
        phase = self._phase
        if phase is _Phase.REPLY:
            if data.strip(b"\r\n"):
                self._close_after_reply()
            self._discard(len(data))
            return
        body_bytes = self._body_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError as error:
            self._on_parser_error(error)
        else:
            self._check_unparsed(phase, len(data), self._body_bytes - body_bytes)

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Begin a request. Raises HttpParserError if another one is in progress."""
        if self._phase is not _Phase.HEAD:
            raise httptools.HttpParserError("pipelined request")
        self._has_begun = True
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Receive a part of the target. Raises TargetTooLong."""
        super().on_url(url)
        if len(self.url) > self._limits.max_target_bytes:
            limit = self._limits.max_target_bytes
            self._refusal = TargetTooLong(f"the target must have at most {limit} bytes")
            raise self._refusal

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header or a trailer. Raises HeadersTooLarge."""
        self._header_count += 1
        self._header_bytes += len(name) + len(value) + _HEADER_BYTES
        limits = self._limits
        if self._header_count > limits.max_headers:
            limit = limits.max_headers
            self._refusal = HeadersTooLarge(f"a request must have at most {limit} headers")
            raise self._refusal
        if self._header_bytes > limits.max_header_bytes:
            self._refusal = self._headers_too_large()
            raise self._refusal
        if self._phase is _Phase.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application on the request."""
        super().on_headers_complete()
        self._phase = _Phase.BODY
        self._cancel_timer()
        self._pool.stop_waiting(self)

    def on_chunk_header(self) -> None:
        """Count a chunk of the body, because each one costs time. Raises Malformed."""
        self._chunks += 1
        if self._chunks > _SMALL_CHUNKS + self._body_bytes // _CHUNK_CONTENT_BYTES:
            self._refusal = Malformed("the body has too many small chunks: send larger ones")
            raise self._refusal

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body. The socket is read on, whether or not the application reads the body."""
        super().on_message_complete()
        if self._is_in_progress():
            self._phase = _Phase.REPLY
            self.flow.resume_reading()
        else:
            self._wait_for_request()

    # Callbacks of uvicorn

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of the body."""
        super().on_response_complete()
        if self._is_closing():
            return
        if self._phase is _Phase.REPLY:
            self._wait_for_request()
        else:
            self._pool.start_waiting(self)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to uvicorn's protocol for websockets."""
        self._cancel_timer()
        self._pool.stop_waiting(self)
        self.transport = self._socket
        super().handle_websocket_upgrade()

    def evict(self) -> None:
        """End the connection at once, for a new one."""
        self._socket.abort()

    # Requests

    def _is_in_progress(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _wait_for_request(self) -> None:
        self._phase = _Phase.HEAD
        self._start_request()
        self._pool.start_waiting(self)

    def _check_unparsed(self, before: _Phase, received: int, content: int) -> None:
        """Bound input that the parser does not pass on: incomplete headers, and the framing of a chunked body."""
        if self._phase is _Phase.HEAD:
            self._head_bytes += received
            limit = self._limits.max_header_bytes + _REQUEST_LINE_BYTES + len(self.url)
            if self._head_bytes > limit:
                self._refuse(self._headers_too_large())
            elif self._has_begun and self._timer is None:
                self._set_timer(self._limits.header_timeout_seconds, self._on_head_timeout)
        elif before is self._phase is _Phase.BODY:
            self._framing_bytes += received - content
            limit = self._limits.max_header_bytes + _CHUNK_BYTES * self._chunks
            if self._framing_bytes > limit:
                self._refuse(self._headers_too_large())
            elif not self._is_in_progress():
                self._discard(received)

    def _headers_too_large(self) -> HeadersTooLarge:
        limit = self._limits.max_header_bytes
        return HeadersTooLarge(f"the headers of a request must have at most {limit} bytes")

    def _on_parser_error(self, error: httptools.HttpParserError) -> None:
        if self._phase is _Phase.REPLY:
            self._close_after_reply()
            return
        if self._refusal is None:
            logger.debug("not HTTP/1.1: %s", error, exc_info=error.__context__)
            is_target = isinstance(error, httptools.HttpParserCallbackError)
            reason = "the target must be a path" if is_target else str(error)
            self._refusal = Malformed(f"the request is not valid HTTP/1.1: {reason}")
        self._refuse(self._refusal)

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        else:
            # The parser takes the body of such a request for another protocol.
            self._close_after_reply()

    def _on_head_timeout(self) -> None:
        self._timer = None
        if self._head_bytes:
            limit = self._limits.header_timeout_seconds
            self._refuse(HeadersTooSlow(f"the headers did not arrive within {limit:g} s"))
        else:
            self._close()

    # The end of a connection

    def _close_after_reply(self) -> None:
        """Discard further input and close the connection when the response is complete."""
        self._discards = True
        self.cycle.keep_alive = False
        self.flow.resume_reading()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > LINGER_BYTES:
            self._socket.abort()

    def _refuse(self, error: HttpError) -> None:
        """Reply with an error, and close. The application, if it runs, sees a disconnect."""
        if self._is_in_progress():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self._socket.abort()
                return
        if self._phase is _Phase.HEAD or self._is_in_progress():
            self._socket.write(raw_reply(error, self.url, self.server_state.default_headers))
        self._linger()

    def _refuse_connection(self) -> None:
        limit = self._limits.max_connections
        error = NotAdmitted(f"max_connections ({limit}) is reached; retry later")
        self._discards = self._is_refused = True
        self._pool.lingering += 1
        self._socket.write(raw_reply(error, b"", self.server_state.default_headers))
        if self._pool.lingering > LINGERING_REFUSALS:
            self._socket.close()
        else:
            self._linger()

    def _is_closing(self) -> bool:
        return self._lingers or self._socket.is_closing()

    def _close(self) -> None:
        if self._is_lost:
            return
        has_input = self._discards or self._phase is _Phase.BODY
        if has_input and not self._lingers:
            self._linger()
        else:
            self._socket.close()
            self._end_soon()

    def _linger(self) -> None:
        """Close the sending half and discard input until the client has closed the connection."""
        self._discards = self._lingers = True
        if not self._socket.is_closing():
            self._socket.write_eof()
        if not self._is_refused:
            self.flow.resume_reading()
        self._end_soon()

    def _end_soon(self) -> None:
        if not self._is_refused:
            self._pool.start_waiting(self)
        self._unread, self._last_progress = 0, self.loop.time()
        self._set_timer(LINGER_SECONDS, self._end)

    def _end(self) -> None:
        """End the connection if the client has been sent everything, or has stopped reading."""
        unread, now = self._socket.get_write_buffer_size(), self.loop.time()
        if unread != self._unread:
            self._unread, self._last_progress = unread, now
        if not unread or now - self._last_progress >= self._limits.stalled_client_seconds:
            self._socket.abort()
        else:
            self._set_timer(LINGER_SECONDS, self._end)

    def _set_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(seconds, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""Check whether a forwarded event stream is complete, and where its last complete event ends.

The bytes are forwarded unchanged. Only the bytes of an unfinished event wait for its end, so that an error event can replace
an event that the engine never finishes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LONGEST = 4
_END = re.compile(
    rb'^data: ?\[DONE\]|"finish_reason": ?"[^"]|^event: ?error|"error": ?[{"]', re.MULTILINE
)
"""Quotes in generated text are escaped, so that text cannot match."""

MAX_PENDING_BYTES = 2**18


def is_event_stream(status: int, reply_headers: Iterable[tuple[str, str]]) -> bool:
    """Return whether a reply is an event stream to which an event can be added."""
    headers = {name.lower(): value for name, value in reply_headers}
    kind = headers.get("content-type", "").lower()
    is_encoded = headers.get("content-encoding", "identity") != "identity"
    is_stream = status == 200 and kind.startswith("text/event-stream")
    return is_stream and not is_encoded and "content-length" not in headers


class ForwardedStream:
    """Splits a stream after its last complete event, and notes its end.

    Attributes:
        is_complete: True once the stream contained [DONE], a finish reason or an error.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._pending = bytearray()

    @property
    def pending(self) -> bytes:
        """Bytes of the unfinished event."""
        return bytes(self._pending)

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes to forward: all complete events so far.

        An event over MAX_PENDING_BYTES is forwarded in parts. Takes time linear in the stream, however it is split.
        """
        if not self._pending and chunk.endswith(_BLANK_LINES):
            return self._checked(chunk)
        data = self._pending
        start = max(0, len(data) - _LONGEST)
        data += chunk
        end = max(_end_of(data, blank, start) for blank in _BLANK_LINES)
        if len(data) - end > MAX_PENDING_BYTES:
            end = len(data)
        if not end:
            return b""
        events = bytes(data[:end])
        del data[:end]
        return self._checked(events)

    def close(self) -> bytes:
        """Return the last event of a stream that ended without a blank line, if it completes the stream."""
        rest = self._checked(self.pending)
        self._pending.clear()
        return rest if self.is_complete else b""

    def _checked(self, events: bytes) -> bytes:
        self.is_complete = self.is_complete or _END.search(events) is not None
        return events


def _end_of(data: bytearray, blank: bytes, start: int) -> int:
    """Return the position after the last `blank` that begins at or after `start`; 0 if there is none."""
    found = data.rfind(blank, start)
    return found + len(blank) if found >= 0 else 0

"""Beginning and end of an event stream in the bytes of a reply."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import anyio

from secondpass.strategies.api.errors import StreamInterrupted

CLOSE_SECONDS = 1.0
"""Most seconds for the end of a reply that is not read."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
EVENT_FIELDS = (b":", b"data", b"event", b"id", b"retry")
_STARTS = (*EVENT_FIELDS, _BYTE_ORDER_MARK)
DONE = b"[DONE]"
_MAX_DONE = 16  # bytes, blanks included


async def start(chunks: AsyncIterator[bytes]) -> bytes:
    """Return the first bytes of a reply, without leading blanks: enough to recognise an event stream."""
    head = b""
    async for chunk in chunks:
        head = (head + chunk).removeprefix(_BYTE_ORDER_MARK).lstrip()
        if head and not any(name.startswith(head) and name != head for name in _STARTS):
            break
    return head


def until_end(events: list[bytes], names: list[bytes]) -> tuple[list[bytes], bytes | None]:
    """Return the events before the first that ends the stream, [DONE] or an error, and that event."""
    for at, (data, name) in enumerate(zip(events, names, strict=True)):
        if name == b"error" or (len(data) <= _MAX_DONE and data.strip() == DONE):
            return events[:at], data
    return events, None


async def drain(chunks: AsyncIterator[bytes]) -> None:
    """Read the rest of the reply after [DONE], so that the connection can be reused."""
    with anyio.move_on_after(CLOSE_SECONDS), suppress(StreamInterrupted):
        async for _ in chunks:
            pass

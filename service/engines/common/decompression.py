"""Decompression of replies in small parts, so that a few bytes cannot become gigabytes at once."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

MAX_PART = 256 * 1024
"""Most bytes that are decompressed at once."""

_WINDOW_BITS = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}
ENCODINGS = frozenset(_WINDOW_BITS)
"""Content encodings that can be decompressed."""


def encoding_of(headers: Mapping[str, str]) -> str:
    """Return the content encoding in lower case; "identity" for none."""
    return headers.get("content-encoding", "").strip().lower() or "identity"


async def decompressed(chunks: AsyncIterator[bytes], encoding: str) -> AsyncGenerator[bytes]:
    """Yield the decompressed bytes of a body with one of the ENCODINGS. Raises zlib.error."""
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    async for chunk in chunks:
        rest, is_full = chunk, True
        while rest or is_full:
            part = decompressor.decompress(rest, MAX_PART)
            rest, is_full = decompressor.unconsumed_tail, len(part) == MAX_PART
            if part:
                yield part

"""Detection of completions that repeat themselves until their token limit.

A loop is a suffix of the completion that consists of copies of one pattern. Lists, tables and code
repeat parts of their lines, and some repeat whole lines, but not for this long.
"""

from __future__ import annotations

MAX_PATTERN = 2_048
"""Longest pattern of a loop, in bytes of UTF-8: about 500 tokens."""

MIN_BYTES = 4_096
"""Shortest loop, in bytes of UTF-8: about 1,000 tokens."""

MIN_COUNT = 4
"""Fewest copies of a pattern in a loop."""

INTERVAL = 512
"""Characters between two searches for a loop."""

_WINDOW = max(MIN_BYTES, MIN_COUNT * MAX_PATTERN)
_NEEDLE = 64


class RepetitionDetector:
    """Detector of a loop at the end of a growing text, in O(1) amortised time for each character.

    It keeps the last 8,192 bytes of the text and searches them every `INTERVAL` characters. A pattern of p bytes
    (1 to `MAX_PATTERN`) is found once the text ends with max(`MIN_BYTES`, `MIN_COUNT` * p) bytes of its copies, at
    the next search. Searches are at fixed offsets, so that the result does not depend on the parts of the text.
    """

    __slots__ = ("_pending", "_size", "_window")

    def __init__(self) -> None:
        self._window = b""
        self._pending: list[str] = []
        self._size = 0

    def add(self, text: str) -> int | None:
        """Append text; return the number of its characters up to the end of a loop, or None.

        After a loop the detector must not be used.
        """
        at = 0
        while self._size + len(text) - at >= INTERVAL:
            end = at + INTERVAL - self._size
            self._pending.append(text[at:end])
            added = "".join(self._pending).encode(errors="surrogatepass")
            self._window = (self._window + added)[-_WINDOW:]
            self._pending.clear()
            self._size, at = 0, end
            if ends_with_loop(self._window):
                return end
        self._pending.append(text[at:])
        self._size += len(text) - at
        return None


def ends_with_loop(data: bytes) -> bool:
    """Return whether `data` ends with a loop; see `RepetitionDetector`.

    A pattern of p bytes repeats its last bytes at distance p. Each such distance is tried, the smallest first.
    """
    size = len(data)
    if size < MIN_BYTES:
        return False
    needle = data[-_NEEDLE:]
    first = max(0, size - _NEEDLE - MAX_PATTERN)
    at = data.rfind(needle, first, size - 1)
    while at >= 0:
        period = size - _NEEDLE - at
        start = size - max(MIN_BYTES, MIN_COUNT * period)
        if start < 0:
            return False
        if data.startswith(data[start + period :], start):
            return True
        at = data.rfind(needle, first, at + _NEEDLE - 1)
    return False

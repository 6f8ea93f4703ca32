"""Our own count of the tokens of a reply, for servers that report none and ignore `max_tokens`.

A server that streams each token sends at most one delta with text for a token. Any server sends at most so many bytes for a
token. A completion is truncated, with the finish reason "length", once it exceeds one of the two. The bounds are generous,
so that no server that honours `max_tokens` is affected.
"""

from __future__ import annotations

BYTES_PER_TOKEN = 16
"""Most UTF-8 bytes of an average token.

Common tokenizers have 4 for English, and up to 12 for Hindi and Thai.
"""

SLACK_BYTES = 256
"""Further bytes of a completion: single tokens, such as indentation, are longer than the average."""


class OwnCount:
    """The content of the completions of one reply with at most `max_tokens` tokens each; None: no limit.

    With `splits_tokens`, the server sends several deltas for a token, so that deltas are not counted.
    """

    __slots__ = ("_bytes", "_deltas", "_max_bytes", "_max_deltas", "ended")

    def __init__(self, n: int, max_tokens: int | None, *, splits_tokens: bool) -> None:
        limit = 10**12 if max_tokens is None else max_tokens
        self._max_deltas = 10**12 if splits_tokens else limit
        self._max_bytes = BYTES_PER_TOKEN * limit + SLACK_BYTES
        self._deltas = [0] * n
        self._bytes = [0] * n
        self.ended: set[int] = set()

    def admit(self, index: int, text: str, *, is_last: bool) -> str | None:
        """Count the content of a delta of completion `index`.

        Return None if it may be used as it is, else the part of it that ends the completion. `is_last` is true if the server
        ends the completion with it: text that it delayed is then no token of its own.
        """
        self._deltas[index] += 1
        if self._deltas[index] > self._max_deltas and not is_last:
            self.ended.add(index)
            return ""
        size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        self._bytes[index] += size
        if self._bytes[index] <= self._max_bytes:
            return None
        self.ended.add(index)
        room = self._max_bytes - (self._bytes[index] - size)
        return text.encode("utf-8", "replace")[: max(0, room)].decode(errors="ignore")

"""Estimate of the completion tokens of one attempt that the engine did not count."""

from __future__ import annotations

from secondpass.strategies.api.engine import Delta

BYTES_PER_TOKEN = 4
"""UTF-8 bytes of an average token.

English text has slightly more, so that an estimate is high rather than low.
"""

TOKEN_BYTES = 6
"""Most bytes of an average delta that counts as one token."""


class Delivered:
    """Deltas without a token count that one attempt delivered, for each of its completions.

    Most engines send a delta for each token: while deltas are short, their number is the estimate. An engine that joins
    tokens sends longer deltas. The estimate is then the bytes of the text, divided by `BYTES_PER_TOKEN`. Reasoning and tool
    calls are included. Text that a later count covers is removed.
    """

    def __init__(self, n: int) -> None:
        self._deltas = [0] * n
        self._bytes = [0] * n

    def add(self, delta: Delta) -> None:
        """Count a delta that has no token count. Deltas without content count nothing."""
        content = delta.text + delta.reasoning
        for call in delta.tool_calls:
            content += call.function.name + call.function.arguments
        if content:
            self._deltas[delta.index] += 1
            self._bytes[delta.index] += len(content.encode("utf-8", "replace"))

    def remove(self, index: int) -> None:
        """Remove the deltas of completion `index`, because the engine counted their tokens."""
        self._deltas[index] = self._bytes[index] = 0

    @property
    def has_text(self) -> bool:
        """True if any delta had content."""
        return any(self._deltas)

    def estimate(self, cap: int) -> int:
        """Return the estimated tokens of all completions, each at most `cap`."""
        return sum(
            min(cap, deltas if size <= TOKEN_BYTES * deltas else -(-size // BYTES_PER_TOKEN))
            for deltas, size in zip(self._deltas, self._bytes, strict=True)
        )

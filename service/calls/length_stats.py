"""What the process learns from the calls it makes: usual lengths, and how fast tokens arrive.

Learned, never configured: no request can set any of it, and forgetting it costs efficiency and nothing else.
"""

from __future__ import annotations

import math
import time
from collections import deque

LengthKey = tuple[str, str, str, str]
"""(strategy, role, purpose, model)"""

LEAST = 8
"""Completions without which a median says nothing."""


class Lengths:
    """What completions take, in tokens: percentiles over the last `window` completions of each kind."""

    def __init__(self, window: int = 128) -> None:
        self._window = window
        self._seen: dict[LengthKey, deque[int]] = {}

    def add(self, key: LengthKey, tokens: int) -> None:
        """A completion of this kind took so many tokens."""
        self._seen.setdefault(key, deque(maxlen=self._window)).append(tokens)

    def expected(self, key: LengthKey, cap: int) -> int:
        """Tokens that nine of ten completions stay within; `cap` until one was seen."""
        seen = self._seen.get(key)
        if not seen:
            return cap
        return min(cap, sorted(seen)[math.ceil(0.9 * len(seen)) - 1])

    def median(self, role: str, purpose: str, model: str) -> int | None:
        """Tokens that half of the completions stay within, in whatever strategy; None until LEAST were seen."""
        kind = (role, purpose, model)
        seen = sorted(n for key, lengths in self._seen.items() if key[1:] == kind for n in lengths)
        return seen[(len(seen) - 1) // 2] if len(seen) >= LEAST else None


class Pace:
    """How many tokens should be gathered in a delta that nobody reads as it comes.

    One, until tokens arrive faster than `deltas_per_second` in the whole process; then as many as keep the event
    loop at that rate, up to `most`.
    """

    def __init__(self, deltas_per_second: int = 2_000, most: int = 32) -> None:
        self._target = deltas_per_second
        self._most = most
        self._since = time.monotonic()
        self._tokens = 0
        self.interval = 1

    def add(self, tokens: int) -> None:
        """So many tokens arrived."""
        self._tokens += tokens
        elapsed = time.monotonic() - self._since
        if elapsed >= 0.5:
            wanted = math.ceil(self._tokens / elapsed / self._target)
            self.interval = max(1, min(self._most, wanted))
            self._tokens, self._since = 0, self._since + elapsed

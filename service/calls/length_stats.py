"""Process-wide call statistics: completion lengths, token throughput and prompt sizes.

The statistics are measured, never configured, and requests cannot set them. Losing them costs only efficiency.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field

from secondpass.service.calls.prompt_size import PromptSizes

LengthKey = tuple[str, str, str, str]
"""(strategy, role, purpose, model)."""

MIN_COMPLETIONS = 8
"""Completions required for a median."""

MIN_TOKENS = 32
"""Fewest tokens of an attempt whose rate counts; a shorter one measures the time to the first token."""


class LengthStats:
    """Percentiles of completion tokens over the last `window` completions of each key."""

    def __init__(self, window: int = 128) -> None:
        self._window = window
        self._lengths: dict[LengthKey, deque[int]] = {}

    def add(self, key: LengthKey, tokens: int) -> None:
        """Record the tokens of a completion."""
        self._lengths.setdefault(key, deque(maxlen=self._window)).append(tokens)

    def expected(self, key: LengthKey, cap: int) -> int:
        """Return the 90th percentile of completion tokens, at most `cap`; `cap` without any record."""
        lengths = self._lengths.get(key)
        if not lengths:
            return cap
        return min(cap, sorted(lengths)[math.ceil(0.9 * len(lengths)) - 1])

    def median(self, role: str, purpose: str, model: str) -> int | None:
        """Return the median completion tokens over all strategies; None below MIN_COMPLETIONS."""
        kind = (role, purpose, model)
        lengths = sorted(n for key, each in self._lengths.items() if key[1:] == kind for n in each)
        return lengths[(len(lengths) - 1) // 2] if len(lengths) >= MIN_COMPLETIONS else None


class Pace:
    """Number of tokens to batch into one delta of a stream that no client reads.

    `interval` is 1 until tokens arrive faster than `deltas_per_second` in the whole process. It then rises to keep the
    event loop at that rate, up to `max_interval`.
    """

    def __init__(self, deltas_per_second: int = 2_000, max_interval: int = 32) -> None:
        self._target = deltas_per_second
        self._max_interval = max_interval
        self._since = time.monotonic()
        self._tokens = 0
        self.interval = 1

    def add(self, tokens: int) -> None:
        """Record arrived tokens."""
        self._tokens += tokens
        elapsed = time.monotonic() - self._since
        if elapsed >= 0.5:
            wanted = math.ceil(self._tokens / elapsed / self._target)
            self.interval = max(1, min(self._max_interval, wanted))
            self._tokens, self._since = 0, self._since + elapsed


class TokenRates:
    """Tokens per second of single completions, by model, over the last `window` attempts of each."""

    def __init__(self, window: int = 128) -> None:
        self._window = window
        self._rates: dict[str, deque[float]] = {}

    def add(self, model: str, tokens: int, seconds: float) -> None:
        """Record an attempt by the tokens of its longest completion; short ones are ignored."""
        if tokens >= MIN_TOKENS and seconds > 0:
            self._rates.setdefault(model, deque(maxlen=self._window)).append(tokens / seconds)

    def slow(self, model: str) -> float | None:
        """Return the rate that 90% of the attempts reached; None before the first."""
        rates = self._rates.get(model)
        return sorted(rates)[len(rates) // 10] if rates else None


@dataclass(frozen=True, slots=True)
class CallStats:
    """All call statistics of a process."""

    lengths: LengthStats = field(default_factory=LengthStats)
    pace: Pace = field(default_factory=Pace)
    prompts: PromptSizes = field(default_factory=PromptSizes)
    rates: TokenRates = field(default_factory=TokenRates)

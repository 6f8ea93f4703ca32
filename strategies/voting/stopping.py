"""Stopping rules: decide when the samples not drawn yet are not worth their cost. Pure.

A rule is asked after each ballot, and sees the counts in the order in which ballots were cast.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class StoppingRule(Protocol):
    """Decides whether further ballots are worth drawing."""

    def is_decided(self, ballots: Sequence[int | None], left: int) -> bool:
        """`ballots` so far, None for a sample without an answer; `left` may still be drawn."""


@dataclass(frozen=True, slots=True)
class Never:
    """Draw all samples."""

    def is_decided(self, ballots: Sequence[int | None], left: int) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class BetaRule:
    """Adaptive-Consistency (arXiv 2305.11860): stop when the leader is probably the majority.

    With a and b ballots for the two leading classes and a uniform prior, P(leader's share > 1/2) is the tail of
    Beta(a + 1, b + 1); `confidence` is the probability that is enough.
    """

    confidence: float = 0.95

    def is_decided(self, ballots: Sequence[int | None], left: int) -> bool:
        first, second = leading_counts(ballots)
        return first > 0 and majority_probability(first, second) > self.confidence


@dataclass(frozen=True, slots=True)
class WindowRule:
    """ESC (arXiv 2401.10480): stop when a window of `window` consecutive samples is unanimous.

    Windows do not overlap. A sample without an answer agrees with nothing.
    """

    window: int = 5

    def is_decided(self, ballots: Sequence[int | None], left: int) -> bool:
        if not ballots or len(ballots) % self.window:
            return False
        return None not in (last := ballots[-self.window :]) and len(set(last)) == 1


@dataclass(frozen=True, slots=True)
class SafeLead:
    """Stop when the samples that are left cannot change the winner: exact, and free."""

    def is_decided(self, ballots: Sequence[int | None], left: int) -> bool:
        first, second = leading_counts(ballots)
        return first > second + left


def leading_counts(ballots: Sequence[int | None]) -> tuple[int, int]:
    """How many ballots the first and the second class have."""
    ranked = [count for _, count in Counter(b for b in ballots if b is not None).most_common(2)]
    first, second, *_ = [*ranked, 0, 0]
    return first, second


def majority_probability(a: int, b: int) -> float:
    """P(X > 1/2) for X ~ Beta(a + 1, b + 1), exactly: a binomial tail since a and b are whole."""
    trials = a + b + 1
    ways: int = sum(math.comb(trials, j) for j in range(a + 1))
    return ways / (1 << trials)

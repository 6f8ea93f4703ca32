"""Stopping rules of a vote: decide when further samples are not worth their cost.

A rule is evaluated after each ballot, on the ballots in the order in which they were cast.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class StoppingRule(Protocol):
    """Decides when a vote stops sampling."""

    def is_decided(self, ballots: Sequence[int | None], remaining: int) -> bool:
        """Return True if further samples are not worth their cost.

        Args:
            ballots: Answer classes so far; None for a sample without an answer.
            remaining: Samples that may still be drawn.
        """


@dataclass(frozen=True, slots=True)
class NoEarlyStopping:
    """Draw all samples."""

    def is_decided(self, ballots: Sequence[int | None], remaining: int) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class AdaptiveRule:
    """Adaptive-Consistency (arXiv 2305.11860): stop when the leader is probably the majority.

    The two leading classes have a and b ballots. With a uniform prior, P(leader's share > 1/2) is the tail of
    Beta(a + 1, b + 1). The rule stops when it exceeds `confidence`.
    """

    confidence: float = 0.95

    def is_decided(self, ballots: Sequence[int | None], remaining: int) -> bool:
        first, second = leading_counts(ballots)
        return first > 0 and majority_probability(first, second) > self.confidence


@dataclass(frozen=True, slots=True)
class WindowRule:
    """ESC (arXiv 2401.10480): stop when `window` consecutive samples are unanimous.

    Windows do not overlap. A window with a sample without an answer is not unanimous.
    """

    window: int = 5

    def is_decided(self, ballots: Sequence[int | None], remaining: int) -> bool:
        if not ballots or len(ballots) % self.window:
            return False
        return None not in (last := ballots[-self.window :]) and len(set(last)) == 1


@dataclass(frozen=True, slots=True)
class UnbeatableLead:
    """Stop when the remaining samples cannot change the winner."""

    def is_decided(self, ballots: Sequence[int | None], remaining: int) -> bool:
        first, second = leading_counts(ballots)
        return first > second + remaining


def leading_counts(ballots: Sequence[int | None]) -> tuple[int, int]:
    """Return the ballot counts of the two largest classes."""
    ranked = [count for _, count in Counter(b for b in ballots if b is not None).most_common(2)]
    first, second, *_ = [*ranked, 0, 0]
    return first, second


def majority_probability(a: int, b: int) -> float:
    """Return P(X > 1/2) for X ~ Beta(a + 1, b + 1), exactly: a binomial tail for integer a and b."""
    trials = a + b + 1
    ways: int = sum(math.comb(trials, j) for j in range(a + 1))
    return ways / (1 << trials)

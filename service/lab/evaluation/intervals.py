"""Wilson intervals of proportions, bootstrap over questions, and conclusions with a margin.

The unit of resampling is the question: shuffles and seeds of one question are averaged first.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeVar

from secondpass.strategies.api.ranking import quantile

LEVEL = 0.95
RESAMPLES = 2000

Conclusion = Literal["superior", "non-inferior", "inconclusive", "inferior"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its interval at LEVEL, and the number of questions."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: int, level: float = LEVEL) -> Estimate:
    """Return the Wilson score interval of a proportion; `successes` may be fractional (shared ties).

    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"successes must be from 0 to n and n must be at least 1, not {successes} of {n}"
        )
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)), n)  # fmt: skip


def bootstrap(
    units: Sequence[_T],
    statistic: Callable[[Sequence[_T]], float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Estimate:
    """Return the percentile interval of `statistic` over `units` drawn with replacement.

    Raises ValueError if `units` is empty.
    """
    if not units:
        raise ValueError("units must not be empty")
    chance = random.Random(seed)  # noqa: S311 - statistics, not secrets
    n = len(units)
    drawn = sorted(statistic(chance.choices(units, k=n)) for _ in range(resamples))
    tail = (1 - level) / 2
    return Estimate(statistic(units), quantile(drawn, tail), quantile(drawn, 1 - tail), n)


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean. Raises ValueError if `values` is empty."""
    if not values:
        raise ValueError("values must not be empty")
    return sum(values) / len(values)


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Return the mean of `ours - theirs` per question, with a bootstrap interval.

    Both lists have the same questions in the same order. Raises ValueError if the lengths differ.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"the lengths must be equal: {len(ours)} and {len(theirs)} questions")
    pairs = [a - b for a, b in zip(ours, theirs, strict=True)]
    return bootstrap(pairs, mean, seed=seed, resamples=resamples)


def conclude(difference: Estimate, margin: float) -> Conclusion:
    """Return the conclusion that the interval of a difference supports.

    Superior: the interval is above 0. Non-inferior: it is above `-margin`. Inferior: it is below `-margin`. Otherwise
    inconclusive. `margin` is positive, in the unit of the difference.
    """
    if margin <= 0:
        raise ValueError(f"margin must be above 0, not {margin}")
    if difference.low > 0:
        return "superior"
    if difference.low > -margin:
        return "non-inferior"
    return "inferior" if difference.high < -margin else "inconclusive"

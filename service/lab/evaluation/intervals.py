"""How sure a figure is: Wilson intervals of proportions, bootstrap over questions, and verdicts with a margin.

The question is the unit: shuffles and seeds of one question are averaged before anything is drawn.
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
    """A figure, its interval at LEVEL, and the number of questions behind it."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: int, level: float = LEVEL) -> Estimate:
    """The Wilson score interval of a proportion. `successes` may be a fraction, as a shared tie is.

    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must be from 0 to n, and n 1 or more, not {successes} of {n}")
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
    """The percentile interval of `statistic` over questions drawn with replacement. Raises ValueError on no units."""
    if not units:
        raise ValueError("there is nothing to resample")
    chance = random.Random(seed)  # noqa: S311 - statistics, not secrets
    n = len(units)
    drawn = sorted(statistic(chance.choices(units, k=n)) for _ in range(resamples))
    tail = (1 - level) / 2
    return Estimate(statistic(units), quantile(drawn, tail), quantile(drawn, 1 - tail), n)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean. Raises ValueError on no values."""
    if not values:
        raise ValueError("there is no mean of nothing")
    return sum(values) / len(values)


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """The mean of ours - theirs, question by question in the same order. Raises ValueError on unequal lengths."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} questions against {len(theirs)}")
    pairs = [a - b for a, b in zip(ours, theirs, strict=True)]
    return bootstrap(pairs, mean, seed=seed, resamples=resamples)


def conclude(difference: Estimate, margin: float) -> Conclusion:
    """What the interval of a difference says about a loss of at most `margin` (> 0, in the figure's own unit).

    superior: all of it above 0; non-inferior: above -margin; inferior: below -margin; else inconclusive.
    """
    if margin <= 0:
        raise ValueError(f"margin must be above 0, not {margin}")
    if difference.low > 0:
        return "superior"
    if difference.low > -margin:
        return "non-inferior"
    return "inferior" if difference.high < -margin else "inconclusive"

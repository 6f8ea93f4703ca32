"""From scores and comparisons to weights: Borda counts, Copeland scores, win rates, log-odds. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Comparison = tuple[int, int, int | None]
"""(one candidate, another one, the winner of the two or None for a tie), each by its number"""

SURE = 1e-6
"""Probabilities nearer to 0 or 1 are read as this near: an engine's rounding must not weigh infinitely much."""


def borda(scores: Sequence[float | None], power: float = 1.0) -> list[float]:
    """The weight (n - rank + 1) ** power of each score, the best of n having rank 1 (arXiv 2502.18581).

    Equal scores share the mean of their weights. A missing score weighs 0 and takes no rank from the others.
    Raises ValueError for a score that is no number.
    """
    known = [score for score in scores if score is not None]
    if any(math.isnan(score) for score in known):
        raise ValueError("a score is not a number")
    ranked = sorted(known)
    weights: dict[float, list[float]] = {}
    for place, score in enumerate(ranked, 1):
        weights.setdefault(score, []).append(place**power)
    return [0.0 if s is None else math.fsum(weights[s]) / len(weights[s]) for s in scores]


def copeland(n: int, comparisons: Iterable[Comparison]) -> list[int]:
    """For each of `n` candidates, the comparisons that it won less those that it lost. Raises ValueError."""
    scores = [0] * n
    for a, b, winner in comparisons:
        _check(n, a, b, winner)
        if winner is not None:
            scores[winner] += 1
            scores[b if winner == a else a] -= 1
    return scores


def win_rates(n: int, comparisons: Iterable[Comparison]) -> list[float | None]:
    """For each of `n` candidates, the share (0 to 1) of its comparisons that it won, a tie as half; None without any."""
    won, games = [0.0] * n, [0] * n
    for a, b, winner in comparisons:
        _check(n, a, b, winner)
        for each in (a, b):
            games[each] += 1
            won[each] += 0.5 if winner is None else float(winner == each)
    return [points / count if count else None for points, count in zip(won, games, strict=True)]


def _check(n: int, a: int, b: int, winner: int | None) -> None:
    if a == b or not (0 <= a < n and 0 <= b < n) or winner not in (a, b, None):
        raise ValueError(f"no comparison of two of {n} candidates: {(a, b, winner)}")


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)), between -13.8 and 13.8: see SURE. Raises ValueError outside 0 to 1."""
    if not 0 <= probability <= 1:
        raise ValueError(f"a probability is from 0 to 1, not {probability}")
    p = min(max(probability, SURE), 1 - SURE)
    return math.log(p) - math.log1p(-p)


def probability_of(odds: float) -> float:
    """The probability with these log-odds."""
    if odds >= 0:
        return 1 / (1 + math.exp(-odds))
    return math.exp(odds) / (1 + math.exp(odds))


def calibrated(probability: float, temperature: float, offset: float = 0.0) -> float:
    """The probability whose log-odds are those of `probability`, less `offset`, over `temperature` (above 0)."""
    if not temperature > 0:
        raise ValueError(f"a temperature is above 0, not {temperature}")
    return probability_of((log_odds(probability) - offset) / temperature)


def mean_log_odds(probabilities: Sequence[float]) -> float:
    """The mean log-odds of at least one probability; raises ValueError without any."""
    if not probabilities:
        raise ValueError("there is no probability")
    return math.fsum(map(log_odds, probabilities)) / len(probabilities)

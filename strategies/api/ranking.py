"""Log-odds of probabilities, and quantiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

EPSILON = 1e-6
"""Clamp of probabilities: an engine's rounding to 0 or 1 must not give infinite log-odds."""


def log_odds(probability: float) -> float:
    """Return ln(p / (1 - p)), clamped to -13.8 to 13.8. Raises ValueError outside 0 to 1."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: must be 0 to 1, not {probability}")
    p = min(max(probability, EPSILON), 1 - EPSILON)
    return math.log(p) - math.log1p(-p)


def probability_of(odds: float) -> float:
    """Return the probability with these log-odds."""
    if odds >= 0:
        return 1 / (1 + math.exp(-odds))
    return math.exp(odds) / (1 + math.exp(odds))


def calibrated(probability: float, temperature: float, offset: float = 0.0) -> float:
    """Return the probability with the log-odds (log_odds(probability) - offset) / temperature.

    Raises ValueError unless `temperature` is above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: must be above 0, not {temperature}")
    return probability_of((log_odds(probability) - offset) / temperature)


def mean_log_odds(probabilities: Sequence[float]) -> float:
    """Return the mean log-odds. Raises ValueError without probabilities."""
    if not probabilities:
        raise ValueError("probabilities: must not be empty")
    return math.fsum(map(log_odds, probabilities)) / len(probabilities)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile `share` (0 to 1) of the values, interpolated linearly.

    Raises ValueError without values, or if `share` is out of range.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no quantile {share} of {len(values)} values")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])

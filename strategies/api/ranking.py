"""Log-odds of probabilities, and quantiles. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

EPSILON = 1e-6
"""Probabilities nearer to 0 or 1 are read as this near: an engine's rounding must not weigh infinitely much."""


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)), between -13.8 and 13.8: see EPSILON. Raises ValueError outside 0 to 1."""
    if not 0 <= probability <= 1:
        raise ValueError(f"a probability is from 0 to 1, not {probability}")
    p = min(max(probability, EPSILON), 1 - EPSILON)
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


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, interpolated linearly. Raises ValueError."""
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no quantile {share} of {len(values)} values")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])

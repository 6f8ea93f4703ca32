"""Log probabilities in replies. Any other value makes the reply unreadable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MIN_LOGPROB = -9999.0
"""Least log probability, also of vLLM's endpoint, because JSON has no infinity."""

_ROUNDING = 0.01
"""Most by which rounding lifts a log probability above 0."""


def log_probability(value: Any) -> float:
    """Return a natural log probability, from MIN_LOGPROB to 0.

    Raises ValueError for any other value: text, a boolean, NaN, an infinity or a positive number.
    """
    if type(value) not in (float, int) or not math.isfinite(value) or value > _ROUNDING:
        raise ValueError("a log probability is not a number of at most 0")
    return min(0.0, max(float(value), MIN_LOGPROB))


def logprobs_of(choice: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the natural log probabilities of the generated tokens, from either route."""
    logprobs = choice.get("logprobs") or {}
    if (content := logprobs.get("content")) is not None:
        return tuple([log_probability(token["logprob"]) for token in content])
    return tuple([log_probability(value) for value in logprobs.get("token_logprobs") or ()])


def confidence(alternatives: Sequence[float], k: int) -> float:
    """Return minus the mean of the `k` largest log probabilities, or of all if fewer; see `Delta`."""
    top = sorted(alternatives, reverse=True)[:k]
    return -sum(top) / len(top)


def confidences_of(choice: Mapping[str, Any], k: int) -> tuple[float, ...]:
    """Return the confidences of the generated tokens over the `k` most probable ones, from either route.

    vLLM's chat route includes the sampled token in the k, so a less probable sampled token displaces the last of them.
    """
    logprobs = choice.get("logprobs") or {}
    if (content := logprobs.get("content")) is not None:
        positions = [[entry["logprob"] for entry in token["top_logprobs"]] for token in content]
    else:
        positions = [list(entry.values()) for entry in logprobs.get("top_logprobs") or ()]
    return tuple([confidence([*map(log_probability, each)], k) for each in positions])

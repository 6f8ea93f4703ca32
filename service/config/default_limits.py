"""Default budget and deadline of a run, from its params and the cap and speed of its model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from secondpass.service.common.limits import Limits
from secondpass.service.config.settings import Settings
from secondpass.strategies.api.params import Params

MIN_TOKENS = 16_384
"""Smallest default of `budget.max_tokens`. It leaves room for retries of broken streams."""

MIN_DEADLINE_MS = 120_000
"""Smallest default of `budget.deadline_ms`."""


@dataclass(frozen=True, slots=True)
class DefaultLimits:
    """Limits of a run whose request sets none, and notes on those that the operator's maximum reduced."""

    limits: Limits
    notes: Mapping[str, str]


def default_limits(
    settings: Settings, params: Params, cap: int, rate: float | None
) -> DefaultLimits:
    """Return the default limits of a run.

    `max_tokens` allows `cap` tokens for each draft and each call that follows it: n * calls * cap. `deadline_ms` allows
    the time of the calls that follow one another: rounds * cap / rate. Both are at least the minima above, and at most the
    operator's maxima. The settings `default_max_tokens` and `default_deadline_ms` replace them.

    Args:
        settings: The operator's settings.
        params: Params of the strategy: `chains`, `sequential_calls` and `concurrency`.
        cap: Completion tokens of one call, at least 1.
        rate: Tokens per second of one completion of the actor's model; None if not measured. The default deadline is
            then the operator's maximum.
    """
    maxima = settings.operator_maxima
    tokens = settings.default_max_tokens or max(
        MIN_TOKENS, params.chains * params.sequential_calls * cap
    )
    milliseconds = settings.default_deadline_ms
    if milliseconds is None and rate is not None:
        seconds = _waves(params) * params.sequential_calls * cap / rate
        milliseconds = max(MIN_DEADLINE_MS, math.ceil(1000 * seconds))
    found = {"max_tokens": tokens, "deadline_ms": milliseconds or settings.max_deadline_ms}
    bounds = {name: min(value, getattr(maxima, name)) for name, value in found.items()}
    notes = {
        name: f"{bounds[name]}, the operator's maximum; the default for this run would be {value}"
        for name, value in found.items()
        if value > bounds[name] and getattr(settings, f"default_{name}") is None
    }
    return DefaultLimits(maxima.model_copy(update=bounds), notes)


def _waves(params: Params) -> int:
    """Return how many drafts are generated one after another."""
    return math.ceil(params.chains / params.concurrency)

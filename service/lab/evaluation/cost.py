"""What attempts cost, in the units that a bill or a user feels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secondpass.service.lab.evaluation.run_record import RunRecord
from secondpass.strategies.api.ranking import quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Means an attempt, in tokens, and wall seconds; `wasted` tokens are part of `decode`."""

    decode: float
    uncached: float
    wasted: float
    p50: float
    p95: float
    seconds: float


def cost(attempts: Sequence[RunRecord]) -> Cost:
    """What `attempts` cost, less those of which that is not known. Raises ValueError on no attempts."""
    if not attempts:
        raise ValueError("there are no attempts")
    attempts = [attempt for attempt in attempts if attempt.is_billed] or attempts
    n = len(attempts)
    seconds = sorted(attempt.seconds for attempt in attempts)
    return Cost(
        decode=sum(a.usage.decode for a in attempts) / n,
        uncached=sum(a.usage.uncached for a in attempts) / n,
        wasted=sum(a.usage.wasted for a in attempts) / n,
        p50=quantile(seconds, 0.5),
        p95=quantile(seconds, 0.95),
        seconds=sum(seconds) / n,
    )

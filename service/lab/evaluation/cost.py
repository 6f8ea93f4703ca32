"""Cost of runs in tokens and wall seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secondpass.service.lab.evaluation.run_record import RunRecord
from secondpass.strategies.api.ranking import quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Mean tokens per run, and percentiles and mean of wall seconds; `decode` includes `wasted`."""

    decode: float
    uncached: float
    wasted: float
    p50: float
    p95: float
    seconds: float


def cost(records: Sequence[RunRecord]) -> Cost:
    """Return the cost of the runs whose cost is known. Raises ValueError if `records` is empty."""
    if not records:
        raise ValueError("records must not be empty")
    records = [record for record in records if record.has_known_cost] or records
    n = len(records)
    seconds = sorted(record.seconds for record in records)
    return Cost(
        decode=sum(a.usage.decode for a in records) / n,
        uncached=sum(a.usage.uncached for a in records) / n,
        wasted=sum(a.usage.wasted for a in records) / n,
        p50=quantile(seconds, 0.5),
        p95=quantile(seconds, 0.95),
        seconds=sum(seconds) / n,
    )

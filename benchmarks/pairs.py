"""Interleaved pairs: direct, through us, direct, through us, so that what else the machine does meets both alike."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Generic, TypeVar

M = TypeVar("M")

RESAMPLES = 10_000
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a figure over the pairs, and its extremes."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        held = list(values)
        return cls(median(held), min(held), max(held))

    def shown(self, form: str) -> str:
        """Median and extremes, each in the format `form`."""
        return f"{self.middle:{form}} [{self.low:{form}}..{self.high:{form}}]"


@dataclass(frozen=True, slots=True)
class Pairs(Generic[M]):
    """The measurements of one case: the i-th of `direct` was made right before the i-th of `through`."""

    name: str
    direct: Sequence[M]
    through: Sequence[M]

    def compared(self, figure: Callable[[M, M], float]) -> Spread:
        """`figure(direct, through)`, pair by pair."""
        return Spread.of(map(figure, self.direct, self.through))

    def at_least(self, figure: Callable[[M, M], float]) -> float:
        """What the median of `figure(direct, through)` is at least, with 95% confidence, one-sided: by the bootstrap."""
        values = list(map(figure, self.direct, self.through))
        draw = random.Random(0)  # the same pairs always have the same bound
        medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
        return medians[RESAMPLES // 20]

    def medians(self, figure: Callable[[M], float]) -> tuple[float, float]:
        """The median of a figure, direct and through."""
        return median(map(figure, self.direct)), median(map(figure, self.through))


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has taken so far, in steps of 10 ms. Linux only."""
    _, _, fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(") ")
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / TICKS_A_SECOND


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, aligned for reading as it stands; all columns but the first hold figures."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    aligned = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)

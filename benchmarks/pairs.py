"""Interleaved pairs of measurements, direct and through secondpass, and their tables.

Interleaving exposes both sides to the same background load.
"""

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
        """Summarize at least one value."""
        figures = list(values)
        return cls(median(figures), min(figures), max(figures))

    def shown(self, form: str) -> str:
        """Format the median and the extremes, each with the format specification `form`."""
        return f"{self.middle:{form}} [{self.low:{form}}..{self.high:{form}}]"


@dataclass(frozen=True, slots=True)
class Pairs(Generic[M]):
    """Measurements of one case; the i-th of `direct` immediately precedes the i-th of `through`."""

    name: str
    direct: Sequence[M]
    through: Sequence[M]

    def compared(self, figure: Callable[[M, M], float]) -> Spread:
        """Return the spread of `figure(direct, through)` over the pairs."""
        return Spread.of(map(figure, self.direct, self.through))

    def lower_bound(self, figure: Callable[[M, M], float]) -> float:
        """Return the one-sided 95% bootstrap lower bound of the median of `figure(direct, through)`."""
        values = list(map(figure, self.direct, self.through))
        draw = random.Random(0)  # fixed seed: the bound is reproducible
        medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
        return medians[RESAMPLES // 20]

    def medians(self, figure: Callable[[M], float]) -> tuple[float, float]:
        """Return the medians of a figure, direct and through."""
        return median(map(figure, self.direct)), median(map(figure, self.through))


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process in seconds, in clock ticks of 10 ms. Linux only."""
    _, _, fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(") ")
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / TICKS_A_SECOND


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an aligned Markdown table; all columns except the first are right-aligned."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    aligned = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)

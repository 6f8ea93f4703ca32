"""When a chain is made to doubt itself, and what it answers: doubt must not turn a right answer into a wrong one. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from secondpass.strategies.api.values import Candidate, Completion

LEAST_GROWTH = 1.1
"""Of cumulative budgets: points that grow by less would fall on one place."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many tokens a chain may take before its next trigger (ID-sampling, arXiv 2502.05449).

    `cumulative`: triggers stand at totals of b0 * gamma^k tokens; `segment`: segment k takes b0 * gamma^k of them. Without
    `b0` triggers stand only where a segment has ended by itself. Cumulative budgets grow by LEAST_GROWTH or more.
    """

    max_triggers: int
    b0: int | None = None
    gamma: float = 2.0
    reading: Literal["cumulative", "segment"] = "cumulative"

    def cap(self, segment: int, written: int) -> int | None:
        """Tokens that this segment (from 0) takes at most, after so many in all before it; None: all it likes.

        Nothing follows after the last trigger, so that there is no cap. A cumulative point that was passed already, by
        a segment that went on to its end, is none any more.
        """
        if self.b0 is None or segment >= self.max_triggers:
            return None
        if self.reading == "segment":
            return math.ceil(self.b0 * self.gamma**segment)
        point = segment
        while (total := math.ceil(self.b0 * self.gamma**point)) <= written:
            point += 1
        return total - written


@dataclass(frozen=True, slots=True)
class Reading:
    """What a chain answers after a segment.

    `ballot` is the class of the answer, None where there is none. `draft` is the chain so far; `is_forced` says that the
    answer was forced out of it before it came to one of its own.
    """

    candidate: Candidate
    ballot: int | None
    draft: Completion | None = None
    is_forced: bool = False


@dataclass
class Readings:
    """The answers after each segment of one chain, in order; a change counts once something confirms it."""

    _read: list[Reading] = field(default_factory=list)

    def add(self, reading: Reading) -> None:
        """Take the answer after one more segment into account."""
        self._read.append(reading)

    @property
    def opening(self) -> Reading | None:
        """The first answer that the chain came to by itself; without one the last that was forced, and None without any."""
        answered = [each for each in self._read if each.ballot is not None]
        own = (each for each in answered if not each.is_forced)
        return next(own, answered[-1] if answered else None)

    @property
    def is_empty(self) -> bool:
        """Was nothing read yet?"""
        return not self._read

    @property
    def forced(self) -> int:
        """How many answers were forced."""
        return sum(each.is_forced for each in self._read)

    @property
    def is_changed(self) -> bool:
        """Did any two segments answer differently?"""
        return len({each.ballot for each in self._read if each.ballot is not None}) > 1

    @property
    def is_pending(self) -> bool:
        """Is there a change that another chain may yet confirm?"""
        return self.is_changed and not self._repeated

    def agree(self, m: int) -> bool:
        """Have the last `m` segments one answer?"""
        last = [each.ballot for each in self._read[-m:]]
        return len(last) == m and None not in last and len(set(last)) == 1

    def best(self, confirmed: Collection[int] = ()) -> Reading:
        """The answer given most often, if at least twice; else the opening, unless only a later one is `confirmed`.

        `confirmed` are classes that other chains opened with. Of one answer it is the first reading that was not forced;
        ties go to the answer seen first. Raises IndexError while there is no segment.
        """
        if self.opening is None:
            return self._read[-1]
        if self._repeated:
            wanted = [each for each in self._read if each.ballot == self._repeated[0]]
            return min(wanted, key=lambda each: each.is_forced)
        known = [each for each in reversed(self._read) if each.ballot in confirmed]
        return known[0] if known and self.opening.ballot not in confirmed else self.opening

    @property
    def _repeated(self) -> list[int]:
        """The classes that came up at least twice, most frequent first."""
        counts = Counter(each.ballot for each in self._read if each.ballot is not None)
        return [ballot for ballot, count in counts.most_common() if count > 1]


def elected(chains: Sequence[Readings]) -> list[Reading]:
    """What each chain answers, when a change counts also where another chain began with it."""
    opened = [chain.opening.ballot if chain.opening else None for chain in chains]

    def others(place: int) -> set[int]:
        return {b for i, b in enumerate(opened) if i != place and b is not None}

    return [chain.best(others(place)) for place, chain in enumerate(chains)]

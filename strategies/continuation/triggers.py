"""When a chain gets a reflection prompt, and what it answers: reflection must not replace a right answer. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from secondpass.strategies.api.values import Candidate, Completion

LEAST_GROWTH = 1.1
"""Growth of cumulative budgets at least: with less, several triggers would have one position."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many tokens a chain may write before its next trigger (ID-sampling, arXiv 2502.05449).

    `cumulative`: a trigger at each total of b0 * gamma^k tokens; `segment`: segment k has at most b0 * gamma^k of them.
    Without `b0` a trigger follows only a segment that the model has finished. `gamma` is at least LEAST_GROWTH for
    cumulative budgets.
    """

    max_triggers: int
    b0: int | None = None
    gamma: float = 2.0
    reading: Literal["cumulative", "segment"] = "cumulative"

    def cap(self, segment: int, written: int) -> int | None:
        """The most tokens of a segment (from 0) after `written` tokens in all before it; None without a limit.

        The segment after the last trigger has none. A cumulative point that an earlier segment has passed is skipped.
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
class ChainAnswer:
    """The answer of a chain after one of its segments.

    `ballot` is the class of the answer, None without one. `draft` is the chain so far; `is_forced` is True where the
    answer was forced out of a copy of it before the chain had one of its own.
    """

    candidate: Candidate
    ballot: int | None
    draft: Completion | None = None
    is_forced: bool = False


@dataclass
class AnswerTrail:
    """The answers of one chain after each segment, in order; a change counts once something confirms it."""

    _answers: list[ChainAnswer] = field(default_factory=list)

    def add(self, answer: ChainAnswer) -> None:
        """Append the answer after one more segment."""
        self._answers.append(answer)

    @property
    def opening(self) -> ChainAnswer | None:
        """The first answer of the chain's own; without one the last that was forced, and None without any."""
        answered = [each for each in self._answers if each.ballot is not None]
        own = (each for each in answered if not each.is_forced)
        return next(own, answered[-1] if answered else None)

    @property
    def is_empty(self) -> bool:
        """Whether no segment was read yet."""
        return not self._answers

    @property
    def forced(self) -> int:
        """The number of forced answers."""
        return sum(each.is_forced for each in self._answers)

    @property
    def is_changed(self) -> bool:
        """Whether any two segments have different answers."""
        return len({each.ballot for each in self._answers if each.ballot is not None}) > 1

    @property
    def is_pending(self) -> bool:
        """Whether there is a change that another chain may yet confirm."""
        return self.is_changed and not self._repeated

    def agree(self, m: int) -> bool:
        """Whether the last `m` segments have one answer."""
        last = [each.ballot for each in self._answers[-m:]]
        return len(last) == m and None not in last and len(set(last)) == 1

    def best(self, confirmed: Collection[int] = ()) -> ChainAnswer:
        """The most frequent answer, if it came at least twice; else the opening, unless only a later one is `confirmed`.

        `confirmed` are classes that other chains opened with. Of one answer it is the first that was not forced; ties go
        to the answer that came first. Raises IndexError while there is no segment.
        """
        if self.opening is None:
            return self._answers[-1]
        if self._repeated:
            wanted = [each for each in self._answers if each.ballot == self._repeated[0]]
            return min(wanted, key=lambda each: each.is_forced)
        known = [each for each in reversed(self._answers) if each.ballot in confirmed]
        return known[0] if known and self.opening.ballot not in confirmed else self.opening

    @property
    def _repeated(self) -> list[int]:
        """The classes that came at least twice, most frequent first."""
        counts = Counter(each.ballot for each in self._answers if each.ballot is not None)
        return [ballot for ballot, count in counts.most_common() if count > 1]


def elected(chains: Sequence[AnswerTrail]) -> list[ChainAnswer]:
    """The answer of each chain, where a change counts also if another chain opened with it."""
    opened = [chain.opening.ballot if chain.opening else None for chain in chains]

    def others(position: int) -> set[int]:
        return {b for i, b in enumerate(opened) if i != position and b is not None}

    return [chain.best(others(position)) for position, chain in enumerate(chains)]

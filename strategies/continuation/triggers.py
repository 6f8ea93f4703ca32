"""Schedule of the reflection prompts of a chain, and the choice of the chain's answer. Pure.

An answer that changed after a reflection prompt counts only if it is confirmed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from secondpass.strategies.api.values import Candidate, Completion

MIN_GROWTH = 1.1
"""Minimum growth factor of cumulative budgets; below it several triggers would have the same position."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Token budgets that place the triggers of a chain (ID-sampling, arXiv 2502.05449).

    With `reading` cumulative, trigger k (from 0) follows at a total of b0 * gamma^k tokens. With
    `reading` segment, segment k has at most b0 * gamma^k tokens. Without `b0`, triggers follow only
    segments that the model finished. `gamma` must be at least `MIN_GROWTH` with `cumulative`.
    """

    max_triggers: int
    b0: int | None = None
    gamma: float = 2.0
    reading: Literal["cumulative", "segment"] = "cumulative"

    def cap(self, segment: int, written: int) -> int | None:
        """Return the maximum tokens of segment `segment` (from 0); None if it is unlimited.

        `written` are the tokens of all earlier segments. The segment after the last trigger is
        unlimited. A cumulative point that an earlier segment passed is skipped.
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
    """Answer of a chain after one of its segments.

    `ballot` is the class of the answer, None without an answer. `draft` is the chain so far, with
    the forced answer appended if `is_forced`.
    """

    candidate: Candidate
    ballot: int | None
    draft: Completion | None = None
    is_forced: bool = False


@dataclass
class AnswerTrail:
    """Answers of one chain after each of its segments, in order."""

    _answers: list[ChainAnswer] = field(default_factory=list)

    def add(self, answer: ChainAnswer) -> None:
        """Append the answer after the next segment."""
        self._answers.append(answer)

    @property
    def opening(self) -> ChainAnswer | None:
        """The first answer that was not forced, else the last forced answer, else None."""
        answered = [each for each in self._answers if each.ballot is not None]
        unforced = (each for each in answered if not each.is_forced)
        return next(unforced, answered[-1] if answered else None)

    @property
    def is_empty(self) -> bool:
        """True before the first segment."""
        return not self._answers

    @property
    def forced_count(self) -> int:
        """Number of forced answers."""
        return sum(each.is_forced for each in self._answers)

    @property
    def is_changed(self) -> bool:
        """True if any two segments have different answers."""
        return len({each.ballot for each in self._answers if each.ballot is not None}) > 1

    @property
    def is_pending(self) -> bool:
        """True if another chain may still confirm a changed answer."""
        return self.is_changed and not self._repeated

    def has_agreement(self, m: int) -> bool:
        """Return whether the last `m` segments have the same answer."""
        last = [each.ballot for each in self._answers[-m:]]
        return len(last) == m and None not in last and len(set(last)) == 1

    def best(self, confirmed: Collection[int] = ()) -> ChainAnswer:
        """Return the answer of the chain, a changed one only if it is confirmed.

        It is the most frequent answer if at least two segments have it; ties go to the earlier
        answer. Otherwise it is the opening, or the last answer whose class is in `confirmed` if the
        opening's is not. `confirmed` are the classes of other chains' openings. Of several segments
        with the answer, the first one that was not forced is returned. Raises IndexError before the
        first segment.
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
        """Classes of answers that at least two segments have, most frequent first."""
        counts = Counter(each.ballot for each in self._answers if each.ballot is not None)
        return [ballot for ballot, count in counts.most_common() if count > 1]


def chain_answers(chains: Sequence[AnswerTrail]) -> list[ChainAnswer]:
    """Return the answer of each chain. The opening of one chain confirms changed answers of the others."""
    openings = [chain.opening.ballot if chain.opening else None for chain in chains]

    def others(position: int) -> set[int]:
        return {b for i, b in enumerate(openings) if i != position and b is not None}

    return [chain.best(others(position)) for position, chain in enumerate(chains)]

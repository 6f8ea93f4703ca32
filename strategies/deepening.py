"""What a chain of segments answers: doubt must not turn a right answer into a wrong one. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from secondpass.strategies.core import Candidate


@dataclass
class Readings:
    """The answer after each segment of one chain, in order; an answer counts once it came up twice.

    A ballot is the class of the answer, None where a segment gave none.
    """

    _read: list[tuple[Candidate, int | None]] = field(default_factory=list)

    def add(self, candidate: Candidate, ballot: int | None) -> None:
        """Take the answer after one more segment into account."""
        self._read.append((candidate, ballot))

    @property
    def is_changed(self) -> bool:
        """Did any two segments answer differently?"""
        return len({ballot for _, ballot in self._read if ballot is not None}) > 1

    def agree(self, m: int) -> bool:
        """Have the last `m` segments one answer?"""
        last = [ballot for _, ballot in self._read[-m:]]
        return len(last) == m and None not in last and len(set(last)) == 1

    @property
    def best(self) -> tuple[Candidate, int | None]:
        """The answer given most often, if at least twice, else the first one: a change that nothing confirms is none.

        The candidate is the earliest with that answer; ties go to the answer seen first. Raises IndexError while
        there is no segment.
        """
        answered = [pair for pair in self._read if pair[1] is not None]
        if not answered:
            return self._read[0]
        ((ballot, _),) = Counter(ballot for _, ballot in answered).most_common(1)
        return next(pair for pair in answered if pair[1] == ballot)

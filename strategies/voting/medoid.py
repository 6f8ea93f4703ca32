"""The text that says most of what all say: what is chosen where answers cannot be compared, and so cannot vote. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from secondpass.strategies.api.values import Candidate


class _Trigrams:
    """How often each three characters stand in a text; case and white space do not matter."""

    def __init__(self, text: str) -> None:
        folded = " ".join(text.lower().split())
        self.counts = Counter(folded[i : i + 3] for i in range(max(1, len(folded) - 2)))
        self.norm = math.sqrt(sum(count * count for count in self.counts.values()))

    def likeness(self, other: _Trigrams) -> float:
        """The cosine of the two counts, 0 to 1."""
        fewer, more = sorted((self.counts, other.counts), key=len)
        shared = sum(count * more.get(gram, 0) for gram, count in fewer.items())
        return shared / (self.norm * other.norm)


@dataclass
class Medoid:
    """The text that is most like all others: cosine of character trigrams, ties to the earlier."""

    _candidates: list[Candidate] = field(default_factory=list)
    _grams: list[_Trigrams] = field(default_factory=list)
    _likeness: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, candidate: Candidate) -> None:
        """Take one more text into account."""
        grams = _Trigrams(candidate.text)
        likeness = [grams.likeness(other) for other in self._grams]
        self._likeness = [old + new for old, new in zip(self._likeness, likeness, strict=True)]
        self._likeness.append(sum(likeness))
        self._candidates.append(candidate)
        self._grams.append(grams)

    @property
    def leader(self) -> Candidate:
        """The candidate with that text. Raises ValueError without any."""
        return self._candidates[self._likeness.index(max(self._likeness))]

"""The text most similar to all others, which is chosen where answers cannot be compared and so cannot vote. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from secondpass.strategies.api.values import Candidate


class _Trigrams:
    """Character trigram counts of a text, without regard to case and white space."""

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
    """The text most similar to all others: cosine of character trigrams, ties to the lower index.

    The order in which texts are added decides only between equal indices.
    """

    _candidates: list[Candidate] = field(default_factory=list)
    _grams: list[_Trigrams] = field(default_factory=list)
    _likeness: list[list[float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, candidate: Candidate) -> None:
        """Take one more text into account."""
        grams = _Trigrams(candidate.text)
        likeness = [grams.likeness(other) for other in self._grams]
        for known, new in zip(self._likeness, likeness, strict=True):
            known.append(new)
        self._likeness.append(likeness)
        self._candidates.append(candidate)
        self._grams.append(grams)

    @property
    def leader(self) -> Candidate:
        """The candidate with that text. Raises ValueError without any."""
        # Correctly rounded sums: the order in which texts were added does not change them.
        pairs = zip(map(math.fsum, self._likeness), self._candidates, strict=True)
        return min(pairs, key=lambda pair: (-pair[0], pair[1].index))[1]

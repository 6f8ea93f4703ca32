"""The medoid of texts, elected where answers are not comparable and so cannot vote."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from secondpass.strategies.api.values import Candidate

MAX_LENGTH = 20_000
"""Characters of a text that are compared: its first and last halves, if it is longer."""

MAX_TRIGRAMS = 2_000
"""Distinct trigrams of a text that are compared, the most frequent ones."""


class _Trigrams:
    """Character trigram counts of a text, ignoring case and white space."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            text = text[: MAX_LENGTH // 2] + text[-(MAX_LENGTH // 2) :]
        folded = " ".join(text.lower().split())
        counts = Counter(folded[i : i + 3] for i in range(max(1, len(folded) - 2)))
        self.counts = dict(counts.most_common(MAX_TRIGRAMS))
        self.norm = math.sqrt(sum(count * count for count in self.counts.values()))

    def similarity(self, other: _Trigrams) -> float:
        """Return the cosine similarity of the counts, 0 to 1."""
        fewer, more = sorted((self.counts, other.counts), key=len)
        shared = sum(count * more.get(gram, 0) for gram, count in fewer.items())
        return shared / (self.norm * other.norm)


@dataclass
class Medoid:
    """The text most similar to all others, by cosine similarity of character trigrams.

    Of long texts only `MAX_LENGTH` characters and `MAX_TRIGRAMS` trigrams are compared. Ties go to the lower index, and between equal indices to the
    text added first.
    """

    _candidates: list[Candidate] = field(default_factory=list)
    _grams: list[_Trigrams] = field(default_factory=list)
    _similarities: list[list[float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, candidate: Candidate) -> None:
        """Add a candidate's text."""
        grams = _Trigrams(candidate.text)
        similarities = [grams.similarity(other) for other in self._grams]
        for known, new in zip(self._similarities, similarities, strict=True):
            known.append(new)
        self._similarities.append(similarities)
        self._candidates.append(candidate)
        self._grams.append(grams)

    @property
    def leader(self) -> Candidate:
        """The candidate with the medoid text. Raises ValueError without candidates."""
        # fsum is correctly rounded, so that the order of the texts does not matter.
        pairs = zip(map(math.fsum, self._similarities), self._candidates, strict=True)
        return min(pairs, key=lambda pair: (-pair[0], pair[1].index))[1]

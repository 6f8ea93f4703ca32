"""Reviews that score several candidates at once: order, sums, and the choice of those that are kept. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secondpass.strategies.api import quoting
from secondpass.strategies.api.values import Candidate, Completion

LOWEST, HIGHEST = 1, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One review of all candidates; `scores` (1 to 10) are in the candidates' own order, not the one shown."""

    completion: Completion
    scores: tuple[int, ...]

    @property
    def favourite(self) -> int | None:
        """The number of the candidate with the one highest score; None for a tie."""
        highest = max(self.scores)
        return self.scores.index(highest) if self.scores.count(highest) == 1 else None

    @property
    def certainty(self) -> float | None:
        """The mean confidence of its tokens; None where the engine returned none."""
        found = self.completion.confidences
        return sum(found) / len(found) if found else None


def shuffled(texts: Sequence[str], sample: int) -> list[int]:
    """The order in which sample number `sample` (from 0) shows the texts, as their numbers.

    An order by hash, independent of the texts' own order, rotated by one place each sample: among each `n` samples in a
    row every text is once in every place.
    """
    base = sorted(range(len(texts)), key=lambda i: (_hash(texts[i]), i))
    turn = sample % len(texts)
    return base[turn:] + base[:turn]


def in_own_order(scores: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Scores that were given in `order`, in the candidates' own order."""
    return tuple(score for _, score in sorted(zip(order, scores, strict=True)))


def totals(reviews: Iterable[Review], n: int) -> list[int]:
    """For each of `n` candidates the sum of its scores."""
    return [sum(column) for column in zip([0] * n, *(r.scores for r in reviews), strict=True)]


def agreement(reviews: Sequence[Review]) -> list[float]:
    """How each review ranks the candidates compared with the sum of all others: pairs alike less pairs reversed."""
    if not reviews:
        return []
    everything = totals(reviews, len(reviews[0].scores))
    return [
        float(
            _pairs_alike(
                review.scores, [t - s for t, s in zip(everything, review.scores, strict=True)]
            )
        )
        for review in reviews
    ]


def best_half(reviews: Sequence[Review], marks: Sequence[float]) -> list[Review]:
    """The half of the reviews (rounded up) with the highest marks, ties to the earlier, in their own order."""
    ranked = sorted(range(len(reviews)), key=lambda i: (-marks[i], i))
    kept = sorted(ranked[: (len(reviews) + 1) // 2])
    return [reviews[i] for i in kept]


def is_settled(reviews: Sequence[Review]) -> bool:
    """True when there are at least two reviews and all have the same favourite."""
    favourites = {review.favourite for review in reviews}
    return len(reviews) >= 2 and len(favourites) == 1 and None not in favourites


def distinct(pairs: Iterable[tuple[Candidate, int | None]]) -> list[Candidate]:
    """One candidate for each answer, in the order of (candidate, its class).

    Degenerate ones are left out, and those truncated before they held an answer. Without any class, as in open tasks,
    there is one for each text; else those without an answer are left out as well.
    """
    speaking = [
        (candidate, ballot)
        for candidate, ballot in pairs
        if not candidate.is_unfinished and quoting.degenerate(candidate.text) is None
    ]
    has_classes = any(ballot is not None for _, ballot in speaking)
    found: dict[object, Candidate] = {}
    for candidate, ballot in speaking:
        if has_classes and ballot is None:
            continue
        found.setdefault(ballot if has_classes else " ".join(candidate.text.split()), candidate)
    return list(found.values())


def _pairs_alike(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    return sum(_sign(a[i] - a[j]) * _sign(b[i] - b[j]) for i, j in pairs)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()

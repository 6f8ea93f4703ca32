"""Reviews that score several candidates at once: display order, score sums and selection. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secondpass.strategies.api import quoting
from secondpass.strategies.api.values import Candidate, Completion

LOWEST, HIGHEST = 1, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One review of all candidates.

    `scores` (1 to 10) are in the candidates' own order, which differs from the order displayed to
    the judge.
    """

    completion: Completion
    scores: tuple[int, ...]

    @property
    def favourite(self) -> int | None:
        """Position of the candidate with the highest score; None for a tie."""
        highest = max(self.scores)
        return self.scores.index(highest) if self.scores.count(highest) == 1 else None

    @property
    def certainty(self) -> float | None:
        """Mean token confidence of the review; None if the engine returned none."""
        found = self.completion.confidences
        return sum(found) / len(found) if found else None


def display_order(texts: Sequence[str], sample: int) -> list[int]:
    """Return the order in which sample number `sample` (from 0) displays the texts, as their positions.

    The texts are ordered by hash, independently of their given order, and rotated by one position
    per sample. Over any `len(texts)` consecutive samples each text appears once in each position.
    """
    base = sorted(range(len(texts)), key=lambda i: (_hash(texts[i]), i))
    rotation = sample % len(texts)
    return base[rotation:] + base[:rotation]


def in_candidate_order(scores: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Return scores given in the display order `order` in the candidates' own order."""
    return tuple(score for _, score in sorted(zip(order, scores, strict=True)))


def totals(reviews: Iterable[Review], n: int) -> list[int]:
    """Return the sum of scores of each of `n` candidates."""
    return [sum(column) for column in zip([0] * n, *(r.scores for r in reviews), strict=True)]


def agreement(reviews: Sequence[Review]) -> list[float]:
    """Return the rank agreement of each review with the score sums of all other reviews.

    It is the number of candidate pairs that both rank alike minus the number that they rank in
    reverse. Ties count 0.
    """
    if not reviews:
        return []
    sums = totals(reviews, len(reviews[0].scores))
    return [
        float(
            _rank_agreement(
                review.scores, [t - s for t, s in zip(sums, review.scores, strict=True)]
            )
        )
        for review in reviews
    ]


def best_half(reviews: Sequence[Review], meta_scores: Sequence[float]) -> list[Review]:
    """Return the half of the reviews (rounded up) with the highest meta scores, in the given order.

    Ties go to the earlier review.
    """
    ranked = sorted(range(len(reviews)), key=lambda i: (-meta_scores[i], i))
    kept = sorted(ranked[: (len(reviews) + 1) // 2])
    return [reviews[i] for i in kept]


def is_settled(reviews: Sequence[Review]) -> bool:
    """True if there are at least two reviews and all have the same favourite."""
    favourites = {review.favourite for review in reviews}
    return len(reviews) >= 2 and len(favourites) == 1 and None not in favourites


def distinct_candidates(pairs: Iterable[tuple[Candidate, int | None]]) -> list[Candidate]:
    """Return the first candidate of each answer class, in the order of `pairs` (candidate, answer class).

    Degenerate candidates, and those truncated before an answer, are excluded. If no candidate has a
    class, as in open tasks, candidates with different texts are distinct. Otherwise candidates
    without a class are excluded too.
    """
    usable = [
        (candidate, ballot)
        for candidate, ballot in pairs
        if not candidate.is_unfinished and quoting.degenerate(candidate.text) is None
    ]
    has_classes = any(ballot is not None for _, ballot in usable)
    found: dict[object, Candidate] = {}
    for candidate, ballot in usable:
        if has_classes and ballot is None:
            continue
        found.setdefault(ballot if has_classes else " ".join(candidate.text.split()), candidate)
    return list(found.values())


def _rank_agreement(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    return sum(_sign(a[i] - a[j]) * _sign(b[i] - b[j]) for i, j in pairs)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()

"""Discrimination (AUROC, AURC) and calibration (ECE) of scores.

Scores are finite floats; a larger score means more confidence. `correct` has the correctness of each item in the same
order. Results do not depend on the order of items: ties are shared evenly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

BINS = 10


def auroc(scores: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Return the probability that a correct item scores above an incorrect one; None without both kinds.

    Ties count half.
    """
    right = sum(_checked(scores, correct))
    wrong = len(correct) - right
    if not (right and wrong):
        return None
    below, won = 0, 0.0
    for size, hits in reversed(list(_levels(scores, correct))):
        won += hits * (below + (size - hits) / 2)
        below += size - hits
    return won / (right * wrong)


def ece(confidences: Sequence[float], correct: Sequence[bool], bins: int = BINS) -> float | None:
    """Return the expected calibration error (0 to 1) over `bins` bins of equal width; None without items.

    Bin b covers (b/bins, (b+1)/bins]; the first one includes 0. Raises ValueError for a confidence outside of 0 to 1.
    """
    _checked(confidences, correct)
    if outside := [c for c in confidences if not 0 <= c <= 1]:
        raise ValueError(f"a confidence must be from 0 to 1, not {outside[0]}")
    gaps = [0.0] * bins
    edges = [(number + 1) / bins for number in range(bins)]
    for confidence, is_right in zip(confidences, correct, strict=True):
        gaps[next(b for b, edge in enumerate(edges) if confidence <= edge)] += is_right - confidence
    return sum(map(abs, gaps)) / len(correct) if correct else None


def risk_coverage(scores: Sequence[float], correct: Sequence[bool]) -> list[tuple[float, float]]:
    """Return (coverage, risk) of answering only the k most confident items, for k = 1 to all.

    Tied items contribute their expected risk.
    """
    total = len(_checked(scores, correct))
    points, answered, errors = [], 0, 0.0
    for size, hits in _levels(scores, correct):
        for taken in range(1, size + 1):
            expected = errors + (size - hits) * taken / size
            points.append(((answered + taken) / total, expected / (answered + taken)))
        answered += size
        errors += size - hits
    return points


def aurc(scores: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Return the area under the risk-coverage curve, 0 (best) to 1; None without items."""
    points = risk_coverage(scores, correct)
    return sum(risk for _, risk in points) / len(points) if points else None


def _levels(scores: Sequence[float], correct: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Yield (items, correct items) of each distinct score, the highest first."""
    ranked = sorted(zip(scores, correct, strict=True), reverse=True)
    for _, tied in groupby(ranked, key=lambda pair: pair[0]):
        level = [is_right for _, is_right in tied]
        yield len(level), sum(level)


def _checked(scores: Sequence[float], correct: Sequence[bool]) -> Sequence[bool]:
    if len(scores) != len(correct):
        raise ValueError(f"{len(scores)} scores for {len(correct)} items")
    if any(score != score for score in scores):  # noqa: PLR0124 - only NaN differs from itself
        raise ValueError("scores must not contain NaN")
    return correct

"""Metrics of choosing among samples: gaps to a vote and to an oracle, and the balance score."""

from __future__ import annotations

from collections.abc import Sequence

ENOUGH = 8
"""n* of B-STaR: number of distinct correct answers per query beyond which more add nothing."""


def gap_closed(accuracy: float, majority: float, any_correct: float) -> float | None:
    """Return (accuracy - majority) / (any_correct - majority).

    1 means that a correct sample is chosen whenever one exists. The value is negative if the vote is better, and None if
    the oracle is not above the vote.
    """
    room = any_correct - majority
    return (accuracy - majority) / room if room > 0 else None


def refinement_gap(refined: float, majority: float) -> float:
    """Return the accuracy of the refined answers minus that of the majority (GSR, arXiv 2509.00084)."""
    return refined - majority


def balance_score(queries: Sequence[tuple[int, int]], enough: int = ENOUGH) -> float | None:
    """Return the balance score (0 to 1) of B-STaR, arXiv 2412.17256; None without queries.

    It is the mean of min(right / enough, 1) * right / selected. Each query is (distinct correct answers among the
    selected, selected); a query without selected answers contributes 0. Raises ValueError if `right` exceeds
    `selected`.
    """
    for right, selected in queries:
        if not 0 <= right <= selected:
            raise ValueError(f"right must be from 0 to selected ({selected}), not {right}")
    scores = [min(right / enough, 1) * right / selected if selected else 0.0 for right, selected in queries]  # fmt: skip
    return sum(scores) / len(scores) if scores else None

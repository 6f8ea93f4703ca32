"""How well the answers that were drawn are used: gaps to a vote and to an oracle, and the balance of a selection."""

from __future__ import annotations

from collections.abc import Sequence

ENOUGH = 8
"""n* of B-STaR: how many distinct right answers of a query are as good as more."""


def gap_closed(accuracy: float, majority: float, any_right: float) -> float | None:
    """(accuracy - majority) / (any_right - majority): 1 picks a right sample wherever there is one.

    Negative where the vote is better. None where the oracle has nothing to add to the vote.
    """
    room = any_right - majority
    return (accuracy - majority) / room if room > 0 else None


def refinement_gap(refined: float, majority: float) -> float:
    """Accuracy of what was made of the samples, less that of their majority (GSR, arXiv 2509.00084)."""
    return refined - majority


def balance_score(queries: Sequence[tuple[int, int]], enough: int = ENOUGH) -> float | None:
    """B-STaR (arXiv 2412.17256): the mean of min(right / enough, 1) * right / selected, 0 to 1.

    Each query has (distinct right ones among the selected, selected); one with nothing selected has 0. None without
    queries. Raises ValueError where more are right than were selected.
    """
    for right, selected in queries:
        if not 0 <= right <= selected:
            raise ValueError(f"right must be from 0 to selected ({selected}), not {right}")
    scores = [min(right / enough, 1) * right / selected if selected else 0.0 for right, selected in queries]  # fmt: skip
    return sum(scores) / len(scores) if scores else None

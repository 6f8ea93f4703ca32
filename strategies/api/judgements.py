"""Results of judging: a label with its probabilities, or a preference between two candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from secondpass.strategies.api.errors import VerdictUnreadable
from secondpass.strategies.api.ranking import log_odds
from secondpass.strategies.api.values import LabelDistribution

ReadingMethod = Literal["labels", "schema", "text"]
"""Source of a verdict: label probabilities, a schema-constrained reply, or strictly parsed text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict: one of the labels passed to `classify`.

    Attributes:
        verdict: The label.
        how: Source of the verdict.
        probabilities: Sum to 1 over the labels. None if the engine returned none; they are never estimated.
        mass: Total probability (0 to 1) of the labels before normalisation; None without probabilities.
    """

    verdict: str
    how: ReadingMethod
    probabilities: Mapping[str, float] | None = None
    mass: float | None = None

    @property
    def label_distribution(self) -> LabelDistribution:
        """The probabilities and their mass. Raises VerdictUnreadable if the engine returned none."""
        if self.probabilities is None:
            raise VerdictUnreadable(f"the reply {self.verdict!r} has no label probabilities")
        return LabelDistribution(self.probabilities, self.mass or 0.0)

    def probability(self, label: str) -> float | None:
        """Return the probability of a label, or None without probabilities. Raises KeyError if unknown."""
        return None if self.probabilities is None else self.probabilities[label]

    def log_odds(self, label: str) -> float | None:
        """Return the log-odds of a label against all others, -13.8 to 13.8; None without probabilities."""
        probability = self.probability(label)
        return None if probability is None else log_odds(min(1.0, probability))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Result of a pairwise comparison.

    Attributes:
        winner: "a", "b", or None for a tie.
        margin: Sum of the log-odds for "a" over both presentation orders; None without probabilities.
        judgements: Judgements with "a" shown first and with "b" shown first; empty if a candidate was degenerate.
    """

    winner: Literal["a", "b"] | None
    margin: float | None = None
    judgements: tuple[Judgement, ...] = ()

    @property
    def is_in_both_orders(self) -> bool:
        """True if each order alone names the winner."""
        verdicts = {judgement.verdict for judgement in self.judgements}
        return self.winner is not None and len(verdicts) != 1


MARGIN = 1.386
"""Minimum absolute margin of a win: ln 4, which is odds of 2 to 1 in each order."""


def preference_of(
    a_first: Judgement, b_first: Judgement, *, labels: tuple[str, str] = ("A", "B")
) -> Preference:
    """Return the preference that follows from the judgements of both orders.

    With probabilities, the log-odds of both orders are added, which cancels position bias, and the sum must exceed
    MARGIN. Without, both orders must name the same candidate.

    Args:
        a_first: Judgement with candidate "a" shown first.
        b_first: Judgement with candidate "b" shown first.
        labels: Labels of the candidate shown first and of the one shown second.
    """
    first, second = labels
    judgements = (a_first, b_first)
    one, other = a_first.log_odds(first), b_first.log_odds(second)
    if one is not None and other is not None:
        margin = one + other
        winner: Literal["a", "b"] | None = None
        if abs(margin) > MARGIN:
            winner = "a" if margin > 0 else "b"
        return Preference(winner=winner, margin=margin, judgements=judgements)
    if a_first.verdict == first and b_first.verdict == second:
        return Preference(winner="a", judgements=judgements)
    if a_first.verdict == second and b_first.verdict == first:
        return Preference(winner="b", judgements=judgements)
    return Preference(winner=None, judgements=judgements)

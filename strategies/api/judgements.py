"""What a judge decided: a label with the probabilities behind it, or which of two candidates is the better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from secondpass.strategies.api.errors import VerdictUnreadable
from secondpass.strategies.api.ranking import log_odds
from secondpass.strategies.api.values import LabelDistribution

ReadingMethod = Literal["labels", "schema", "text"]
"""Read from label probabilities; from a reply that the engine held to a schema; or from free text, parsed strictly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, which is one of the labels that were asked for.

    `probabilities` sums to 1 over the labels, and `mass` (0 to 1) is what they had together before that. Both are None
    where the engine returned none: they are never estimated.
    """

    verdict: str
    how: ReadingMethod
    probabilities: Mapping[str, float] | None = None
    mass: float | None = None

    @property
    def label_distribution(self) -> LabelDistribution:
        """The probabilities and their mass. Raises VerdictUnreadable where the engine returned none."""
        if self.probabilities is None:
            raise VerdictUnreadable(f"the reply {self.verdict!r} has no label probabilities")
        return LabelDistribution(self.probabilities, self.mass or 0.0)

    def probability(self, label: str) -> float | None:
        """How probable the label is; None where no probabilities were read. Raises KeyError for another label."""
        return None if self.probabilities is None else self.probabilities[label]

    def log_odds(self, label: str) -> float | None:
        """The log-odds of the label against all others, within -13.8 to 13.8; None without probabilities."""
        probability = self.probability(label)
        return None if probability is None else log_odds(min(1.0, probability))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Which of two candidates is better: "a", "b", or None for a tie.

    `margin` is the sum of the log-odds for "a" over both orders in which they were shown, None where no probabilities
    were read. `judgements` are those of the two orders; empty when a candidate had nothing to judge.
    """

    winner: Literal["a", "b"] | None
    margin: float | None = None
    judgements: tuple[Judgement, ...] = ()

    @property
    def is_in_both_orders(self) -> bool:
        """True when each of the two orders by itself names the winner."""
        verdicts = {judgement.verdict for judgement in self.judgements}
        return self.winner is not None and len(verdicts) != 1


MARGIN = 1.386
"""ln 4: odds of 2 to 1 in both orders together."""


def preference_of(
    a_first: Judgement, b_first: Judgement, *, labels: tuple[str, str] = ("A", "B")
) -> Preference:
    """The preference that two judgements make; the first label names the candidate shown first.

    With probabilities the log-odds of both orders are added, so that a liking for one place cancels out, and the sum
    must pass MARGIN. Without, both orders must name the same candidate.
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

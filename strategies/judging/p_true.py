"""The probability that a model gives to a draft being right: P(True) (arXiv 2207.05221), with the labels in both orders.

`secondpass calibrate` measures by the same reads, so that its calibration holds for every strategy that uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

from secondpass.strategies.api import quoting
from secondpass.strategies.api.calibration import apply_calibration
from secondpass.strategies.api.errors import DegenerateCandidate
from secondpass.strategies.api.ranking import mean_log_odds, probability_of
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion, Role

LABELS = ("A", "B")
"""Of the choices, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class PTrue:
    """`probability` (0 to 1) that the draft is right, as it was read; `mass` (0 to 1) that the labels had together."""

    probability: float
    mass: float


async def p_true(run: Run, draft: Completion, *, role: Role = "judge") -> PTrue:
    """Read two tokens, one for each order of the labels, as a further turn of the draft's own conversation.

    The log-odds of both are averaged, so that a preference for one letter cancels out. Needs `labels` of the role's
    engine. Raises DegenerateCandidate, and the failure of a read: VerdictUnreadable, EngineError or BudgetExhausted.
    """
    if why := quoting.degenerate(draft.text):
        raise DegenerateCandidate(f"there is nothing to judge: {why}", role=draft.role)

    async def read(right: str) -> PTrue:
        first, second = ("right", "wrong") if right == LABELS[0] else ("wrong", "right")
        judgement = await run.classify(
            "p_true", LABELS, after=draft, role=role, first=first, second=second
        )
        found = judgement.label_distribution
        return PTrue(min(1.0, found.probabilities[right]), found.mass)

    both = await run.map(read, LABELS, min_results=len(LABELS))
    reads = [each for each in both if each is not None]
    odds = mean_log_odds([each.probability for each in reads])
    return PTrue(probability_of(odds), sum(each.mass for each in reads) / len(reads))


async def calibrated_p_true(run: Run, draft: Completion, *, role: Role = "judge") -> float | None:
    """The calibrated probability (0 to 1) that the draft is right; None where it cannot be read."""

    async def read(shown: Completion) -> PTrue:
        return await p_true(run, shown, role=role)

    [found] = await run.map(read, [draft], min_results=0)
    if found is None:
        return None
    return apply_calibration(found.probability, run.model(role).calibration())

"""P(True): the probability that a draft is correct, read from label probabilities (arXiv 2207.05221).

Ours: each draft is read with the labels in both orders. `secondpass calibrate` uses the same reads,
so its calibration is valid for every strategy that calls these functions.
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
"""Labels of the two choices, in display order."""


@dataclass(frozen=True, slots=True)
class PTrue:
    """Uncalibrated probability (0 to 1) that a draft is correct, and the probability mass of the labels.

    `mass` (0 to 1) is the probability of both labels together, averaged over the reads.
    """

    probability: float
    mass: float


async def p_true(run: Run, draft: Completion, *, role: Role = "judge") -> PTrue:
    """Read P(True) of a draft in two one-token calls, one per label order.

    The prompt is appended as a user turn to the draft's own conversation. Averaging the log-odds of
    both reads cancels a preference for one letter. The role's engine needs the capability `labels`.

    Raises:
        DegenerateCandidate: The draft is empty, only punctuation or repetitive.
        VerdictUnreadable, EngineError, BudgetExhausted: One of the reads failed.
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
    """Return the calibrated probability (0 to 1) that the draft is correct; None if a read failed.

    Without a calibration of the role's model the probability is returned as read.
    """

    async def read(shown: Completion) -> PTrue:
        return await p_true(run, shown, role=role)

    [found] = await run.map(read, [draft], min_results=0)
    if found is None:
        return None
    return apply_calibration(found.probability, run.model(role).calibration())

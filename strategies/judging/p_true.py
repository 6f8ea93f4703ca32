"""How probable a model thinks it that a draft is right: P(True) (arXiv 2207.05221), with the labels in both orders.

`secondpass calibrate` measures by the same reads, so that what it finds holds for every strategy that uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

from secondpass.strategies.api import quoting
from secondpass.strategies.api.calibration import believed
from secondpass.strategies.api.errors import SURVIVABLE, DegenerateCandidate, VerdictUnreadable
from secondpass.strategies.api.ranking import mean_log_odds, probability_of
from secondpass.strategies.api.run import Draft, Run
from secondpass.strategies.api.values import Completion, Role

LABELS = ("A", "B")
"""Of the choices, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class PTrue:
    """`probability` (0 to 1) that the draft is right, as it was read; `mass` (0 to 1) that the labels had together."""

    probability: float
    mass: float


async def p_true(run: Run, draft: Completion | Draft, *, role: Role = "judge") -> PTrue:
    """Ask in both orders at once, as a further turn of the draft's own conversation: two reads of a token.

    The log-odds of both are averaged, so that a liking for one letter cancels out. Raises DegenerateCandidate,
    VerdictUnreadable when one order could not be read, and CapabilityMissing without label probabilities.
    """
    completion = draft if isinstance(draft, Completion) else draft.completion
    if why := quoting.degenerate(completion.text):
        raise DegenerateCandidate(f"there is nothing to judge: {why}")

    async def ask(right: str) -> tuple[float, float]:
        choices = ("right", "wrong") if right == "A" else ("wrong", "right")
        read = await run.probe(
            completion, "p_true", LABELS, role=role, first=choices[0], second=choices[1]
        )
        return min(1.0, read.probabilities[right]), read.mass

    reads = await run.map(ask, LABELS)
    if len(reads) < len(LABELS):
        raise VerdictUnreadable("one order of the labels could not be read")
    odds = mean_log_odds([probability for probability, _ in reads])
    return PTrue(probability_of(odds), sum(mass for _, mass in reads) / len(reads))


async def calibrated_p_true(
    run: Run, draft: Completion | Draft, *, role: Role = "judge"
) -> float | None:
    """How probably (0 to 1) the role's calibration makes the draft right; None where that cannot be read."""
    try:
        read = (await p_true(run, draft, role=role)).probability
    except SURVIVABLE:
        return None
    return believed(read, run.calibration(role))

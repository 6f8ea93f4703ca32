"""What a draft's ballot weighs in a vote: the same for every strategy whose votes can be weighted."""

from __future__ import annotations

from typing import Literal, TypeAlias

from secondpass.strategies.confidence import lowest_group
from secondpass.strategies.core import Completion, Run
from secondpass.strategies.p_true import calibrated_p_true

Weight: TypeAlias = Literal["none", "confidence", "p_true"]


def weight_trust(run: Run, weight: Weight, *, always: bool) -> float:
    """How far weights count, 0 to 1, and a note where they count for nothing; `always` as in `Run.trust`.

    Raises CapabilityMissing, before anything is spent, for a judge that counts and gives no label probabilities.
    """
    if weight != "none" and run.task.kind == "open":
        run.note("weight", "none: answers of open tasks cast no ballots that could be weighed")
        return 0.0
    if weight != "p_true":
        return 1.0
    trust = run.trust("judge", always=always)
    if trust:
        run.require("judge", "labels")
    return trust


async def ballot_weight(
    run: Run, weight: Weight, draft: Completion, group: int, trust: float
) -> float | None:
    """The weight (0 or more); None where there is none to read, which weighs the mean.

    Confidence is the lowest mean over `group` tokens. A judge with a `trust` of 0 (see `weight_trust`) is not asked.
    """
    if weight == "confidence":
        return lowest_group(draft.confidences, group)
    if weight == "none" or trust == 0:
        return None
    return await calibrated_p_true(run, draft)

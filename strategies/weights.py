"""What a draft's ballot weighs in a vote: the same for every strategy whose votes can be weighted."""

from __future__ import annotations

from typing import Literal, TypeAlias

from secondpass.strategies.confidence import lowest_group
from secondpass.strategies.core import Completion, Run
from secondpass.strategies.p_true import calibrated_p_true

Weight: TypeAlias = Literal["none", "confidence", "p_true"]


async def ballot_weight(
    run: Run, weight: Weight, draft: Completion, group: int, trust: float
) -> float | None:
    """The weight (0 or more); None where there is none to read, which weighs the mean.

    Confidence is the lowest mean over `group` tokens. A judge with a `trust` of 0 is not asked. Raises
    CapabilityMissing where it gives no label probabilities.
    """
    if weight == "confidence":
        return lowest_group(draft.confidences, group)
    if weight == "none" or trust == 0:
        return None
    return await calibrated_p_true(run, draft)

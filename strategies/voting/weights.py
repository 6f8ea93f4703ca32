"""Ballot weights, shared by all strategies with weighted votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.registry import Needs, Params, Use
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion
from secondpass.strategies.judging.p_true import calibrated_p_true
from secondpass.strategies.voting.token_confidence import lowest_group_confidence

Weight: TypeAlias = Literal["none", "confidence", "p_true"]


class WeightedVoteParams(Params):
    """Params of a weighted vote."""

    uses: ClassVar[tuple[Use, ...]] = (("always_weigh", {"weight": ("p_true",)}),)

    weight: Weight = Field(
        default="none",
        description="weight of a ballot; confidence: the lowest mean confidence of `group` consecutive tokens; p_true: the "
        "judge's probability that the answer is right",
    )
    always_weigh: bool = Field(
        default=False,
        description="p_true: weight votes even if the judge is not calibrated or has a low AUROC",
    )


def weight_needs(params: WeightedVoteParams, task: Task) -> Needs:
    """Return the capabilities that reading the weights requires: label probabilities for p_true."""
    if params.weight != "p_true" or task.kind == "open":
        return {}
    return {"judge": {"labels"}}


def weight_trust(run: Run, weight: Weight, *, always: bool) -> float:
    """Return the trust (0 to 1) in the weights; a trust of 0 adds a note. `always`: see `Model.trust`."""
    if weight != "none" and run.task.kind == "open":
        run.note("weight", "none: answers to open tasks cast no ballots")
        return 0.0
    return run.model("judge").trust(always=always) if weight == "p_true" else 1.0


@dataclass
class BallotWeights:
    """Ballot weights of one run, each read at most once.

    Weights are not read while all ballots agree, because they could not change the vote. A judge with a `trust` of 0 (see
    `weight_trust`) is not called. Confidence is the lowest mean of `group` consecutive tokens.
    """

    run: Run
    weight: Weight
    group: int
    trust: float
    _known: dict[tuple[int, str], float | None] = field(default_factory=dict)

    async def read(
        self, cast: Sequence[tuple[Completion | None, int | None]]
    ) -> list[float | None]:
        """Return the weight (at least 0) of each draft's ballot; None, which counts as the mean, if not read."""
        if len({ballot for _, ballot in cast} - {None}) < 2 or self.weight == "none":
            return [None] * len(cast)
        voters = [None if ballot is None else draft for draft, ballot in cast]
        drafts = {_key(draft): draft for draft in voters if draft is not None}
        unread = [key for key in drafts if key not in self._known]
        read = await self.run.map(lambda key: self._read(drafts[key]), unread, min_results=0)
        self._known.update(zip(unread, read, strict=True))
        return [None if draft is None else self._known.get(_key(draft)) for draft in voters]

    async def _read(self, draft: Completion) -> float | None:
        if self.weight == "confidence":
            return lowest_group_confidence(draft.confidences, self.group)
        return await calibrated_p_true(self.run, draft) if self.trust else None


def _key(draft: Completion) -> tuple[int, str]:
    return draft.index, draft.text

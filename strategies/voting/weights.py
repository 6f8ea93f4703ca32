"""What a draft's ballot weighs in a vote: the same for every strategy whose votes can be weighted."""

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
    """The params of a vote whose ballots may weigh differently."""

    uses: ClassVar[tuple[Use, ...]] = (("always_weigh", {"weight": ("p_true",)}),)

    weight: Weight = Field(
        default="none",
        description="what a ballot weighs; confidence: the lowest mean over `group` tokens; p_true: how probable the "
        "judge thinks it that the answer is right",
    )
    always_weigh: bool = Field(
        default=False, description="p_true: weigh also where the judge is not known to be any good"
    )


def weight_needs(params: WeightedVoteParams, task: Task) -> Needs:
    """What reading the weights needs: label probabilities of the judge where its p_true weighs ballots."""
    if params.weight != "p_true" or task.kind == "open":
        return {}
    return {"judge": {"labels"}}


def weight_trust(run: Run, weight: Weight, *, always: bool) -> float:
    """How far weights count, 0 to 1, and a note where they count for nothing; `always` as in `Model.trust`."""
    if weight != "none" and run.task.kind == "open":
        run.note("weight", "none: answers of open tasks cast no ballots that could be weighed")
        return 0.0
    return run.model("judge").trust(always=always) if weight == "p_true" else 1.0


@dataclass
class BallotWeights:
    """Reads what ballots weigh, each once, and none while all agree, for no weight could change such a vote.

    Confidence is the lowest mean over `group` tokens. A judge with a `trust` of 0 (see `weight_trust`) is not asked.
    """

    run: Run
    weight: Weight
    group: int
    trust: float
    _known: dict[tuple[int, int], float | None] = field(default_factory=dict)

    async def read(
        self, cast: Sequence[tuple[Completion | None, int | None]]
    ) -> list[float | None]:
        """The weight (0 or more) of each draft's ballot; None where there is none to read, which weighs the mean."""
        if len({ballot for _, ballot in cast} - {None}) < 2 or self.weight == "none":
            return [None] * len(cast)
        drafts = {
            (draft.index, ballot): draft
            for draft, ballot in cast
            if draft is not None and ballot is not None
        }

        unread = [key for key in drafts if key not in self._known]
        read = await self.run.map(lambda key: self._read(drafts[key]), unread, min_results=0)
        self._known.update(zip(unread, read, strict=True))
        return [
            None if draft is None or ballot is None else self._known.get((draft.index, ballot))
            for draft, ballot in cast
        ]

    async def _read(self, draft: Completion) -> float | None:
        if self.weight == "confidence":
            return lowest_group_confidence(draft.confidences, self.group)
        return await calibrated_p_true(self.run, draft) if self.trust else None

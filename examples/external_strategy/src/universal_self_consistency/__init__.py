"""Let a judge select the draft that is most consistent with the others."""

import importlib.resources
from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from secondpass.strategies.api.registry import Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Draw
from secondpass.strategies.prompts import add_prompts

add_prompts(importlib.resources.files(__package__) / "prompts")


class UniversalSelfConsistency(Params):
    """Parameters of `universal_self_consistency`."""

    n: int = Field(default=4, ge=1, le=9, description="drafts")
    temperature: float = Field(default=0.7, gt=0, le=2, description="of every draft")


@strategy(
    "universal_self_consistency",
    UniversalSelfConsistency,
    paper="2311.17311",
    signal="self-score",
    update="select",
    needs={"judge": ()},
)
async def universal_self_consistency(run: Run, params: UniversalSelfConsistency) -> Candidate:
    """Select the draft that a judge finds most consistent with the others.

    Paper: universal self-consistency (arXiv 2311.17311). Ours: the judge replies with one label, whose probability is
    the score.
    """
    found: list[Candidate] = []
    async with run.sample(SOLVE, params.n, draw=Draw(temperature=params.temperature)) as drafts:
        async for draft in drafts:
            found.append(run.candidate(draft))
            run.propose(found[-1])  # the answer if the budget ends the run here
    answered = sorted((each for each in found if each.answer is not None), key=lambda c: c.index)

    async def select(candidates: Sequence[Candidate]) -> None:
        labels = [str(number) for number, _ in enumerate(candidates, 1)]
        texts = [candidate.text for candidate in candidates]
        reply = await run.classify(
            "most_consistent", labels, question=run.question, candidates=texts
        )
        selected = candidates[labels.index(reply.verdict)]
        probability = reply.probability(reply.verdict)
        run.elect(replace(selected, score=probability, score_kind="p_most_consistent"))

    if len(answered) > 1:
        # `map` makes the call optional: without a verdict the first draft is the answer.
        await run.map(select, [answered], min_results=0)
    return run.best

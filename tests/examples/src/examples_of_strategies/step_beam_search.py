"""Search for a solution step by step, continuing only the beams whose steps are graded best."""

import math
from dataclasses import replace
from typing import Literal

from pydantic import Field

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.registry import Needs, Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw

_STEP = Draw(stop=("\n\n",), temperature=0.8)
_REST = replace(_STEP, stop=())


class StepBeamSearch(Params):
    """How wide and how deep the search is, and what grades a step."""

    width: int = Field(default=2, ge=1, le=16, description="beams that are kept after each step")
    k: int = Field(default=2, ge=1, le=16, description="continuations of each beam")
    max_steps: int = Field(default=8, ge=1, description="steps at most; the last one is the rest")
    grade: Literal["labels", "reward"] = Field(
        default="labels", description="a judge's labels, or the reward model's scores"
    )

    @property
    def chains(self) -> int:
        """Drafts that are begun at most."""
        return self.width * self.k


def _needs(params: StepBeamSearch, task: Task) -> Needs:
    actor: Needs = {"actor": {"prefix"}}
    return {**actor, "reward": {"reward"}} if params.grade == "reward" else actor


@strategy(
    "step_beam_search",
    StepBeamSearch,
    paper=None,
    signal="self-score",
    update="extend",
    needs=_needs,
)
async def step_beam_search(run: Run, params: StepBeamSearch) -> Candidate:
    """The best graded of the beams that survive a search step by step."""
    draws = iter([_STEP] * (params.max_steps - 1) + [_REST])
    draw = next(draws)

    async def begin(index: int) -> Completion:
        return await run.ask(SOLVE, index=index, draw=draw, resumable=True)

    async def expand(item: tuple[int, Completion]) -> list[Completion]:
        first, beam = item[0] * params.k, item[1]
        drawn = replace(draw, seed_offset=first)  # beams with one text are continued differently
        async with run.sample(SOLVE, params.k, prefix=beam, draw=drawn) as continuations:
            return [_seen(run, replace(c, index=first + c.index)) async for c in continuations]

    async def grade(beam: Completion) -> float:
        if params.grade == "reward":
            return await run.score(beam)
        verdict = await run.classify("right_so_far", ("yes", "no"), after=beam)
        probability = verdict.probability("yes")
        return float(verdict.verdict == "yes") if probability is None else probability

    async with run.as_completed(begin, range(params.width * params.k)) as drafts:
        grown = [_seen(run, draft) async for draft in drafts]
    kept = params.width  # less the beams that finished: each keeps its place
    while grown:
        grown.sort(key=lambda beam: beam.index)
        grades = await run.map(grade, grown, failed=-math.inf, min_results=0)
        ranked = sorted(zip(grades, grown, strict=True), key=lambda each: -each[0])
        for score, beam in ranked:
            _propose(run, beam, score)
        beams = [beam for _, beam in ranked[:kept] if _is_at_a_step(beam)]
        kept, draw = len(beams), next(draws, _REST)
        expansions = await run.map(expand, enumerate(beams), min_results=0)
        grown = [beam for expansion in expansions for beam in expansion or ()]
    return run.best


def _is_at_a_step(beam: Completion) -> bool:
    """True where the end of a step ended the beam, and not the model."""
    return beam.finish_reason == "stop" and (beam.reasoning + beam.text).endswith(_STEP.stop)


def _seen(run: Run, beam: Completion) -> Completion:
    """The beam, which is an answer already if it is finished."""
    _propose(run, beam, -math.inf)
    return beam


def _propose(run: Run, beam: Completion, grade: float) -> None:
    """A finished beam with its grade, which has none where it has no answer or could not be graded."""
    if _is_at_a_step(beam):
        return
    candidate = run.candidate(beam)
    if candidate.answer is not None and math.isfinite(grade):
        candidate = replace(candidate, score=grade, score_kind="step_grade")
    run.propose(candidate)

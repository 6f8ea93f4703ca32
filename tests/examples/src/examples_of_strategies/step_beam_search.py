"""Beam search over solution steps: only the beams with the best grades are continued."""

import math
from dataclasses import replace
from typing import Literal, NamedTuple

from pydantic import Field

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.registry import Needs, Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw

_STEP = Draw(stop=("\n\n",), temperature=0.8)
_REST = replace(_STEP, stop=())


class StepBeamSearch(Params):
    """Parameters of the beam search."""

    width: int = Field(default=2, ge=1, le=16, description="beams kept after each step")
    k: int = Field(default=2, ge=1, le=16, description="continuations per beam")
    max_steps: int = Field(
        default=8, ge=1, description="maximum steps; the last one has no stop sequence"
    )
    grade: Literal["labels", "reward"] = Field(
        default="labels",
        description="grades: label probabilities of the judge, or scores of the reward model",
    )

    @property
    def chains(self) -> int:
        """Maximum number of concurrent beams."""
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
    """Return the finished beam with the best grade."""
    draws = iter([_STEP] * (params.max_steps - 1))
    draw = next(draws, _REST)

    async def start(index: int) -> _Beam:
        return _create_beam(run, await run.ask(SOLVE, index=index, draw=draw, resumable=True), draw)

    async def expand(item: tuple[int, _Beam]) -> list[_Beam]:
        first, beam = item[0] * params.k, item[1]
        drawn = replace(draw, seed_offset=first)  # beams with equal text get different samples
        async with run.sample(SOLVE, params.k, prefix=beam.completion, draw=drawn) as found:
            each = [
                replace(completion, index=first + completion.index) async for completion in found
            ]
        return [_create_beam(run, completion, draw, beam.length) for completion in each]

    async def grade(beam: _Beam) -> float:
        if params.grade == "reward":
            return await run.score(beam.completion)
        verdict = await run.classify("right_so_far", ("yes", "no"), after=beam.completion)
        probability = verdict.probability("yes")
        return float(verdict.verdict == "yes") if probability is None else probability

    async with run.as_completed(start, range(params.width * params.k)) as drafts:
        grown = [beam async for beam in drafts]
    slots = params.width
    while grown:
        grown.sort(key=lambda beam: beam.completion.index)
        grades = await run.map(grade, grown, failed=-math.inf, min_results=0)
        ranked = sorted(zip(grades, grown, strict=True), key=lambda each: -each[0])
        for score, beam in ranked:
            beam.propose(run, score)
        kept = [beam for _, beam in ranked[:slots] if beam.is_open]
        slots, draw = len(kept), next(draws, _REST)  # a finished beam keeps its slot
        expansions = await run.map(expand, enumerate(kept))
        grown = [beam for expansion in expansions for beam in expansion or ()]
    return run.best


class _Beam(NamedTuple):
    """A beam. An open beam ends at a step boundary and can be continued."""

    completion: Completion
    is_open: bool

    @property
    def length(self) -> int:
        return len(self.completion.reasoning + self.completion.text)

    def propose(self, run: Run, grade: float = -math.inf) -> None:
        """Propose a finished beam, with its grade if it has a grade and an answer."""
        if not self.is_open:
            candidate = run.candidate(self.completion)
            if math.isfinite(grade) and candidate.answer is not None:
                candidate = replace(candidate, score=grade, score_kind="step_grade")
            run.propose(candidate)


def _create_beam(run: Run, completion: Completion, draw: Draw, before: int = 0) -> _Beam:
    """Create the beam with a new step. Propose it if the model or a limit has finished it."""
    is_at_boundary = (completion.reasoning + completion.text).endswith(draw.stop)
    beam = _Beam(completion, is_at_boundary and not completion.is_truncated)
    beam = beam._replace(is_open=beam.is_open and beam.length > before)
    beam.propose(run)
    return beam

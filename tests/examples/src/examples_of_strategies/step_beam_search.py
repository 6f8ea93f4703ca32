"""Search for a solution step by step, continuing only the beams whose steps are graded best."""

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
    draws = iter([_STEP] * (params.max_steps - 1))
    draw = next(draws, _REST)

    async def begin(index: int) -> _Beam:
        return _grown(run, await run.ask(SOLVE, index=index, draw=draw, resumable=True), draw)

    async def expand(item: tuple[int, _Beam]) -> list[_Beam]:
        first, beam = item[0] * params.k, item[1]
        drawn = replace(draw, seed_offset=first)  # beams with one text are continued differently
        async with run.sample(SOLVE, params.k, prefix=beam.whole, draw=drawn) as found:
            each = [replace(whole, index=first + whole.index) async for whole in found]
        return [_grown(run, whole, draw, beam.length) for whole in each]

    async def grade(beam: _Beam) -> float:
        if params.grade == "reward":
            return await run.score(beam.whole)
        verdict = await run.classify("right_so_far", ("yes", "no"), after=beam.whole)
        probability = verdict.probability("yes")
        return float(verdict.verdict == "yes") if probability is None else probability

    async with run.as_completed(begin, range(params.width * params.k)) as drafts:
        grown = [beam async for beam in drafts]
    places = params.width
    while grown:
        grown.sort(key=lambda beam: beam.whole.index)
        grades = await run.map(grade, grown, failed=-math.inf, min_results=0)
        ranked = sorted(zip(grades, grown, strict=True), key=lambda each: -each[0])
        for score, beam in ranked:
            beam.propose(run, score)
        kept = [beam for _, beam in ranked[:places] if beam.is_open]
        places, draw = len(kept), next(draws, _REST)  # a finished beam keeps its place
        expansions = await run.map(expand, enumerate(kept))
        grown = [beam for expansion in expansions for beam in expansion or ()]
    return run.best


class _Beam(NamedTuple):
    """A beam; an open one ended with a step, and may be continued."""

    whole: Completion
    is_open: bool

    @property
    def length(self) -> int:
        return len(self.whole.reasoning + self.whole.text)

    def propose(self, run: Run, grade: float = -math.inf) -> None:
        """Propose a finished beam, with its grade if it has one and an answer."""
        if not self.is_open:
            candidate = run.candidate(self.whole)
            if math.isfinite(grade) and candidate.answer is not None:
                candidate = replace(candidate, score=grade, score_kind="step_grade")
            run.propose(candidate)


def _grown(run: Run, whole: Completion, draw: Draw, before: int = 0) -> _Beam:
    """The beam with a new step, proposed if it is finished: by the model, or by a limit."""
    is_at_a_step = (whole.reasoning + whole.text).endswith(draw.stop)
    beam = _Beam(whole, is_at_a_step and not whole.is_truncated)
    beam = beam._replace(is_open=beam.is_open and beam.length > before)
    beam.propose(run)
    return beam

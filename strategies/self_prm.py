"""Have a model grade its own drafts, where they disagree, and let the grades weigh the vote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.calibration import GradeKind, believed
from secondpass.strategies.api.judgements import MARGIN
from secondpass.strategies.api.ranking import log_odds
from secondpass.strategies.api.registry import Needs, Variants, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw
from secondpass.strategies.judging.p_true import calibrated_p_true
from secondpass.strategies.judging.step_grades import Combine, graded_draft
from secondpass.strategies.judging.written_grades import (
    Reference,
    Written,
    own_reference,
    written_grade,
)
from secondpass.strategies.voting.vote import Vote, WeightedVote, count

Decided: TypeAlias = Annotated[
    float, Field(ge=0, le=1, description="no judge is asked above this vote share")
]
WithoutLabels: TypeAlias = Annotated[
    Literal["error", "vote"],
    Field(description="what to do where the judge's engine gives no label probabilities"),
]


class SelfPRM(Variants):
    """How many drafts, what is graded, and what the grades do."""

    discriminator = "grade"

    n: int = Field(default=4, ge=1, le=64, description="drafts")
    width: int = Field(default=4, ge=1, le=64, description="drafts at once at most")
    temperature: float = Field(default=0.7, gt=0, le=2, description="of every draft")
    select: Literal["vote", "argmax"] = Field(
        default="vote", description="vote: grades weigh the vote; argmax: the best grade wins"
    )
    always_weigh: bool = Field(
        default=False, description="use grades even of a kind not calibrated, or with AUROC < 0.6"
    )

    @property
    def kind(self) -> GradeKind:
        """The kind of grades, as calibrations tell them apart."""
        return "solution"

    @property
    def raw(self) -> str:
        """What a grade is called that is not calibrated; one that is, is a p_true."""
        return "p_true"


class SolutionGrades(SelfPRM):
    """Whole drafts are graded by label probabilities, where they disagree."""

    grade: Literal["solution"] = "solution"
    decided: Decided = 0.75
    without_labels: WithoutLabels = "error"


class StepGrades(SelfPRM):
    """Each step is graded by label probabilities as it is written."""

    grade: Literal["steps"]
    combine: Combine = Field(
        default="mean", description="the mean of the log-odds of all steps, or the last one"
    )
    abandon_below: float = Field(
        default=0.0, ge=0, lt=1, description="a draft with a step graded lower is aborted"
    )
    without_labels: WithoutLabels = "error"

    @property
    def kind(self) -> GradeKind:
        return "steps_last" if self.combine == "last" else "steps_mean"

    @property
    def raw(self) -> str:
        return "step_score"


class WrittenGrades(SelfPRM):
    """Drafts are graded in the judge's words, where they disagree."""

    grade: Written = Field(
        description="verdict: on the whole draft; first_error: how much comes before the first wrong step"
    )
    samples: int = Field(
        default=1, ge=1, le=16, description="verdicts of a draft, of which the mean counts"
    )
    reference: Reference = Field(
        default="auto",
        description="the judge first writes a solution of its own; auto: as its profile says",
    )
    decided: Decided = 0.75

    @property
    def kind(self) -> GradeKind:
        return self.grade

    @property
    def raw(self) -> str:
        return "share_before_error" if self.grade == "first_error" else "share_of_verdicts"


def _is_idle(params: SelfPRM, task: Task) -> bool:
    """Can grades change nothing? Answers of open tasks have no votes that grades could weigh."""
    abandons = isinstance(params, StepGrades) and params.abandon_below > 0
    return task.kind == "open" and not abandons


def _needs(params: SelfPRM, task: Task) -> Needs:
    """What a run needs: label probabilities of the judge where grades are read from them, unless votes may be plain."""
    if not isinstance(params, SolutionGrades | StepGrades) or _is_idle(params, task):
        return {}
    return {"judge": {"labels"}} if params.without_labels == "error" else {}


@dataclass(frozen=True, slots=True)
class Graded:
    """A draft, its candidate and its class; `grade` (0 to 1) is how probably it is right, None where not graded."""

    draft: Completion
    candidate: Candidate
    ballot: int | None
    grade: float | None = None


@strategy(
    "self_prm",
    SelfPRM,
    paper="2505.11227",
    signal="self-score",
    update="select",
    needs=_needs,
)
async def self_prm(run: Run, params: SelfPRM) -> Candidate:
    """The model grades its own drafts where they disagree; answers are voted, each weighted by its draft's grade.

    Paper: Self-PRM (arXiv 2505.11227), whose argmax is `select`. Ours: label probabilities in place of a written
    verdict, unless `grade` asks for one; only disagreement is judged; a judge that is not known to be any good weighs
    nothing.
    """
    trust = _trust(run, params)
    vote = Vote(n=params.n)
    graded: list[Graded] = []
    abandoned = 0
    async with _drafts(run, params, trust) as drafts:
        async for found in drafts:
            if found is None:
                abandoned += 1
                continue
            draft, grade = found
            graded.append(Graded(draft, *await count(run, vote, draft), grade))
    if isinstance(params, StepGrades) and params.abandon_below and trust:
        run.note("abandoned", f"{abandoned} of {params.n} drafts")
    if not graded:  # every draft was abandoned: one that nobody grades is better than none
        draw = Draw(temperature=params.temperature)
        run.elect(run.candidate(await run.ask(SOLVE, index=params.n, draw=draw)))
    if trust and _is_open_to_grades(params, vote.share):
        graded = await _grade_disagreement(run, params, vote, graded)
    if any(each.grade is not None and each.ballot is not None for each in graded):
        run.elect(_elected(run, params, graded, trust))
    return run.best


def _is_open_to_grades(params: SelfPRM, share: float | None) -> bool:
    """Can grades change what is elected? Of one answer they can only choose another text, which argmax does."""
    if not isinstance(params, SolutionGrades | WrittenGrades) or share is None:
        return False
    return share <= params.decided and (share < 1.0 or params.select == "argmax")


def _trust(run: Run, params: SelfPRM) -> float:
    """How far grades count: 0 where they could change nothing, or cannot be read."""
    judge = run.model("judge")
    if _is_idle(params, run.task):
        run.note("judge", "not asked: answers of open tasks have no votes that grades could weigh")
        return 0.0
    if not isinstance(params, WrittenGrades) and not judge.can("labels"):
        run.note("judge", "its engine lacks the capability labels: unweighted votes")
        return 0.0
    return judge.trust(params.kind, always=params.always_weigh)


def _drafts(
    run: Run, params: SelfPRM, trust: float
) -> AbstractAsyncContextManager[AsyncIterator[tuple[Completion, float | None] | None]]:
    """Drafts as they finish, with the grade of their steps where these are graded; None for an abandoned one."""
    measured = run.model("judge").calibration(params.kind)

    async def write(index: int) -> tuple[Completion, float | None] | None:
        if not trust or not isinstance(params, StepGrades):
            draw = Draw(temperature=params.temperature)
            return await run.ask(SOLVE, index=index, draw=draw), None
        graded = await graded_draft(
            run,
            index=index,
            temperature=params.temperature,
            abandon_below=params.abandon_below,
        )
        if graded is None:
            return None
        read = graded.combined(params.combine)
        return graded.draft, None if read is None else believed(read, measured)

    return run.as_completed(write, range(params.n), width=params.width)


async def _grade_disagreement(
    run: Run, params: SelfPRM, vote: Vote, drawn: Sequence[Graded]
) -> list[Graded]:
    """The drafts with grades: of one draft of each of the two leading answers, and of all where these are close."""
    grade = await _grader(run, params)

    async def grades(some: Sequence[Graded]) -> dict[int, float | None]:
        read = await run.map(grade, [each.draft for each in some], min_results=0)
        return {each.candidate.index: one for each, one in zip(some, read, strict=True)}

    leaders = [next(each for each in drawn if each.candidate == c) for c in vote.leaders(2)]
    found = await grades(leaders)
    odds = [log_odds(each) for each in found.values() if each is not None]
    if len(odds) == 2 and abs(odds[0] - odds[1]) > MARGIN and params.select == "vote":
        run.note("graded", f"2 of {len(drawn)} drafts: one of each leading answer")
        known = {each.ballot: found[each.candidate.index] for each in leaders}
        return [replace(each, grade=known.get(each.ballot)) for each in drawn]
    found |= await grades(
        [e for e in drawn if e.candidate.index not in found and e.ballot is not None]
    )
    run.note("graded", f"{len(found)} of {len(drawn)} drafts")
    return [replace(each, grade=found.get(each.candidate.index)) for each in drawn]


async def _grader(run: Run, params: SelfPRM) -> Callable[[Completion], Awaitable[float | None]]:
    """What grades a finished draft; a reference of the judge's is written once, for all of them."""
    if not isinstance(params, WrittenGrades):
        return partial(calibrated_p_true, run)
    reference = await own_reference(run, params.reference)

    async def grade(draft: Completion) -> float | None:
        return await written_grade(
            run, draft, params.grade, samples=params.samples, reference=reference
        )

    return grade


def _elected(run: Run, params: SelfPRM, graded: Sequence[Graded], trust: float) -> Candidate:
    """The leader of the weighted vote, or the draft with the highest grade, ties to the lower index."""
    if params.select == "argmax":
        best = max(
            (each for each in graded if each.ballot is not None and each.grade is not None),
            key=lambda each: (each.grade or 0.0, -each.candidate.index),
        )
        kind = "p_true" if run.model("judge").calibration(params.kind) else params.raw
        return replace(best.candidate, score=best.grade, score_kind=kind, why="best grade")
    vote = WeightedVote(n=params.n, trust=trust)
    for each in graded:
        vote.add(each.candidate, each.ballot, each.grade)
    return vote.leader

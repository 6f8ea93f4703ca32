"""Have the model grade its own drafts where they disagree; the grades weight the vote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.calibration import GradeKind, apply_calibration
from secondpass.strategies.api.judgements import MARGIN
from secondpass.strategies.api.ranking import log_odds
from secondpass.strategies.api.registry import Needs, Variants, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw
from secondpass.strategies.judging.p_true import calibrated_p_true
from secondpass.strategies.judging.step_grades import Combine, graded_draft
from secondpass.strategies.judging.written_grades import (
    Reference,
    WrittenKind,
    reference_solution,
    written_grade,
)
from secondpass.strategies.voting.vote import Vote, WeightedVote, cast_vote

Decided: TypeAlias = Annotated[
    float, Field(ge=0, le=1, description="skip the judge if the leader's vote share is above this")
]
WithoutLabels: TypeAlias = Annotated[
    Literal["error", "vote"],
    Field(
        description="if the judge's engine returns no label probabilities: error, or an unweighted vote"
    ),
]


class SelfPRM(Variants):
    """Number of drafts, the kind of grades, and their use."""

    discriminator = "grade"

    n: int = Field(default=4, ge=1, le=64, description="drafts")
    width: int = Field(
        default=4, ge=1, le=64, description="maximum number of concurrent drafts; above n: as n"
    )
    temperature: float = Field(
        default=0.7, gt=0, le=2, description="sampling temperature of drafts"
    )
    select: Literal["vote", "argmax"] = Field(
        default="vote",
        description="vote: grades weight the vote; argmax: the draft with the highest grade wins",
    )
    always_weigh: bool = Field(
        default=False,
        description="use grades of a kind that is not calibrated or has an AUROC below 0.6",
    )

    @property
    def sequential_calls(self) -> int:
        """The draft and its grade."""
        return 2

    @property
    def kind(self) -> GradeKind:
        """The kind of grades, which selects their calibration."""
        return "solution"

    @property
    def raw(self) -> str:
        """The `score_kind` of a grade that is not calibrated; a calibrated grade is a `p_true`."""
        return "p_true"


class SolutionGrades(SelfPRM):
    """Grade whole drafts by label probabilities where they disagree."""

    grade: Literal["solution"] = "solution"
    decided: Decided = 0.75
    without_labels: WithoutLabels = "error"


class StepGrades(SelfPRM):
    """Grade each step by label probabilities during generation."""

    grade: Literal["steps"]
    combine: Combine = Field(
        default="mean",
        description="grade of a draft; mean: the mean log-odds of its step grades; last: the grade of its last step",
    )
    abandon_below: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="abort a draft when a step is graded below this; 0: never",
    )
    without_labels: WithoutLabels = "error"

    @property
    def kind(self) -> GradeKind:
        return "steps_last" if self.combine == "last" else "steps_mean"

    @property
    def raw(self) -> str:
        return "step_score"


class WrittenGrades(SelfPRM):
    """Grade drafts by the judge's written verdicts where they disagree."""

    grade: WrittenKind = Field(
        description="verdict: a verdict on the whole draft; first_error: the share of steps before the first wrong one"
    )
    samples: int = Field(
        default=1,
        ge=1,
        le=16,
        description="written verdicts per draft; the grade is their mean",
    )
    reference: Reference = Field(
        default="auto",
        description="let the judge first write a reference solution; auto: as its model profile recommends",
    )
    decided: Decided = 0.75

    @property
    def kind(self) -> GradeKind:
        return self.grade

    @property
    def raw(self) -> str:
        return "share_before_error" if self.grade == "first_error" else "share_of_verdicts"


def _has_no_effect(params: SelfPRM, task: Task) -> bool:
    """True if grades have no effect: answers to open tasks cast no votes that they could weight."""
    abandons = isinstance(params, StepGrades) and params.abandon_below > 0
    return task.kind == "open" and not abandons


def _needs(params: SelfPRM, task: Task) -> Needs:
    """Return {"judge": {"labels"}} if grades need label probabilities and a plain vote is not allowed."""
    if not isinstance(params, SolutionGrades | StepGrades) or _has_no_effect(params, task):
        return {}
    return {"judge": {"labels"}} if params.without_labels == "error" else {}


@dataclass(frozen=True, slots=True)
class Graded:
    """A draft, its candidate, its answer class, and the probability (0 to 1) that it is correct.

    `grade` is None for a draft that was not graded.
    """

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
    """Have the model grade its own drafts where they disagree; the grades weight the vote.

    Papers: Self-PRM (arXiv 2505.11227), whose argmax is `select: argmax` and whose own reference is `reference`;
    P(True) (2207.05221) and CISC (2502.06233) for grades as weights.

    Ours: label probabilities in place of a written verdict, unless `grade` asks for one; only disagreement is graded;
    grades without a useful calibration have no weight.
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
            graded.append(Graded(draft, *await cast_vote(run, vote, draft), grade))
    if isinstance(params, StepGrades) and params.abandon_below and trust:
        run.note("abandoned", f"{abandoned} of {params.n} drafts")
    if not graded:  # every draft was abandoned
        draw = Draw(temperature=params.temperature)
        run.elect(run.candidate(await run.ask(SOLVE, index=params.n, draw=draw)))
    if trust and _could_grades_matter(params, vote.share):
        graded = await _grade_disagreement(run, params, vote, graded)
    if any(each.grade is not None and each.ballot is not None for each in graded):
        run.elect(_elected(run, params, graded, trust))
    return run.best


def _could_grades_matter(params: SelfPRM, share: float | None) -> bool:
    """True if grades can change the result: drafts with one answer matter only to argmax."""
    if not isinstance(params, SolutionGrades | WrittenGrades) or share is None:
        return False
    return share <= params.decided and (share < 1.0 or params.select == "argmax")


def _trust(run: Run, params: SelfPRM) -> float:
    """Return the weight of grades: 0 if they have no effect, cannot be read, or are not trusted."""
    judge = run.model("judge")
    if _has_no_effect(params, run.task):
        run.note(
            "judge", "not called: answers to open tasks cast no votes that grades could weight"
        )
        return 0.0
    if not isinstance(params, WrittenGrades) and not judge.can("labels"):
        run.note("judge", "its engine lacks the capability labels: unweighted votes")
        return 0.0
    return judge.trust(params.kind, always=params.always_weigh)


def _drafts(
    run: Run, params: SelfPRM, trust: float
) -> AbstractAsyncContextManager[AsyncIterator[tuple[Completion, float | None] | None]]:
    """Yield drafts as they finish, with their step grade if any; None for an abandoned draft."""
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
        return graded.draft, None if read is None else apply_calibration(read, measured)

    return run.as_completed(write, range(params.n), width=params.width)


async def _grade_disagreement(
    run: Run, params: SelfPRM, vote: Vote, drawn: Sequence[Graded]
) -> list[Graded]:
    """Grade one draft of each of the two leading answers, and all others where these grades are close."""
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
    """Return the function that grades a finished draft; a reference is written once for all drafts."""
    if not isinstance(params, WrittenGrades):
        return partial(calibrated_p_true, run)
    reference = await reference_solution(run, params.reference)

    async def grade(draft: Completion) -> float | None:
        return await written_grade(
            run, draft, params.grade, samples=params.samples, reference=reference
        )

    return grade


def _elected(run: Run, params: SelfPRM, graded: Sequence[Graded], trust: float) -> Candidate:
    """Return the leader of the weighted vote, or the highest grade; ties go to the lower index."""
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

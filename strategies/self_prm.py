"""Have a model grade its own drafts, where they disagree, and let the grades weigh the vote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from pydantic import Field

from secondpass.strategies.api.calibration import GradeKind, believed
from secondpass.strategies.api.errors import CapabilityMissing
from secondpass.strategies.api.judgements import MARGIN
from secondpass.strategies.api.ranking import log_odds
from secondpass.strategies.api.registry import Params, Use, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion
from secondpass.strategies.judging.p_true import calibrated_p_true
from secondpass.strategies.judging.step_grades import Combine, graded_draft
from secondpass.strategies.judging.written_grades import (
    Reference,
    Written,
    own_reference,
    written_grade,
)
from secondpass.strategies.voting.vote import Vote, WeightedVote, count

_WRITTEN = get_args(Written)
_RAW = {
    "solution": "p_true",
    "steps": "step_score",
    "first_error": "share_before_error",
    "verdict": "share_of_verdicts",
}
"""What a grade is called that is not calibrated; one that is, is a p_true."""


class SelfPRM(Params):
    """How many drafts, what is graded, and what the grades do."""

    uses: ClassVar[tuple[Use, ...]] = (
        ("samples", {"grade": _WRITTEN}),
        ("reference", {"grade": _WRITTEN}),
        ("combine", {"grade": ("steps",)}),
        ("abandon_below", {"grade": ("steps",)}),
        ("decided", {"grade": ("solution", *_WRITTEN)}),
        ("without_labels", {"grade": ("solution", "steps")}),
    )

    n: int = Field(default=4, ge=1, le=64, description="drafts")
    width: int = Field(default=4, ge=1, le=64, description="drafts at once at most")
    temperature: float = Field(default=0.7, gt=0, le=2, description="of every draft")
    grade: Literal["solution", "steps", "first_error", "verdict"] = Field(
        default="solution",
        description="solution: whole drafts, where they disagree; verdict: these, in the judge's words; first_error: how "
        "much of these comes before the first wrong step, in the judge's words; steps: each step as it is written",
    )
    samples: int = Field(
        default=1,
        ge=1,
        le=16,
        description="first_error, verdict: verdicts of a draft, of which the mean counts",
    )
    reference: Reference = Field(
        default="auto",
        description="first_error, verdict: the judge first writes a solution of its own; auto: as its profile says",
    )
    combine: Combine = Field(
        default="mean", description="steps: the mean of the log-odds of all steps, or the last one"
    )
    abandon_below: float = Field(
        default=0.0, ge=0, lt=1, description="steps: a draft with a step graded lower is aborted"
    )
    decided: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="solution, first_error, verdict: no judge is asked above this vote share",
    )
    select: Literal["vote", "argmax"] = Field(
        default="vote", description="vote: grades weigh the vote; argmax: the best grade wins"
    )
    always_weigh: bool = Field(
        default=False, description="use grades even of a kind not calibrated, or with AUROC < 0.6"
    )
    without_labels: Literal["error", "vote"] = Field(
        default="error",
        description="solution, steps: what to do where the judge's engine gives no label probabilities",
    )

    @property
    def kind(self) -> GradeKind:
        """The kind of grades, as calibrations tell them apart."""
        if self.grade != "steps":
            return self.grade
        return "steps_last" if self.combine == "last" else "steps_mean"


@dataclass(frozen=True, slots=True)
class Graded:
    """A draft, its candidate and its class; `grade` (0 to 1) is how probably it is right, None where not graded."""

    draft: Completion
    candidate: Candidate
    ballot: int | None
    grade: float | None = None


@strategy("self_prm", SelfPRM, paper="2505.11227", signal="self-score", update="select")
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
    if params.abandon_below and trust:
        run.note("abandoned", f"{abandoned} of {params.n} drafts")
    if not graded:  # every draft was abandoned: one that nobody grades is better than none
        run.elect(
            run.candidate(await run.ask(SOLVE, index=params.n, temperature=params.temperature))
        )
    if trust and params.grade != "steps" and _is_open_to_grades(params, vote.share):
        graded = await _grade_disagreement(run, params, vote, graded)
    if any(each.grade is not None and each.ballot is not None for each in graded):
        run.elect(_elected(run, params, graded, trust))
    return run.best


def _is_open_to_grades(params: SelfPRM, share: float | None) -> bool:
    """Can grades change what is elected? Of one answer they can only choose another text, which argmax does."""
    if share is None or (share == 1.0 and params.select == "vote"):
        return False
    return share <= params.decided


def _trust(run: Run, params: SelfPRM) -> float:
    """How far grades count. Raises CapabilityMissing without label probabilities, unless the params say what then."""
    if run.task.kind == "open" and not params.abandon_below:
        run.note("judge", "not asked: answers of open tasks have no votes that grades could weigh")
        return 0.0
    try:
        if params.grade not in _WRITTEN:
            run.require("judge", "labels")
    except CapabilityMissing as error:
        if params.without_labels == "error":
            raise
        run.note("judge", f"{error}: unweighted votes")
        return 0.0
    return run.trust("judge", kind=params.kind, always=params.always_weigh)


def _drafts(
    run: Run, params: SelfPRM, trust: float
) -> AbstractAsyncContextManager[AsyncIterator[tuple[Completion, float | None] | None]]:
    """Drafts as they finish, with the grade of their steps where these are graded; None for an abandoned one."""
    measured = run.calibration("judge", params.kind)

    async def write(index: int) -> tuple[Completion, float | None] | None:
        if not trust or params.grade != "steps":
            return await run.ask(SOLVE, index=index, temperature=params.temperature), None
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
    leaders = [next(each for each in drawn if each.candidate == c) for c in vote.leaders(2)]
    first = {each.candidate.index: each for each in await run.map(grade, leaders)}
    odds = [log_odds(each.grade) for each in first.values() if each.grade is not None]
    if len(odds) == 2 and abs(odds[0] - odds[1]) > MARGIN and params.select == "vote":
        run.note("graded", f"2 of {len(drawn)} drafts: one of each leading answer")
        known = {each.ballot: each.grade for each in first.values()}
        return [replace(each, grade=known.get(each.ballot)) for each in drawn]
    others = [e for e in drawn if e.candidate.index not in first and e.ballot is not None]
    rest = {each.candidate.index: each for each in await run.map(grade, others)}
    run.note("graded", f"{len(first) + len(rest)} of {len(drawn)} drafts")
    return [(first | rest).get(each.candidate.index, each) for each in drawn]


async def _grader(run: Run, params: SelfPRM) -> Callable[[Graded], Awaitable[Graded]]:
    """What grades a finished draft; a reference of the judge's is written once, for all of them."""
    kind = params.grade
    if kind not in ("first_error", "verdict"):
        return lambda each: _read(run, each)
    reference = await own_reference(run, params.reference)

    async def grade(each: Graded) -> Graded:
        found = await written_grade(
            run, each.draft, kind, samples=params.samples, reference=reference
        )
        return replace(each, grade=found)

    return grade


async def _read(run: Run, each: Graded) -> Graded:
    return replace(each, grade=await calibrated_p_true(run, each.draft))


def _elected(run: Run, params: SelfPRM, graded: Sequence[Graded], trust: float) -> Candidate:
    """The leader of the weighted vote, or the draft with the highest grade, ties to the earlier."""
    if params.select == "argmax":
        best = max(
            (each for each in graded if each.ballot is not None and each.grade is not None),
            key=lambda each: each.grade or 0.0,
        )
        kind = "p_true" if run.calibration("judge", params.kind) else _RAW[params.grade]
        return replace(best.candidate, score=best.grade, score_kind=kind, why="best grade")
    vote = WeightedVote(n=params.n, trust=trust)
    for each in graded:
        vote.add(each.candidate, each.ballot, each.grade)
    return vote.leader

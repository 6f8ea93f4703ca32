"""The measurement of `secondpass calibrate`: drafts of a question, their grades of each kind, and the fitted calibration."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from secondpass.service.cli.calibrate.options import Also
from secondpass.service.cli.common.failure import Failure
from secondpass.service.lab.evaluation.scores import auroc
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.calibration import (
    Calibration,
    GradeKind,
    Measured,
    Others,
    fit_temperature,
)
from secondpass.strategies.api.errors import UnusableCompletion, VerdictUnreadable
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw
from secondpass.strategies.judging import p_true, step_grades
from secondpass.strategies.judging.step_grades import GradedDraft, graded_draft
from secondpass.strategies.judging.written_grades import Written, own_reference, written_grade

_LABELS: Mapping[GradeKind, tuple[str, str]] = {
    "solution": p_true.LABELS,
    "steps_mean": step_grades.LABELS,
    "steps_last": step_grades.LABELS,
}


@dataclass(frozen=True, slots=True)
class Grade:
    """How probably right (0 to 1) a draft is, and the labels' mass (0 to 1) where labels were read."""

    score: float
    mass: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A draft that its own model graded, at least in one way, and whether it is right."""

    grades: Mapping[GradeKind, Grade]
    is_right: bool


def kinds_of(also: Collection[Also]) -> tuple[Others, ...]:
    """The kinds of grades that are measured besides reads of whole solutions."""
    kinds: list[Others] = []
    for each in dict.fromkeys(also):
        kinds += ("steps_mean", "steps_last") if each == "steps" else (each,)
    return tuple(kinds)


@dataclass(frozen=True, slots=True)
class Grader:
    """Draws drafts of one question and has them graded, exactly as strategies do; `reference` is for written grades."""

    run: LiveRun
    also: Collection[Also]
    reference: str | None

    def drafts(
        self, samples: int, temperature: float | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Completion | GradedDraft]]:
        """So many drafts as they finish, with the grades of their steps where these are measured."""
        if "steps" not in self.also:
            return self.run.sample(SOLVE, samples, draw=Draw(temperature=temperature))

        async def write(index: int) -> Completion | GradedDraft:
            graded = await graded_draft(self.run, index=index, temperature=temperature)
            if graded is None:  # pragma: no cover - none is aborted where no grade is too low
                raise AssertionError("a draft was aborted")
            return graded

        return self.run.as_completed(write, range(samples))

    async def judged(self, drawn: Completion | GradedDraft, gold: str) -> Judged | None:
        """The draft's grades; None where it has no answer, which no vote counts either, or cannot be graded at all."""
        draft = drawn.draft if isinstance(drawn, GradedDraft) else drawn
        right = await self.run.class_of(Candidate(text=gold, answer=gold))
        found = await self.run.class_of(self.run.candidate(draft))
        if found is None:
            return None
        grades = await self._whole(draft)
        if isinstance(drawn, GradedDraft):
            mean, last = drawn.combined("mean"), drawn.combined("last")
            if mean is not None and last is not None:
                grades["steps_mean"] = Grade(mean, drawn.mass)
                grades["steps_last"] = Grade(last, drawn.mass)
        return Judged(grades, found == right) if grades else None

    async def _whole(self, draft: Completion) -> dict[GradeKind, Grade]:
        grades: dict[GradeKind, Grade] = {}
        try:
            read = await p_true.p_true(self.run, draft)
            grades["solution"] = Grade(read.probability, read.mass)
        except (UnusableCompletion, VerdictUnreadable):
            pass
        for kind in get_args(Written):
            if kind in self.also:
                score = await written_grade(self.run, draft, kind, reference=self.reference)
                if score is not None:
                    grades[kind] = Grade(score)
        return grades


async def grader_of(run: LiveRun, also: Collection[Also]) -> Grader:
    """What grades drafts of the run's question; the judge's own solution is written first where strategies would."""
    is_shown = not {*get_args(Written)}.isdisjoint(also)
    return Grader(run, also, await own_reference(run) if is_shown else None)


def fitted(
    model: str,
    judged: Sequence[Judged],
    kinds: Sequence[Others],
    digest: str,
    say: Callable[[str], None],
) -> Calibration:
    """The calibration that the judged drafts make. Raises Failure where all are right or all are wrong.

    One of `kinds` that cannot be fitted is left out, and said.
    """
    grades: dict[Others, Measured] = {}
    for kind in kinds:
        try:
            grades[kind] = _fitted(kind, judged)
        except Failure as error:
            say(f"{kind} is not in the file: {error}")
    return Calibration.model_validate(
        {
            "model": model,
            **_fitted("solution", judged).model_dump(),
            "drawn": datetime.now(UTC).date(),
            "data": digest,
            "grades": grades,
        }
    )


def _fitted(kind: GradeKind, judged: Sequence[Judged]) -> Measured:
    known = [(each.grades[kind], each.is_right) for each in judged if kind in each.grades]
    if not known:
        raise Failure("no draft held an answer that could be judged")
    scores, are_right = [grade.score for grade, _ in known], [is_right for _, is_right in known]
    area = auroc(scores, are_right)
    if area is None:
        which = "right" if any(are_right) else "wrong"
        raise Failure(f"all {len(known)} drafts with an answer are {which}: take other questions")
    temperature, offset = fit_temperature(scores, are_right)
    masses = [grade.mass for grade, _ in known if grade.mass is not None]
    return Measured(
        labels=_LABELS.get(kind),
        mass=sum(masses) / len(masses) if masses else None,
        temperature=temperature,
        offset=offset,
        auroc=area,
        accuracy=sum(are_right) / len(known),
        n=len(known),
    )

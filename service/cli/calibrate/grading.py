"""Drafts of a question, their grades of each kind, and the calibration fitted to all grades."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from secondpass.service.cli.calibrate.options import ExtraGrade
from secondpass.service.cli.common.failure import Failure
from secondpass.service.lab.evaluation.scores import auroc
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.calibration import (
    Calibration,
    GradeCalibration,
    GradeKind,
    OtherGradeKind,
    fit_temperature,
)
from secondpass.strategies.api.errors import UnusableCompletion, VerdictUnreadable
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw
from secondpass.strategies.judging import p_true, step_grades
from secondpass.strategies.judging.step_grades import GradedDraft, graded_draft
from secondpass.strategies.judging.written_grades import (
    WrittenKind,
    reference_solution,
    written_grade,
)

_LABELS: Mapping[GradeKind, tuple[str, str]] = {
    "solution": p_true.LABELS,
    "steps_mean": step_grades.LABELS,
    "steps_last": step_grades.LABELS,
}
"""Labels of each kind of grades that is read from label probabilities, the one for "right" first."""


@dataclass(frozen=True, slots=True)
class Grade:
    """Grade of a draft (0 to 1), and the probability mass of the labels (0 to 1); None if it was written."""

    score: float
    mass: float | None = None


@dataclass(frozen=True, slots=True)
class DraftGrades:
    """Grades of one draft by its model, at least one kind, and whether the draft is correct."""

    grades: Mapping[GradeKind, Grade]
    is_right: bool


def grade_kinds(also: Collection[ExtraGrade]) -> tuple[OtherGradeKind, ...]:
    """Return the kinds of grades to measure in addition to those of whole solutions."""
    kinds: list[OtherGradeKind] = []
    for extra in dict.fromkeys(also):
        kinds += ("steps_mean", "steps_last") if extra == "steps" else (extra,)
    return tuple(kinds)


@dataclass(frozen=True, slots=True)
class Grader:
    """Draws drafts of one question and grades them as strategies do.

    Attributes:
        run: The run of the question.
        also: Additional kinds of grades.
        reference: The judge's solution, shown to it for written grades.
    """

    run: LiveRun
    also: Collection[ExtraGrade]
    reference: str | None

    def drafts(
        self, samples: int, temperature: float | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Completion | GradedDraft]]:
        """Yield drafts as they finish, with grades of their steps if `also` contains "steps"."""
        if "steps" not in self.also:
            return self.run.sample(SOLVE, samples, draw=Draw(temperature=temperature))

        async def draft(index: int) -> Completion | GradedDraft:
            graded = await graded_draft(self.run, index=index, temperature=temperature)
            if graded is None:  # pragma: no cover - no minimum grade is set
                raise AssertionError("a draft was aborted")
            return graded

        return self.run.as_completed(draft, range(samples))

    async def grade(self, drawn: Completion | GradedDraft, gold: str) -> DraftGrades | None:
        """Return the draft's grades, None if it has no answer or no kind of grades could be read."""
        draft = drawn.draft if isinstance(drawn, GradedDraft) else drawn
        right_class = await self.run.class_of(Candidate(text=gold, answer=gold))
        answer_class = await self.run.class_of(self.run.candidate(draft))
        if answer_class is None:
            return None
        grades = await self._grade_solution(draft)
        if isinstance(drawn, GradedDraft):
            mean, last = drawn.combined("mean"), drawn.combined("last")
            if mean is not None and last is not None:
                grades["steps_mean"] = Grade(mean, drawn.mass)
                grades["steps_last"] = Grade(last, drawn.mass)
        return DraftGrades(grades, answer_class == right_class) if grades else None

    async def _grade_solution(self, draft: Completion) -> dict[GradeKind, Grade]:
        grades: dict[GradeKind, Grade] = {}
        try:
            read = await p_true.p_true(self.run, draft)
            grades["solution"] = Grade(read.probability, read.mass)
        except (UnusableCompletion, VerdictUnreadable):
            pass
        for kind in get_args(WrittenKind):
            if kind in self.also:
                score = await written_grade(self.run, draft, kind, reference=self.reference)
                if score is not None:
                    grades[kind] = Grade(score)
        return grades


async def make_grader(run: LiveRun, also: Collection[ExtraGrade]) -> Grader:
    """Return the grader of a run, with the judge's solution if written grades and its profile need one."""
    needs_reference = not {*get_args(WrittenKind)}.isdisjoint(also)
    return Grader(run, also, await reference_solution(run) if needs_reference else None)


def fit_calibration(
    model: str,
    graded: Sequence[DraftGrades],
    kinds: Sequence[OtherGradeKind],
    digest: str,
    warn: Callable[[str], None],
) -> Calibration:
    """Fit a calibration to graded drafts.

    Args:
        model: Name of the model.
        graded: Grades of all drafts.
        kinds: Additional kinds of grades. A kind that cannot be fitted is left out with a warning.
        digest: SHA-256 of the questions.
        warn: Prints a warning.

    Raises:
        Failure: No draft was graded, or all graded drafts are correct, or all are incorrect.
    """
    grades: dict[OtherGradeKind, GradeCalibration] = {}
    for kind in kinds:
        try:
            grades[kind] = _fit(kind, graded)
        except Failure as error:
            warn(f"{kind} is not in the file: {error}")
    return Calibration.model_validate(
        {
            "model": model,
            **_fit("solution", graded).model_dump(),
            "drawn": datetime.now(UTC).date(),
            "data": digest,
            "grades": grades,
        }
    )


def _fit(kind: GradeKind, graded: Sequence[DraftGrades]) -> GradeCalibration:
    found = [(draft.grades[kind], draft.is_right) for draft in graded if kind in draft.grades]
    if not found:
        raise Failure("no draft with an answer could be graded")
    scores, are_right = [grade.score for grade, _ in found], [is_right for _, is_right in found]
    area = auroc(scores, are_right)
    if area is None:
        outcome = "right" if any(are_right) else "wrong"
        raise Failure(f"all {len(found)} drafts with an answer are {outcome}: use other questions")
    temperature, offset = fit_temperature(scores, are_right)
    masses = [grade.mass for grade, _ in found if grade.mass is not None]
    return GradeCalibration(
        labels=_LABELS.get(kind),
        mass=sum(masses) / len(masses) if masses else None,
        temperature=temperature,
        offset=offset,
        auroc=area,
        accuracy=sum(are_right) / len(found),
        n=len(found),
    )

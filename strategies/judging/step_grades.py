"""Drafts with step grades, read from label probabilities during generation.

`secondpass calibrate` uses the same reads, so its calibration is valid for drafts graded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from secondpass.strategies.api.ranking import mean_log_odds, probability_of
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Completion, Draw, LabelDistribution

LABELS = ("yes", "no")
"""Labels of a correct and of an incorrect step."""

Combine: TypeAlias = Literal["mean", "last"]
"""Grade of a draft from its step grades: the mean of their log-odds, or the last grade."""


@dataclass(frozen=True, slots=True)
class GradedDraft:
    """A finished draft with the uncalibrated grades (0 to 1) of its steps.

    Steps without a readable grade are missing from `grades`. `mass` (0 to 1) is the mean
    probability mass of the labels, 0 without a read.
    """

    draft: Completion
    grades: tuple[float, ...]
    mass: float

    def combined(self, how: Combine) -> float | None:
        """Return the grade (0 to 1) of the draft; None if no step has a grade."""
        kept = self.grades[-1:] if how == "last" else self.grades
        return probability_of(mean_log_odds(kept)) if kept else None


async def graded_draft(
    run: Run, *, index: int, temperature: float | None, abandon_below: float = 0.0
) -> GradedDraft | None:
    """Generate a draft while the judge grades each finished step; None if the draft was aborted.

    A draft is aborted at the first step graded below `abandon_below` (0 to 1). A step whose grade
    cannot be read is skipped. The judge's engine needs the capability `labels`.
    """
    reads: list[LabelDistribution] = []

    async def grade(so_far: Completion) -> LabelDistribution:
        return (await run.classify("step_right", LABELS, after=so_far)).label_distribution

    async with run.steps(SOLVE, index=index, draw=Draw(temperature=temperature)) as draft:
        finished = 0
        async for _ in draft:
            # The stream may already contain later steps: truncate it to the step that is graded.
            finished += 1
            [read] = await run.map(grade, [draft.truncated(finished)], min_results=0)
            if read is None:
                continue
            reads.append(read)
            if read.probabilities["yes"] < abandon_below:
                return None  # leaving the context aborts the call
        grades = tuple(min(1.0, read.probabilities["yes"]) for read in reads)
        mass = sum(read.mass for read in reads) / len(reads) if reads else 0.0
        return GradedDraft(draft.completion, grades, mass)

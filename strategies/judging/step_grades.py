"""Drafts whose steps are graded during generation, by label probabilities.

`secondpass calibrate` measures by the same reads, so that its calibration holds for the drafts that are graded by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from secondpass.strategies.api.ranking import mean_log_odds, probability_of
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Completion, Draw, LabelDistribution

LABELS = ("yes", "no")
"""The label of a right step first."""

Combine: TypeAlias = Literal["mean", "last"]
"""How the grades of steps are combined to one of the draft: the mean of their log-odds, or the last one's."""


@dataclass(frozen=True, slots=True)
class GradedDraft:
    """A finished draft; `grades` (0 to 1) of those of its steps whose grade could be read, not calibrated.

    `mass` (0 to 1) is the mean probability that the labels had together, 0 where nothing was read.
    """

    draft: Completion
    grades: tuple[float, ...]
    mass: float

    def combined(self, how: Combine) -> float | None:
        """The grade (0 to 1) of the draft; None where no step has one."""
        kept = self.grades[-1:] if how == "last" else self.grades
        return probability_of(mean_log_odds(kept)) if kept else None


async def graded_draft(
    run: Run, *, index: int, temperature: float | None, abandon_below: float = 0.0
) -> GradedDraft | None:
    """One draft, each step of which the judge grades once it is finished; None for an aborted draft.

    A draft is aborted at the first step graded below `abandon_below` (0 to 1). A step whose grade cannot be read has none.
    Needs `labels` of the judge's engine.
    """
    reads: list[LabelDistribution] = []

    async def grade(so_far: Completion) -> LabelDistribution:
        return (await run.classify("step_right", LABELS, after=so_far)).label_distribution

    async with run.steps(SOLVE, index=index, draw=Draw(temperature=temperature)) as draft:
        finished = 0
        async for _ in draft:
            finished += (
                1  # the draft itself may be ahead of it: only what is judged decides the grade
            )
            [read] = await run.map(grade, [draft.truncated(finished)], min_results=0)
            if read is None:
                continue
            reads.append(read)
            if read.probabilities["yes"] < abandon_below:
                return None  # leaving the block aborts the draft in the engine
        grades = tuple(min(1.0, read.probabilities["yes"]) for read in reads)
        mass = sum(read.mass for read in reads) / len(reads) if reads else 0.0
        return GradedDraft(draft.completion, grades, mass)

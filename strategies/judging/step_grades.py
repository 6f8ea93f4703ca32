"""A draft whose steps are graded while it is written, by label probabilities.

`secondpass calibrate` measures by the same reads, so that what it finds holds for the drafts that are graded by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from secondpass.strategies.api.errors import EngineError, UnusableCompletion
from secondpass.strategies.api.ranking import mean_log_odds, probability_of
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Completion, LabelRead

LABELS = ("yes", "no")
"""The one for a right step first."""

Combine: TypeAlias = Literal["mean", "last"]
"""What steps make of a draft: the mean of their log-odds, or the last one's."""


@dataclass(frozen=True, slots=True)
class GradedDraft:
    """A finished draft; `grades` (0 to 1) of those of its steps that could be read, as they were read.

    `mass` (0 to 1) is the mean probability that the labels had together, 0 where nothing was read.
    """

    draft: Completion
    grades: tuple[float, ...]
    mass: float

    def combined(self, how: Combine) -> float | None:
        """How probably right (0 to 1) the steps make the draft; None where none could be read."""
        kept = self.grades[-1:] if how == "last" else self.grades
        return probability_of(mean_log_odds(kept)) if kept else None


async def graded_draft(
    run: Run, *, index: int, temperature: float | None, abandon_below: float = 0.0
) -> GradedDraft | None:
    """One draft, each step of which the judge reads once it is written; None for one that is aborted.

    That is one with a step graded below `abandon_below`. A step that cannot be read has no grade.
    """
    reads: list[LabelRead] = []
    async with run.steps(SOLVE, index=index, temperature=temperature) as draft:
        async for _ in draft:
            try:
                read = await run.probe(draft, "step_right", LABELS, role="judge")
            except (EngineError, UnusableCompletion):
                continue
            reads.append(read)
            if read.probabilities["yes"] < abandon_below:
                return None  # leaving the block aborts the draft in the engine
        grades = tuple(min(1.0, read.probabilities["yes"]) for read in reads)
        mass = sum(read.mass for read in reads) / len(reads) if reads else 0.0
        return GradedDraft(draft.completion, grades, mass)

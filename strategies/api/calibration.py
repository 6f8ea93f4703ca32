"""Calibration of the grades that a model gives its own drafts, and its fit by Platt scaling."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from secondpass.strategies.api.ranking import calibrated, log_odds, probability_of

USEFUL_AUROC = 0.6
"""Minimum AUROC of grades that weight votes; below it they hardly separate drafts."""

_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


OtherGradeKind: TypeAlias = Literal["steps_mean", "steps_last", "first_error", "verdict"]
"""Kinds of grades measured only on request; see `judging.step_grades` and `judging.written_grades`."""

GradeKind: TypeAlias = Literal["solution"] | OtherGradeKind
"""Source of a draft's grade; `solution`: label probabilities for the whole draft, see `p_true`."""


class GradeCalibration(BaseModel):
    """Calibration of one kind of grades, measured on `n` drafts that a model graded itself.

    Attributes:
        labels: Labels whose probabilities were read, the one for "right" first; None for written grades.
        mass: Mean total probability (0 to 1) of the labels; None for written grades.
        temperature: Divisor of the log-odds after subtraction of `offset`, above 0.
        offset: Log-odds subtracted before the division.
        auroc: Probability (0 to 1) that a correct draft is graded above an incorrect one.
        accuracy: Share (0 to 1) of correct drafts.
        n: Number of drafts, at least 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, str] | None = None
    mass: _Share | None = None
    temperature: Annotated[FiniteFloat, Field(gt=0)]
    offset: FiniteFloat = 0.0
    auroc: _Share
    accuracy: _Share
    n: int = Field(ge=1)

    @property
    def is_useful(self) -> bool:
        """True if the grades separate correct from incorrect drafts: the AUROC is at least `USEFUL_AUROC`."""
        return self.auroc >= USEFUL_AUROC

    def probability(self, score: float) -> float:
        """Return the grade of a score (0 to 1): the calibrated probability that the draft is correct."""
        return calibrated(score, self.temperature, self.offset)


class Calibration(GradeCalibration):
    """Calibration of a model as the judge of its own drafts, for grades of kind `solution`.

    Attributes:
        model: Name of the model.
        labels: Labels, read in both orders.
        mass: Mean total probability (0 to 1) of the labels.
        drawn: Date of the measurement.
        data: SHA-256 of the question file.
        grades: Calibrations of the other kinds of grades, on the same questions.
    """

    model: str = Field(min_length=1)
    labels: tuple[str, str]
    mass: _Share
    drawn: date
    data: str = Field(pattern=r"^[0-9a-f]{64}$")
    grades: Mapping[OtherGradeKind, GradeCalibration] = Field(default_factory=dict)

    def of(self, kind: GradeKind) -> GradeCalibration | None:
        """Return the calibration of a kind of grades, or None if not measured."""
        return self if kind == "solution" else self.grades.get(kind)


def apply_calibration(score: float, calibration: GradeCalibration | None) -> float:
    """Return the grade (0 to 1) of a score; without a calibration, the score itself."""
    return score if calibration is None else calibration.probability(score)


_MAX_TEMPERATURE = 20.0
_MIN_TEMPERATURE = 0.05


Tally = Mapping[tuple[float, bool], int]
"""Number of drafts per pair of log-odds and correctness."""


def fit_temperature(scores: Sequence[float], are_right: Sequence[bool]) -> tuple[float, float]:
    """Fit (temperature, offset) by Platt scaling: minimise log loss with an unbiased mean probability.

    The search is one-dimensional: for each temperature from 0.05 to 20, the share of correct drafts determines the offset.
    The slope is positive, so that the grades of a systematically wrong judge are not inverted.

    Args:
        scores: Scores of the drafts, 0 to 1.
        are_right: Correctness of the same drafts.

    Raises:
        ValueError: There are no correct drafts or no incorrect ones.
    """
    if len(set(are_right)) < 2:
        raise ValueError("are_right: must contain correct and incorrect drafts")
    tally = Counter(
        (log_odds(score), is_right) for score, is_right in zip(scores, are_right, strict=True)
    )
    low, high = math.log(_MIN_TEMPERATURE), math.log(_MAX_TEMPERATURE)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(24):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _loss(math.exp(left), tally) <= _loss(math.exp(right), tally):
            high = right
        else:
            low = left
    temperature = math.exp((low + high) / 2)
    return temperature, _offset(temperature, tally)


def _loss(temperature: float, tally: Tally) -> float:
    offset = _offset(temperature, tally)
    terms = (
        (count, (odds - offset) / temperature, is_right)
        for (odds, is_right), count in tally.items()
    )
    return math.fsum(
        count * (math.log1p(math.exp(-abs(z))) + max(0.0, -z if is_right else z))
        for count, z, is_right in terms
    )


def _offset(temperature: float, tally: Tally) -> float:
    """Return the offset for which the mean probability equals the share of correct drafts, by bisection."""
    target = sum(count for (_, is_right), count in tally.items() if is_right)
    low = min(odds for odds, _ in tally) - 40 * temperature
    high = max(odds for odds, _ in tally) + 40 * temperature
    for _ in range(40):
        middle = (low + high) / 2
        scaled = ((count, (odds - middle) / temperature) for (odds, _), count in tally.items())
        if math.fsum(count * probability_of(z) for count, z in scaled) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2

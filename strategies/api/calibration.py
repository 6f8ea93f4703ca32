"""How far a model's judgement of its own drafts can be trusted: what was measured, and how it is fitted. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from secondpass.strategies.api.ranking import calibrated, log_odds, probability_of

USEFUL_AUROC = 0.6
"""Below it a judge tells right from wrong hardly better than a coin: votes are not weighted by it."""

_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


OtherGradeKind: TypeAlias = Literal["steps_mean", "steps_last", "first_error", "verdict"]
"""Kinds of grades that are measured where that is asked for; see `judging.step_grades` and `judging.written_grades`."""

GradeKind: TypeAlias = Literal["solution"] | OtherGradeKind
"""What a draft's grade was made from; `solution`: label probabilities for the whole of it, see `p_true`."""


class GradeCalibration(BaseModel):
    """What was measured of grades of one kind, over `n` drafts of a model that were graded by itself.

    `labels` are those that were read, the one for "right" first, and `mass` (0 to 1) is the mean probability that all
    of them had together; None of grades that are written. `temperature` divides log-odds, after `offset` was taken from
    them. `auroc` (0 to 1) is how probable it is that a right draft was graded above a wrong one; `accuracy` is the share
    of right drafts.
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
        """True when the model tells its right drafts from its wrong ones."""
        return self.auroc >= USEFUL_AUROC

    def probability(self, read: float) -> float:
        """How probable it is that a draft is right which was read as `read` (0 to 1)."""
        return calibrated(read, self.temperature, self.offset)


class Calibration(GradeCalibration):
    """What was measured of a model as the judge of its own drafts: first of its reads of whole solutions.

    `labels` were read in both orders. `grades` is what was measured of other kinds of grades, on the same questions.
    `data` is the SHA-256 of the file of questions, `drawn` the day.
    """

    model: str = Field(min_length=1)
    labels: tuple[str, str]
    mass: _Share
    drawn: date
    data: str = Field(pattern=r"^[0-9a-f]{64}$")
    grades: Mapping[OtherGradeKind, GradeCalibration] = Field(default_factory=dict)

    def of(self, kind: GradeKind) -> GradeCalibration | None:
        """What was measured of grades of this kind; None when nothing was."""
        return self if kind == "solution" else self.grades.get(kind)


def apply_calibration(read: float, measured: GradeCalibration | None) -> float:
    """How probable (0 to 1) a grade of `read` makes it that a draft is right: as it was read where nothing was measured."""
    return read if measured is None else measured.probability(read)


_MAX_TEMPERATURE = 20.0
_MIN_TEMPERATURE = 0.05


Tally = Mapping[tuple[float, bool], int]
"""How many drafts have these log-odds, and are right or are not."""


def fit_temperature(scores: Sequence[float], are_right: Sequence[bool]) -> tuple[float, float]:
    """(temperature, offset) for log-odds: of those under which the mean probability is right, the one of least log loss.

    Platt scaling as a search in one dimension: for each temperature from 0.05 to 20 the offset follows from the share
    of right drafts. The slope is above 0: a judge that is systematically wrong is not turned around. Raises ValueError
    where all drafts are right or all are wrong, or there are none.
    """
    if len(set(are_right)) < 2:
        raise ValueError("a temperature needs right drafts and wrong ones")
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
    """The offset under which the mean probability is the share of right ones, by bisection: the mean falls with it."""
    wanted = sum(count for (_, is_right), count in tally.items() if is_right)
    low = min(odds for odds, _ in tally) - 40 * temperature
    high = max(odds for odds, _ in tally) + 40 * temperature
    for _ in range(40):
        middle = (low + high) / 2
        held = ((count, (odds - middle) / temperature) for (odds, _), count in tally.items())
        if math.fsum(count * probability_of(z) for count, z in held) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2

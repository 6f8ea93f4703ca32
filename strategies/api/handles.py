"""Objects that a run hands to a strategy: step streams, models and reserved budget."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from secondpass.strategies.api.calibration import GradeCalibration, GradeKind
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.values import Capability, Completion


class StepStream(Protocol):
    """A completion in progress; iterate it to read each step once the step is finished.

    If the completion ends early, iteration yields the steps finished by then and raises the error that ended it.
    """

    @property
    def completion(self) -> Completion:
        """The completion so far, prefix included; complete once the iteration has ended."""

    @property
    def is_finished(self) -> bool:
        """True once the engine has finished the completion."""

    @property
    def steps(self) -> int:
        """Number of finished steps, read or not."""

    def truncated(self, steps: int) -> Completion:
        """Return the completion up to the end of its first `steps` steps, to judge or to continue.

        It ends at a token boundary if one lies between the two steps. Otherwise the text after the last token
        boundary is kept without token ids.

        Raises:
            ValueError: `steps` is negative or above the number of finished steps.
        """

    def __aiter__(self) -> AsyncIterator[str]: ...


class Model(Protocol):
    """The model that plays a role, as seen by one run."""

    @property
    def profile(self) -> Profile:
        """Properties of the model family. Raises RoleMissing if no engine plays the role."""

    @property
    def median_length(self) -> int | None:
        """Median completion tokens of this model's answers, reasoning included, over all strategies.

        None until enough answers were observed. Also None under a seed: a reproducible run must not depend on other
        requests.
        """

    def can(self, *capabilities: Capability) -> bool:
        """Return True if an engine plays the role and has all these capabilities, or has not answered yet."""

    def calibration(self, kind: GradeKind = "solution") -> GradeCalibration | None:
        """Return the calibration of the grades that the model gives its own drafts, or None if not measured."""

    def trust(self, kind: GradeKind = "solution", *, always: bool = False) -> float:
        """Return the trust in this model's grades as vote weights: 0 (equal weights) or 1 (full weights).

        Grades that are not calibrated, or whose AUROC is below 0.6, have trust 0, and a note states the reason. With
        `always`, which clients set to weight votes regardless of calibration, their trust is 1.
        """


class Reserve(Protocol):
    """Budget reserved for one later call of the run: `tokens` completion tokens."""

    tokens: int

    def release(self) -> None:
        """Return the reserved budget unspent."""

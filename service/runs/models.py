"""The model of a role, as one run sees it."""

from __future__ import annotations

from collections.abc import Callable

from secondpass.service.calls.dispatch import CallDispatcher
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies.api.calibration import USEFUL_AUROC, GradeCalibration, GradeKind
from secondpass.strategies.api.model_profiles import Profile, profile_of
from secondpass.strategies.api.values import Capability, Role


class LiveModel:
    """See `strategies.api.handles.Model`."""

    def __init__(
        self, role: Role, spec: RunSpec, calls: CallDispatcher, note: Callable[[str, str], None]
    ) -> None:
        self._role, self._spec, self._calls, self._note = role, spec, calls, note

    @property
    def profile(self) -> Profile:
        configured = self._spec.profiles.get(self._role)
        return configured or profile_of(self._calls.engine(self._role).model)

    @property
    def median_length(self) -> int | None:
        is_seeded = self._spec.sampling.seed is not None
        return None if is_seeded else self._calls.median_length(self._role)

    def can(self, *capabilities: Capability) -> bool:
        return self._calls.can(self._role, frozenset(capabilities))

    def calibration(self, kind: GradeKind = "solution") -> GradeCalibration | None:
        calibration = self._spec.calibrations.get(self._role)
        return None if calibration is None else calibration.of(kind)

    def trust(self, kind: GradeKind = "solution", *, always: bool = False) -> float:
        measured = self.calibration(kind)
        of = "" if kind == "solution" else f" of {kind}"
        if measured is None:
            problem = f"grades{of} not calibrated" if of else "not calibrated"
        elif not measured.is_useful:
            problem = f"auroc{of} {measured.auroc:.2f} below {USEFUL_AUROC}"
        else:
            return 1.0
        consequence = "weighted votes, as requested" if always else "unweighted votes"
        self._note(self._role, f"{problem}: {consequence}")
        return 1.0 if always else 0.0

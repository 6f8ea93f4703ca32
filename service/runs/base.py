"""What all verbs of a run share: its specification, books and events, the calls that it makes, and what is known of its models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from secondpass.service.calls.budget import Budget
from secondpass.service.calls.dispatch import Calls
from secondpass.service.common.events import NoteMade, Trace
from secondpass.service.runs.call_builder import Asking
from secondpass.service.runs.run_spec import RunSpec, Shared
from secondpass.strategies.api.calibration import USEFUL_AUROC, GradeKind, Measured
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.model_profiles import Profile, profile_of
from secondpass.strategies.api.values import Capability, Completion, Role


class Verbs(ABC):
    """The base of the groups of verbs that make a run."""

    def __init__(self, spec: RunSpec, shared: Shared, trace: Trace) -> None:
        self.spec = spec
        self.trace = trace
        self.budget = Budget(spec.limits)
        self._pace = shared.pace
        self._asking = Asking(spec)
        self._calls = Calls(
            spec.engines,
            spec.prices,
            self.budget,
            trace,
            shared.lengths,
            shared.pace,
            strategy=spec.strategy.name,
            is_usable=self._is_usable,
            salvage=self._salvage,
        )

    @abstractmethod
    def _is_usable(self, call: Call, completion: Completion) -> bool:
        """May a completion that was cut serve as an answer?"""

    @abstractmethod
    def _salvage(self, completion: Completion) -> bool:
        """Answer with a cut completion if there is nothing better; was it needed?"""

    def _unread(self, call: Call) -> Call:
        """Nobody reads the deltas of this call as they come: they may be gathered."""
        return replace(call, stream_interval=self._pace.interval)

    # -- what is known of the models ----------------------------------------------------------------

    def require(self, role: Role, *capabilities: Capability) -> None:
        self._calls.require(role, frozenset(capabilities))

    def profile(self, role: Role) -> Profile:
        return self.spec.profiles.get(role) or profile_of(self._calls.engine(role).model)

    def usual_length(self, role: Role = "actor") -> int | None:
        return None if self.spec.sampling.seed is not None else self._calls.usual_length(role)

    def calibration(self, role: Role, kind: GradeKind = "solution") -> Measured | None:
        known = self.spec.calibrations.get(role)
        return None if known is None else known.of(kind)

    def trust(
        self, role: Role = "judge", *, kind: GradeKind = "solution", always: bool = False
    ) -> float:
        measured = self.calibration(role, kind)
        of = "" if kind == "solution" else f" of {kind}"
        if measured is None:
            problem = f"grades{of} not calibrated" if of else "not calibrated"
        elif not measured.is_useful:
            problem = f"auroc{of} {measured.auroc:.2f} below {USEFUL_AUROC}"
        else:
            return 1.0
        done = "weighted votes, as asked" if always else "unweighted votes"
        self.note(role, f"{problem}: {done}")
        return 1.0 if always else 0.0

    def note(self, about: str, what: str) -> None:
        self.trace.emit(NoteMade(at=self.trace.elapsed, about=about, what=what))

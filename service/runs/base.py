"""State shared by all verbs of a run: specification, accounting, events, calls and failures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from secondpass.service.calls.budget import Budget
from secondpass.service.calls.dispatch import CallDispatcher, check_role
from secondpass.service.common.events import NoteRecorded, Trace
from secondpass.service.runs.call_builder import CallBuilder
from secondpass.service.runs.models import LiveModel
from secondpass.service.runs.run_spec import RunSpec, SharedResources
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    EngineError,
    SecondpassError,
    UnusableCompletion,
)
from secondpass.strategies.api.values import BudgetKind, Capability, Completion, Draw, Role

SAMPLES_TEMPERATURE = 0.7
"""Temperature of several samples if the client requests 0.

It applies only if neither the strategy nor the model's profile has a temperature.
"""


class Verbs(ABC):
    """Base class of the verb groups of a run.

    Attributes:
        degraded: Failures by role: calls that failed after all retries, and unreadable replies.
        failures: The last failure of each role.
        exhausted: The first budget limit that prevented some work, or None.
    """

    def __init__(self, spec: RunSpec, shared: SharedResources, trace: Trace) -> None:
        self.spec = spec
        self.trace = trace
        self.budget = Budget(spec.limits, counts_prompts=spec.counts_prompts)
        self.degraded: Counter[Role] = Counter()
        self.failures: dict[Role, SecondpassError] = {}
        self.exhausted: BudgetKind | None = None
        self._pace = shared.stats.pace
        self._builder = CallBuilder(spec)
        self._calls = CallDispatcher(
            spec.upstreams,
            spec.prices,
            self.budget,
            trace,
            shared.stats,
            strategy=spec.strategy.name,
            is_usable=self._is_usable,
            salvage=self._elect_fallback,
            count_failure=self.count_failure,
        )
        self._calls.keep_draft = self._keep_draft

    @abstractmethod
    def _is_usable(self, call: Call, completion: Completion) -> bool:
        """Return whether a truncated completion is usable as an answer."""

    @abstractmethod
    def _keep_draft(self, call: Call, completion: Completion) -> None:
        """Keep a completion that may become the answer when a limit ends the run."""

    @abstractmethod
    def _elect_fallback(self, completion: Completion) -> bool:
        """Elect the completion if the run has no answer yet; return whether it was elected."""

    def _with_batched_deltas(self, call: Call) -> Call:
        """Return the call with batched deltas, for output that is not read as it arrives."""
        return replace(call, stream_interval=self._pace.interval)

    def _batch_size(self, role: Role, batch: int) -> int:
        """Return the completions of one request: `batch`, or 1 if the role's engine lacks `n`."""
        return batch if self._calls.can(role, frozenset({"n"})) else 1

    def count_failure(self, error: SecondpassError) -> None:
        """Count a failure that drops one item, once; for an exhausted budget, record the limit instead."""
        if isinstance(error, BudgetExhausted):
            self.exhausted = self.exhausted or error.kind
        elif not error.is_counted:
            error.is_counted = True
            role: Role = getattr(error, "role", None) or "actor"
            self.degraded[role] += 1
            self.failures[role] = error

    @property
    def wasted(self) -> dict[Role, int]:
        """Completion tokens that were delivered but not used, by role."""
        return self._calls.waste.wasted()

    @property
    def failed_attempts(self) -> Mapping[int, EngineError | UnusableCompletion]:
        """Error of each failed attempt, retried or not, by the number of the attempt."""
        return self._calls.failed_attempts

    def model(self, role: Role = "actor") -> LiveModel:
        check_role(role)
        return LiveModel(role, self.spec, self._calls, self.note)

    def require(self, role: Role, *capabilities: Capability) -> None:
        """Raise RoleMissing or CapabilityMissing unless the role has an engine with these capabilities."""
        self._calls.require(role, frozenset(capabilities))

    def _with_temperature(self, n: int, draw: Draw, role: Role) -> Draw:
        """Replace the client's temperature of 0, at which n > 1 samples of a prompt are equal."""
        is_zero = role == "actor" and self.spec.sampling.temperature == 0
        if n == 1 or draw.temperature is not None or not is_zero:
            return draw
        own = self.model().profile.temperature or SAMPLES_TEMPERATURE
        self.note("temperature", f"{own:g} for several samples, which would be equal at 0")
        return replace(draw, temperature=own)

    def note(self, about: str, what: str) -> None:
        self.trace.emit(NoteRecorded(at=self.trace.elapsed, about=about, what=what))

"""Inputs of a run: its resolved specification, and resources shared by all runs of a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secondpass.service.calls.length_stats import CallStats
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.limits import Limits, Price
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.verifiers import Sandboxes
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Routing
from secondpass.strategies.api.model_profiles import PLAIN_CAP, Profile
from secondpass.strategies.api.registry import Params, Strategy
from secondpass.strategies.api.values import Message, Role, Sampling


@dataclass(frozen=True, slots=True)
class RoleDefaults:
    """Configured sampling defaults of a role, used where neither the strategy nor the client sets a value.

    Attributes:
        temperature: 0 to 2; None: the engine's default.
        max_tokens: Completion-token cap of a call, at least 1; None: `RunSpec.max_tokens_per_call`.
    """

    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """A resolved and validated request.

    Attributes:
        upstreams: Engine of each role, with its admission and retry policy.
        limits: Budget limits and deadline.
        sampling: The client's sampling parameters, for calls of the actor.
        has_default_deadline: The request set no deadline.
        max_tokens_per_call: Completion-token cap of a call without another cap.
        task_is_explicit: Add the task's answer-format instruction to the question.
        counts_prompts: Count the tokens of every prompt, because the request limits prompt tokens or cost.
        prices: Token prices of each role's engine; without an entry, calls cost nothing.
        profiles: Profiles of models whose names do not identify their family.
        calibrations: Calibrations of models that were measured as judges.
        defaults: Configured sampling defaults of each role.
        cache_salt: Isolates the tenant's part of the engines' prefix caches; None: shared.
        routing: Session, tenant and client headers of the run's calls.
        session_group: Drafts per session, k: drafts 0 to k-1 have the session of `routing`, and each further k drafts
            a session of their own. None: one session.
        traceparent: W3C trace context of the client's request, forwarded to the engines.
        is_streamed: The client reads the answer as it is generated.
        notes: Notes on the request and its default limits, by subject.
        returns_partial: Return a truncated draft when a limit ends the run before it has an answer.
    """

    id: str
    strategy: Strategy[Any]
    params: Params
    messages: tuple[Message, ...]
    task: Task
    upstreams: Mapping[Role, Upstream]
    limits: Limits = Limits()
    has_default_deadline: bool = False
    sampling: Sampling = Sampling()
    max_tokens_per_call: int = PLAIN_CAP
    task_is_explicit: bool = False
    counts_prompts: bool = False
    prices: Mapping[Role, Price] = field(default_factory=dict)
    profiles: Mapping[Role, Profile] = field(default_factory=dict)
    calibrations: Mapping[Role, Calibration] = field(default_factory=dict)
    defaults: Mapping[Role, RoleDefaults] = field(default_factory=dict)
    cache_salt: str | None = None
    routing: Routing = Routing()
    session_group: int | None = None
    traceparent: str | None = None
    is_streamed: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    returns_partial: bool = False


class SharedResources:
    """Resources shared by all runs of a process: equivalence workers, sandboxes and call statistics.

    `sandboxes` is None unless the operator allows them.
    """

    def __init__(self, equivalence: Equivalence, sandboxes: Sandboxes | None = None) -> None:
        self.equivalence = equivalence
        self.sandboxes = sandboxes
        self.stats = CallStats()

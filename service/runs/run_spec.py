"""What a run is given: its specification, resolved and checked, and what all runs of a process share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secondpass.service.calls.length_stats import Lengths, Pace
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.limits import Limits, Price
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.verifiers import Sandboxes
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Routing
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.registry import Params, Strategy
from secondpass.strategies.api.values import Message, Role, Sampling


@dataclass(frozen=True, slots=True)
class RoleDefaults:
    """How the settings have a role drawn where neither the strategy nor the client says so."""

    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What is to be done: a request after everything in it was resolved and checked.

    `sampling` is the client's, for calls of the actor; `max_tokens_per_call` caps a call that has no other cap.
    `task_is_explicit` adds the task's answer-format instruction to the question. `is_streamed` says that the client
    reads the answer while it is written. `profiles` are of models whose names do not say enough, and `calibrations` of
    models that were measured as judges. With a `session_group` of k, drafts 0 to k-1 have the session of `routing`, and
    each k further ones have a session of their own.
    """

    id: str
    strategy: Strategy[Any]
    params: Params
    messages: tuple[Message, ...]
    task: Task
    upstreams: Mapping[Role, Upstream]
    limits: Limits = Limits()
    sampling: Sampling = Sampling()
    max_tokens_per_call: int = 2048
    task_is_explicit: bool = False
    prices: Mapping[Role, Price] = field(default_factory=dict)
    profiles: Mapping[Role, Profile] = field(default_factory=dict)
    calibrations: Mapping[Role, Calibration] = field(default_factory=dict)
    defaults: Mapping[Role, RoleDefaults] = field(default_factory=dict)
    cache_salt: str | None = None
    routing: Routing = Routing()
    session_group: int | None = None
    traceparent: str | None = None
    is_streamed: bool = False


class Shared:
    """What all runs of a process share: the equivalence workers, the sandboxes, and what was learned from earlier calls.

    `sandboxes` is None where the operator allows none.
    """

    def __init__(self, equivalence: Equivalence, sandboxes: Sandboxes | None = None) -> None:
        self.equivalence = equivalence
        self.sandboxes = sandboxes
        self.lengths = Lengths()
        self.pace = Pace()

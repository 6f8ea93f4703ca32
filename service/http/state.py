"""What the routes share: the engines by role, who may call, and what is in flight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from starlette.requests import Request

from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.errors import InvalidRequest, NotAdmitted, NotFound, excerpt
from secondpass.service.common.limits import Price
from secondpass.service.config.api_keys import Tenant, Tenants
from secondpass.service.config.settings import Settings
from secondpass.service.observe.metrics import Metrics
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec, Shared
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Engine
from secondpass.strategies.api.values import Role

END_SECONDS = 2.0
"""Interrupted runs get so long to say what they have."""


class _Explains(Protocol):
    @property
    def why_not_ready(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Node:
    """One engine with its admission and retries, its price (None: not configured), and what explains its state.

    `writes` is false for a reward model, which only scores.
    """

    upstream: Upstream
    price: Price | None
    health: _Explains
    writes: bool = True

    @property
    def engine(self) -> Engine:
        """The engine itself."""
        return self.upstream.engine

    @property
    def why_not_ready(self) -> str | None:
        """In words for an operator; None when it is ready."""
        return self.health.why_not_ready

    @property
    def is_ready(self) -> bool:
        """Did the engine answer when it was last asked?"""
        return self.engine.ready

    @property
    def waiting(self) -> int:
        """Calls that wait for their admission."""
        return self.upstream.admission.waiting


class Traffic:
    """The requests that are being worked on, and whether any more are taken."""

    def __init__(self, max_runs: int) -> None:
        self._max_runs = max_runs
        self._runs: set[LiveRun] = set()
        self._plain = 0
        self._idle = anyio.Event()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._runs) + self._plain

    @contextmanager
    def run(self, run: LiveRun) -> Iterator[None]:
        """Count a run while the block lasts. Raises NotAdmitted."""
        self._admit()
        self._runs.add(run)
        try:
            yield
        finally:
            self._runs.discard(run)
            self._left()

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Count a forwarded request while the block lasts. Raises NotAdmitted."""
        self._admit()
        self._plain += 1
        try:
            yield
        finally:
            self._plain -= 1
            self._left()

    async def drain(self, grace: float = 0.0) -> None:
        """Take nothing new; give what is in flight `grace` seconds, then end runs with their best so far."""
        self.is_draining = True
        await self._wait(grace)
        for run in list(self._runs):
            run.interrupt()
        await self._wait(END_SECONDS if self._runs else 0.0)

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            while self:
                self._idle = anyio.Event()
                await self._idle.wait()

    def _admit(self) -> None:
        if self.is_draining:
            raise NotAdmitted("the service is shutting down")
        if len(self) >= self._max_runs:
            raise NotAdmitted(f"the service is busy with {len(self)} requests")

    def _left(self) -> None:
        if not self:
            self._idle.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that a route may need."""

    settings: Settings
    nodes: Mapping[str, Node]
    roles: Mapping[Role, Node]
    shared: Shared
    tenants: Tenants
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    metrics: Metrics
    traffic: Traffic
    knows_other_models: Node | None = None
    """vLLM in this process: it serves a model by several names, and adapters of it, which plain requests may name."""

    @property
    def models(self) -> list[str]:
        """The names of all models, each once."""
        return list(dict.fromkeys(node.engine.model for node in self.nodes.values()))

    def node_of_model(self, model: str) -> Node:
        """The engine that serves `model`; of several, the one that plays a role. Raises NotFound."""
        for node in (*self.roles.values(), *self.nodes.values()):
            if node.engine.model == model:
                return node
        raise NotFound(f"no engine serves {excerpt(model)!r}", field="model")

    def writer_of_model(self, model: str, *, field: str) -> Node:
        """The same, for an engine that is to write. Raises InvalidRequest for a reward model's, which cannot."""
        node = self.node_of_model(model)
        if not node.writes:
            raise InvalidRequest("is a reward model: it scores, and writes no text", field=field)
        return node

    def not_ready(self) -> list[str]:
        """Why the service cannot take work; empty when it can."""
        reasons = ["draining"] if self.traffic.is_draining else []
        for role, node in self.roles.items():
            if not node.engine.ready:
                reasons.append(f"{role}: engine {node.engine.name!r}: {node.why_not_ready}")
        return reasons


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service


def tenant_of(request: Request) -> Tenant:
    """Who sent the request, as the middleware found."""
    tenant: Tenant = request.state.tenant
    return tenant


def models_of(spec: RunSpec) -> dict[Role, str]:
    """The model of each role of a run."""
    return {role: upstream.engine.model for role, upstream in spec.upstreams.items()}

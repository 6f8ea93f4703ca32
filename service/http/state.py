"""State shared by the routes: engines by role, tenants, and requests in progress."""

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
from secondpass.service.common.uploads import Upload, Uploads
from secondpass.service.config.api_keys import Tenant, Tenants
from secondpass.service.config.settings import Settings
from secondpass.service.observe.metrics import Metrics
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec, SharedResources
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Engine
from secondpass.strategies.api.values import Role

INTERRUPT_SECONDS = 2.0
"""Time for interrupted runs to return their best answer so far."""


_SHUTTING_DOWN = "the service is shutting down"


class _Health(Protocol):
    @property
    def why_not_ready(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ServedEngine:
    """An engine with its admission, its price (None: not configured) and its health.

    `generates` is false for a reward model, which scores text and generates none.
    """

    upstream: Upstream
    price: Price | None
    health: _Health
    generates: bool = True

    @property
    def engine(self) -> Engine:
        """The engine, without admission and retries."""
        return self.upstream.engine

    @property
    def why_not_ready(self) -> str | None:
        """Reason for an operator, or None if the engine is ready."""
        return self.health.why_not_ready

    @property
    def is_ready(self) -> bool:
        """True if the engine answered its last health check."""
        return self.engine.ready

    @property
    def waiting(self) -> int:
        """Number of calls that wait for an admission slot."""
        return self.upstream.admission.waiting


class RequestTracker:
    """Requests in progress, up to `max_runs`, including those whose body is being read.

    New ones are refused while draining.
    """

    def __init__(self, max_runs: int, uploads: Uploads) -> None:
        self._max_runs = max_runs
        self._runs: set[LiveRun] = set()
        self._plain = 0
        self._reading: dict[Upload, None] = {}  # oldest first
        self.uploads = uploads
        self._idle = anyio.Event()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._runs) + self._plain + len(self._reading)

    @contextmanager
    def run(self, run: LiveRun) -> Iterator[None]:
        """Count a run for the duration of the block. Raises NotAdmitted."""
        self._admit()
        self._runs.add(run)
        try:
            yield
        finally:
            self._runs.discard(run)
            self._signal_if_idle()

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Count a forwarded request for the duration of the block. Raises NotAdmitted."""
        self._admit()
        self._plain += 1
        try:
            yield
        finally:
            self._plain -= 1
            self._signal_if_idle()

    @contextmanager
    def reading(self, upload: Upload) -> Iterator[None]:
        """Count a request whose body is being read for the duration of the block. Raises NotAdmitted."""
        self._admit()
        self._reading[upload] = None
        try:
            yield
        finally:
            self._reading.pop(upload, None)
            self._signal_if_idle()

    async def drain(self, grace: float = 0.0) -> None:
        """Refuse new requests, wait up to `grace` seconds, then interrupt the remaining runs.

        Bodies that are being read are refused at once. An interrupted run has `INTERRUPT_SECONDS` to return its best
        answer so far.
        """
        self.is_draining = True
        self.uploads.refuse_all(_SHUTTING_DOWN)
        await self._wait(grace)
        for run in list(self._runs):
            run.interrupt()
        await self._wait(INTERRUPT_SECONDS if self._runs else 0.0)

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            while self:
                self._idle = anyio.Event()
                await self._idle.wait()

    def _admit(self) -> None:
        if self.is_draining:
            raise NotAdmitted(_SHUTTING_DOWN)
        if len(self) < self._max_runs:
            return
        full = f"max_runs ({self._max_runs}) is reached; retry later"
        oldest = next(iter(self._reading), None)
        if oldest is None or not oldest.is_old:
            raise NotAdmitted(full)
        del self._reading[oldest]
        oldest.refuse(full)

    def _signal_if_idle(self) -> None:
        if not self:
            self._idle.set()


@dataclass(slots=True)
class Background:
    """State of the background tasks. `failed_task` names the one that ended by a defect, if any."""

    failed_task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Configuration and shared objects of the routes."""

    settings: Settings
    nodes: Mapping[str, ServedEngine]
    roles: Mapping[Role, ServedEngine]
    shared: SharedResources
    tenants: Tenants
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    metrics: Metrics
    traffic: RequestTracker
    background: Background = field(default_factory=Background)
    fallback_node: ServedEngine | None = None
    """vLLM in this process. Plain requests may name aliases and adapters that `models` does not list."""

    @property
    def models(self) -> list[str]:
        """Names of all models, without duplicates."""
        return list(dict.fromkeys(node.engine.model for node in self.nodes.values()))

    def find_node(self, model: str) -> ServedEngine:
        """Return the engine that serves `model`, preferably one with a role. Raises NotFound."""
        for node in (*self.roles.values(), *self.nodes.values()):
            if node.engine.model == model:
                return node
        raise NotFound(f"no engine serves {excerpt(model)!r}", field="model")

    def find_generating_node(self, model: str, *, field: str) -> ServedEngine:
        """Return the engine that generates with `model`.

        Raises NotFound for an unknown model, and InvalidRequest for a reward model.
        """
        node = self.find_node(model)
        if not node.generates:
            raise InvalidRequest(
                "is a reward model, which scores text and cannot generate it", field=field
            )
        return node

    def not_ready(self, *, with_causes: bool = True) -> list[str]:
        """Return the reasons why the service does not accept work; empty if it does.

        Without causes, they are the states and the roles only, for callers without an API key.
        """
        reasons = ["draining"] if self.traffic.is_draining else []
        if self.background.failed_task is not None:
            reasons.append(f"the background task {self.background.failed_task!r} failed")
        for role, node in self.roles.items():
            if not node.engine.ready:
                cause = f": engine {node.engine.name!r}: {node.why_not_ready}"
                reasons.append(f"{role}{cause if with_causes else ': not ready'}")
        return reasons


def service_of(request: Request) -> Service:
    """Return the service that handles a request."""
    service: Service = request.app.state.service
    return service


def tenant_of(request: Request) -> Tenant:
    """Return the tenant of a request, which the middleware identified."""
    tenant: Tenant = request.state.tenant
    return tenant


def models_of(spec: RunSpec) -> dict[Role, str]:
    """Return the model of each role of a run."""
    return {role: upstream.engine.model for role, upstream in spec.upstreams.items()}

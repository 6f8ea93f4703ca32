"""Puts the service together: the only place that knows concrete engines."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import anyio
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from secondpass import __version__
from secondpass.service.answers import Equivalence, WorkerFailed
from secondpass.service.budget import Price
from secondpass.service.concurrency import task_group
from secondpass.service.engines.http import HttpEngine
from secondpass.service.engines.limited import LimitedEngine
from secondpass.service.engines.retrying import RetryingEngine
from secondpass.service.engines.scripted import ScriptedEngine
from secondpass.service.http import chat, ops, solve
from secondpass.service.http.middleware import Edge
from secondpass.service.http.openapi import describe, gives, takes
from secondpass.service.http.problems import as_http_error, respond
from secondpass.service.http.state import Node, Service, Traffic
from secondpass.service.job import Shared
from secondpass.service.metrics import Metrics
from secondpass.service.settings import Settings
from secondpass.service.settings_sources import BadSettings
from secondpass.service.settings_tables import HttpEngineTable, Prices, ScriptedEngineTable
from secondpass.service.tenants import Tenants

RETRY_SECONDS = 1.0
"""Between two questions to an engine that is not ready."""

logger = logging.getLogger(__name__)

BareEngine = HttpEngine | ScriptedEngine


def create_app(
    settings: Settings, *, engines: Mapping[str, ScriptedEngine] | None = None
) -> FastAPI:
    """The service as an ASGI application.

    `engines` replaces configured engines by name, as tests do. Raises BadSettings for what only shows here: a key
    that is not in the environment, an unreadable file of API keys.
    """
    nodes = {
        name: _node(name, table, settings, (engines or {}).get(name))
        for name, table in settings.engine_tables.items()
    }
    service = Service(
        settings=settings,
        nodes=nodes,
        roles={role: nodes[name] for role, name in settings.role_engines.items()},
        shared=Shared(Equivalence(workers=settings.answer_workers)),
        tenants=Tenants.load(settings.api_keys_file) if settings.api_keys_file else Tenants(),
        metrics=Metrics(),
        traffic=Traffic(settings.max_runs),
    )
    service.metrics.watch(nodes)
    app = FastAPI(
        title="secondpass",
        version=__version__,
        description="Makes a language model check and correct its own work, within a budget.",
        lifespan=partial(_lifespan, service),
        redirect_slashes=False,
        exception_handlers={HTTPException: _explain},
    )
    app.state.service = service
    app.state.created = int(time.time())
    app.add_middleware(
        Edge, tenants=service.tenants, stalled_client_seconds=settings.stalled_client_seconds
    )
    app.openapi = partial(describe, app)  # type: ignore[method-assign] # as FastAPI's own documentation does
    _route(app)
    return app


def service_in(app: FastAPI) -> Service:
    """The service behind an application."""
    service: Service = app.state.service
    return service


def _route(app: FastAPI) -> None:
    get = partial(app.get, response_model=None)
    get("/livez")(ops.livez)
    get("/readyz")(ops.readyz)
    get("/metrics")(ops.metrics)
    get("/strategies")(ops.strategies)
    get("/v1/models")(ops.models)
    posts: tuple[tuple[str, Callable[..., Any], str], ...] = (
        ("/solve", solve.solve, "SolveRequest"),
        ("/v1/chat/completions", chat.chat, "ChatRequest"),
    )
    for path, endpoint, model in posts:
        app.post(path, response_model=None, responses=gives(path), openapi_extra=takes(model))(
            endpoint
        )


@asynccontextmanager
async def _lifespan(service: Service, _: FastAPI) -> AsyncIterator[None]:
    """Start the engines and watch them; at the end let nothing go on."""
    async with AsyncExitStack() as stack:
        for node in service.nodes.values():
            stack.push_async_callback(_close, node)
        await stack.enter_async_context(service.shared.equivalence)
        async with task_group() as group:
            group.start_soon(_warm, service.shared.equivalence)
            for node in service.nodes.values():
                group.start_soon(_watch, node, service.settings.health_check_seconds)
            yield
            await service.traffic.drain()
            group.cancel_scope.cancel()


async def _warm(equivalence: Equivalence) -> None:
    """Spare the first vote the start of the process that compares its answers."""
    try:
        await equivalence.warm()
    except WorkerFailed as error:
        logger.warning("answers will be compared as text only: %s", error)


async def _watch(node: Node, health_check_seconds: float) -> None:
    """Ask the engine until it is ready, and then whether it still is."""
    while True:
        await node.engine.start()
        await anyio.sleep(health_check_seconds if node.is_ready else RETRY_SECONDS)


async def _close(node: Node) -> None:
    await node.engine.aclose()


async def _explain(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses (no such path or method), in our words."""
    response = respond(as_http_error(error), request.url.path)
    response.headers.update(getattr(error, "headers", None) or {})
    return response


def _node(
    name: str,
    table: HttpEngineTable | ScriptedEngineTable,
    settings: Settings,
    engine: ScriptedEngine | None,
) -> Node:
    bare = engine or _engine(name, table)
    limited = LimitedEngine(bare, table.max_concurrent_calls or settings.max_concurrent_calls)
    return Node(RetryingEngine(limited), _price(table.prices), health=bare, queue=limited)


def _engine(name: str, table: HttpEngineTable | ScriptedEngineTable) -> BareEngine:
    if isinstance(table, HttpEngineTable):
        return HttpEngine(name, table.url, table.model, key=_key(table.key_env))
    return ScriptedEngine(
        name=name,
        model=table.model,
        first_token=table.first_token,
        per_token=table.per_token,
        tokens_per_delta=table.tokens_per_delta,
        rate=table.rate,
    )


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise BadSettings(f"the environment has no {variable}, which key_env names")
    return os.environ[variable]


def _price(prices: Prices | None) -> Price | None:
    return None if prices is None else Price(prices.prompt, prices.completion)

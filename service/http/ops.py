"""Routes for operators: strategies, models, health checks and metrics."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from secondpass.service.common.errors import NotFound, Unauthorized
from secondpass.service.common.validation import unknown_name
from secondpass.service.http.state import Service, service_of
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.registry import Strategy
from secondpass.strategies.api.values import Capability


async def strategies(request: Request) -> dict[str, Any]:
    """List the strategies, each with its paper and the JSON schema of its params."""
    settings = service_of(request).settings
    return {
        "default": settings.default_strategy,
        "default_open": settings.default_open_strategy,
        "strategies": [_strategy_card(strategy) for strategy in STRATEGIES.values()],
    }


async def models(request: Request) -> dict[str, Any]:
    """List the models in OpenAI's format, plain and with each strategy.

    Reward models generate no text, so they are listed without strategies.
    """
    return {"object": "list", "data": list(_model_cards(request).values())}


async def model(request: Request, model: str) -> dict[str, Any]:
    """Return one entry of the list of models. The id may contain slashes, encoded or not."""
    cards = _model_cards(request)
    if model not in cards:
        raise NotFound(unknown_name(model, cards, "model"), field="model")
    return cards[model]


def _model_cards(request: Request) -> dict[str, dict[str, Any]]:
    """Return the entries of the list of models, by id."""
    service = service_of(request)
    cards: dict[str, dict[str, Any]] = {}
    for model in service.models:
        node = service.find_node(model)
        window = node.engine.context_window
        suffixes = [f"@{strategy}" for strategy in STRATEGIES] if node.generates else []
        for name in (model, *(f"{model}{suffix}" for suffix in suffixes)):
            card = {
                "id": name,
                "object": "model",
                "created": request.app.state.created,
                "owned_by": "secondpass",
            }
            cards.setdefault(name, card if window is None else card | {"max_model_len": window})
    return cards


async def livez(request: Request) -> Response:
    """Report whether the process and its background tasks are alive, without calling an engine."""
    failed = service_of(request).background.failed_task
    if failed is not None:
        return PlainTextResponse(f"the background task {failed!r} failed\n", status_code=503)
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """Report whether the service accepts work.

    A 503 lists which roles are not ready, and for a valid API key also why.
    """
    service = service_of(request)
    reasons = service.not_ready(with_causes=_has_key(service, request))
    return JSONResponse(
        {"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200
    )


def _has_key(service: Service, request: Request) -> bool:
    """Return whether the request has a valid API key. Where none are configured, no request has."""
    if service.tenants.is_open:
        return False
    with suppress(Unauthorized):
        service.tenants.identify(request.headers.get("authorization"))
        return True
    return False


async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus's text format."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _default_needs(strategy: Strategy[Any]) -> set[Capability]:
    """Capabilities that a run with default params needs for a task with comparable answers."""
    needs = strategy.needs_for(strategy.defaults, Task(kind="math"))
    return {capability for each in needs.values() for capability in each}


def _strategy_card(strategy: Strategy[Any]) -> dict[str, Any]:
    return {
        "name": strategy.name,
        "summary": strategy.summary,
        "paper": strategy.paper,
        "signal": strategy.signal,
        "update": strategy.update,
        "needs": sorted(_default_needs(strategy)),
        "streams": strategy.streams,
        "params": strategy.params.model_json_schema(),
    }

"""POST /v1/chat/completions: plain requests go to the engine untouched, the others to a strategy."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from secondpass.service.common.errors import HttpError, InvalidRequest, NotFound
from secondpass.service.common.events import Trace
from secondpass.service.config.api_keys import Tenant
from secondpass.service.http.chat_render import Chunks, completion
from secondpass.service.http.chat_schema import ChatRequest, read_chat, strategy_of
from secondpass.service.http.disconnect import EventStream, Outbox, cancel_on_disconnect
from secondpass.service.http.encoding import dumps
from secondpass.service.http.forward import Forwarded
from secondpass.service.http.problems import openai_error
from secondpass.service.http.request_body import decode, read_body
from secondpass.service.http.resolve import (
    Terms,
    check_conversation,
    check_sampling,
    default_strategy,
    find_params,
    find_strategy,
    resolve,
)
from secondpass.service.http.routing import forwarded, routed
from secondpass.service.http.run_request import new_id, perform
from secondpass.service.http.schema import choose
from secondpass.service.http.state import Service, service_of, tenant_of
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies import STRATEGIES


@dataclass(frozen=True, slots=True)
class _Model:
    """A model as the client wrote it: the engine's own name, and the strategy behind an @."""

    name: str
    suffix: str | None
    is_unknown: bool = False


async def chat(request: Request) -> Response:
    """OpenAI's chat completions. `MODEL@STRATEGY`, or a field `secondpass`, has a strategy answer."""
    service = service_of(request)
    raw = await read_body(request, service.settings.max_body_bytes)
    body = decode(raw)
    model = _find_model(service, body)
    if model.suffix is None and body.get("secondpass") is None:
        node = service.knows_other_models if model.is_unknown else None
        node = node or service.writer_of_model(model.name, field="model")
        return Forwarded(service, node, forwarded(request, "chat/completions", raw, body))
    if "idempotency-key" in request.headers:
        raise InvalidRequest("is not supported yet with a strategy", field="Idempotency-Key")
    wanted = read_chat(body)
    spec = replace(
        routed(_spec(service, tenant_of(request), wanted, model), request, body),
        is_streamed=wanted.stream,
    )
    if wanted.stream:
        keep_alive = service.settings.keep_alive_seconds
        return EventStream(partial(_produce, request, spec, wanted), keep_alive)
    trace, created = Trace(), int(time.time())
    outcome = await cancel_on_disconnect(request.receive, partial(perform, request, spec, trace))
    return Response(
        dumps(completion(spec, outcome, trace, wanted, created)),
        media_type="application/json",
        headers={"x-secondpass-overhead-ms": f"{outcome.timing.orchestration:.3f}"},
    )


async def _produce(request: Request, spec: RunSpec, wanted: ChatRequest, outbox: Outbox) -> None:
    """Chunks as they come. An error is a response of its own until the first of them has been sent."""
    trace = Trace()
    chunks = Chunks(spec, wanted, int(time.time()))

    def tell(event: Any) -> None:
        for chunk in chunks.of(event):
            outbox.put(chunk)

    try:
        outcome = await perform(request, spec, trace, tell)
    except HttpError as error:
        if not outbox.has_begun:
            raise
        outbox.put(b"data: %b\n\n" % dumps(openai_error(error)))
    else:
        for chunk in chunks.last(outcome, trace):
            outbox.put(chunk)


def _find_model(service: Service, body: dict[str, Any]) -> _Model:
    """An exact name wins; else what follows the last @ is a strategy. Raises NotFound."""
    model = body.get("model")
    if model is None and service.knows_other_models:
        return _Model("", None, is_unknown=True)
    if not isinstance(model, str):
        raise InvalidRequest("is missing" if model is None else "must be a string", field="model")
    if model in service.models:
        return _Model(model, None)
    name, at, suffix = model.rpartition("@")
    if at and name in service.models:
        return _Model(name, suffix)
    if service.knows_other_models and suffix not in STRATEGIES:
        return _Model(model, None, is_unknown=True)
    raise NotFound(choose(model, service.models, "model"), field="model")


def _spec(service: Service, tenant: Tenant, wanted: ChatRequest, model: _Model) -> RunSpec:
    check_conversation(wanted.messages)
    extension, sampling = wanted.secondpass, wanted.sampling
    name, values = strategy_of(
        wanted,
        model.suffix,
        lambda: default_strategy(service, wanted.messages, extension.task, sampling),
    )
    strategy = find_strategy(name, field="secondpass.strategy")
    check_sampling(service, sampling, field=wanted.cap_field)
    service.writer_of_model(model.name, field="model")
    if extension.models.get("actor", model.name) != model.name:
        raise InvalidRequest("differs from model", field="secondpass.models.actor")
    return resolve(
        service,
        tenant,
        id=new_id("chatcmpl-"),
        strategy=strategy,
        params=find_params(strategy, values, sampling, service, at="secondpass.params"),
        messages=wanted.messages,
        sampling=sampling,
        terms=Terms(
            task=extension.task,
            models={**extension.models, "actor": model.name},
            budget=extension.budget,
            at="secondpass.",
        ),
    )

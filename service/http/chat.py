"""POST /v1/chat/completions: forward plain requests to an engine, run a strategy for the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from secondpass.service.common.errors import (
    HttpError,
    InvalidRequest,
    NotFound,
    ReasoningOverLimit,
)
from secondpass.service.common.events import Trace
from secondpass.service.common.json_text import without_member
from secondpass.service.common.strict_json import decode
from secondpass.service.common.validation import unknown_name
from secondpass.service.config.api_keys import Tenant
from secondpass.service.http.chat_render import Chunks, chat_completion
from secondpass.service.http.chat_schema import ChatRequest, select_strategy, validate_chat
from secondpass.service.http.disconnect import EventStream, Outbox, cancel_on_disconnect
from secondpass.service.http.encoding import dumps
from secondpass.service.http.forward import ForwardedResponse
from secondpass.service.http.problems import error_chunks
from secondpass.service.http.request_body import read_body
from secondpass.service.http.resolve import (
    RunOptions,
    check_sampling,
    default_strategy,
    find_params,
    find_strategy,
    notes_on,
    read_conversation,
    resolve,
)
from secondpass.service.http.routing import to_plain_request, with_routing
from secondpass.service.http.run_request import execute_run, new_id
from secondpass.service.http.state import Service, service_of, tenant_of
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies import STRATEGIES


@dataclass(frozen=True, slots=True)
class _Model:
    """The `model` field of a request: the engine's model name and the suffix after the @."""

    name: str
    suffix: str | None
    is_unknown: bool = False


async def chat(request: Request) -> Response:
    """OpenAI's chat completions. `MODEL@STRATEGY` or the `secondpass` field selects a strategy."""
    service = service_of(request)
    raw = await read_body(request)
    body = decode(raw)
    model = _find_model(service, body)
    if model.suffix is None and body.get("secondpass") is None:
        node = service.fallback_node if model.is_unknown else None
        node = node or service.find_generating_node(model.name, field="model")
        if "secondpass" in body:  # null: no options
            raw = without_member(raw, "secondpass")
        return ForwardedResponse(
            service, node, to_plain_request(request, "chat/completions", raw, body)
        )
    if "idempotency-key" in request.headers:
        raise InvalidRequest(
            "is not supported yet with a strategy; remove this header", field="Idempotency-Key"
        )
    chat_request = validate_chat(body)
    spec = replace(
        with_routing(_run_spec(service, tenant_of(request), chat_request, model), request, body),
        is_streamed=chat_request.stream,
    )
    if chat_request.stream:
        keep_alive = service.settings.keep_alive_seconds
        return EventStream(partial(_stream, request, spec, chat_request), keep_alive)
    trace, created = Trace(), int(time.time())
    with _naming_limits(chat_request):
        outcome = await cancel_on_disconnect(
            request.receive, partial(execute_run, request, spec, trace)
        )
    return Response(
        dumps(chat_completion(spec, outcome, trace, chat_request, created)),
        media_type="application/json",
        headers={"x-secondpass-overhead-ms": f"{outcome.timing.orchestration:.3f}"},
    )


async def _stream(
    request: Request, spec: RunSpec, chat_request: ChatRequest, outbox: Outbox
) -> None:
    """Stream the chunks of the run. Errors before the first chunk are raised."""
    trace = Trace()
    chunks = Chunks(spec, chat_request, int(time.time()))

    def send_chunks(event: Any) -> None:
        for chunk in chunks.of_event(event):
            outbox.put(chunk)

    try:
        with _naming_limits(chat_request):
            outcome = await execute_run(request, spec, trace, send_chunks)
    except HttpError as error:
        if not outbox.has_started:
            raise
        outbox.put(error_chunks(error))
    else:
        for chunk in chunks.final(outcome, trace):
            outbox.put(chunk)


@contextmanager
def _naming_limits(chat_request: ChatRequest) -> Iterator[None]:
    """Name the token limit by the field that the request has for it."""
    try:
        yield
    except ReasoningOverLimit as error:
        error.field = error.field and chat_request.max_tokens_field
        raise


def _find_model(service: Service, body: dict[str, Any]) -> _Model:
    """Resolve the `model` field. Raises InvalidRequest or NotFound.

    An exact model name wins. Otherwise the part after the last @ is the name of a strategy.
    """
    model = body.get("model")
    if model is None and service.fallback_node:
        return _Model("", None, is_unknown=True)
    if not isinstance(model, str):
        raise InvalidRequest("is missing" if model is None else "must be a string", field="model")
    if model in service.models:
        return _Model(model, None)
    name, at, suffix = model.rpartition("@")
    if at and name in service.models:
        return _Model(name, suffix)
    if service.fallback_node and suffix not in STRATEGIES:
        return _Model(model, None, is_unknown=True)
    raise NotFound(unknown_name(model, service.models, "model"), field="model")


def _run_spec(
    service: Service, tenant: Tenant, chat_request: ChatRequest, model: _Model
) -> RunSpec:
    messages = read_conversation(service, chat_request.messages)
    extension, sampling = chat_request.secondpass, chat_request.sampling
    selected = select_strategy(
        chat_request,
        model.suffix,
        lambda: default_strategy(service, messages, extension.task),
    )
    strategy = find_strategy(selected.name, field=selected.name_field)
    check_sampling(service, sampling, field=chat_request.max_tokens_field)
    service.find_generating_node(model.name, field="model")
    if extension.models.get("actor", model.name) != model.name:
        raise InvalidRequest("must equal model, or be omitted", field="secondpass.models.actor")
    return resolve(
        service,
        tenant,
        id=new_id("chatcmpl-"),
        strategy=strategy,
        params=find_params(strategy, selected.params, service, at=selected.params_field),
        messages=messages,
        sampling=sampling,
        options=RunOptions(
            task=extension.task,
            models={**extension.models, "actor": model.name},
            budget=extension.budget,
            notes=notes_on(chat_request.messages),
            at="secondpass.",
        ),
    )

"""POST /solve: one question, answered as one JSON document or as the events of its run."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from secondpass.service.common.errors import HttpError, InvalidRequest
from secondpass.service.common.events import Event, RunFailed, RunFinished, Trace
from secondpass.service.config.api_keys import Tenant
from secondpass.service.http.disconnect import EventStream, Outbox, cancel_on_disconnect
from secondpass.service.http.encoding import dumps, frame
from secondpass.service.http.problems import problem
from secondpass.service.http.render import answer, event_document
from secondpass.service.http.request_body import decode, read_body
from secondpass.service.http.resolve import (
    Terms,
    check_braces,
    check_conversation,
    check_sampling,
    default_strategy,
    find_params,
    find_strategy,
    is_blank,
    resolve,
)
from secondpass.service.http.routing import routed
from secondpass.service.http.run_request import new_id, perform
from secondpass.service.http.schema import SolveRequest, TraceLevel, read
from secondpass.service.http.state import Service, service_of, tenant_of
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies.api.values import Message


async def solve(request: Request) -> Response:
    """Solve a question by a strategy, within a budget."""
    service = service_of(request)
    if "idempotency-key" in request.headers:
        raise InvalidRequest("is not supported yet", field="Idempotency-Key")
    body = decode(await read_body(request, service.settings.max_body_bytes))
    wanted = read(SolveRequest, body)
    spec = replace(
        routed(_spec(service, tenant_of(request), wanted), request, body),
        is_streamed=wanted.stream,
    )
    if wanted.stream:
        return EventStream(
            partial(_produce, request, spec, wanted.trace), service.settings.keep_alive_seconds
        )
    trace, created = Trace(), int(time.time())
    outcome = await cancel_on_disconnect(request.receive, partial(perform, request, spec, trace))
    return Response(
        dumps(answer(spec, outcome, trace, wanted.trace, created)),
        media_type="application/json",
        headers={"x-secondpass-overhead-ms": f"{outcome.timing.orchestration:.3f}"},
    )


async def _produce(request: Request, spec: RunSpec, level: TraceLevel, outbox: Outbox) -> None:
    """Every event of the run as it comes, then the answer object or the problem."""
    trace, created = Trace(keeps_deltas=level == "full"), int(time.time())

    def tell(event: Event) -> None:
        if not isinstance(event, RunFinished | RunFailed):
            outbox.put(frame(event.type, len(trace.events) - 1, event_document(event, level)))

    try:
        outcome = await perform(request, spec, trace, tell)
    except HttpError as error:
        if not trace.events:
            raise
        outbox.put(frame(RunFailed.type, len(trace.events) - 1, problem(error)))
    else:
        document = answer(spec, outcome, trace, level, created)
        outbox.put(frame(RunFinished.type, len(trace.events) - 1, document))


def _spec(service: Service, tenant: Tenant, wanted: SolveRequest) -> RunSpec:
    if wanted.background:
        raise InvalidRequest("is not supported yet", field="background")
    check_sampling(service, wanted.sampling, field="sampling.max_tokens")
    messages = _messages(wanted)
    choice = wanted.strategy
    if choice is None:
        choice = default_strategy(service, messages, wanted.task, wanted.sampling)
    if isinstance(choice, str):
        strategy, params = find_strategy(choice, field="strategy"), {}
    else:
        strategy, params = find_strategy(choice.name, field="strategy.name"), choice.params
    return resolve(
        service,
        tenant,
        id=new_id("run_"),
        strategy=strategy,
        params=find_params(strategy, params, wanted.sampling, service, at="strategy.params"),
        messages=messages,
        sampling=wanted.sampling,
        terms=Terms(wanted.task, wanted.models, wanted.budget),
    )


def _messages(wanted: SolveRequest) -> tuple[Message, ...]:
    if (wanted.question is None) == (wanted.messages is None):
        both = (
            "and messages exclude each other"
            if wanted.messages is not None
            else "is missing, and so is messages"
        )
        raise InvalidRequest(both, field="question")
    if wanted.question is None:
        check_conversation(wanted.messages or ())
        return wanted.messages or ()
    if is_blank(wanted.question):
        raise InvalidRequest("is blank", field="question")
    check_braces(wanted.question, field="question")
    return (Message(role="user", content=wanted.question),)

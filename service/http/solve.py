"""POST /solve: answer a question, as one JSON document or as a stream of the run's events."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from secondpass.service.common.client_messages import without_empty_members
from secondpass.service.common.errors import HttpError, InvalidRequest
from secondpass.service.common.events import Event, RunFailed, RunFinished, Trace
from secondpass.service.common.strict_json import decode
from secondpass.service.config.api_keys import Tenant
from secondpass.service.http.disconnect import EventStream, Outbox, cancel_on_disconnect
from secondpass.service.http.encoding import dumps, sse_event
from secondpass.service.http.problems import problem
from secondpass.service.http.render import answer_document, event_document
from secondpass.service.http.request_body import read_body
from secondpass.service.http.resolve import (
    RunOptions,
    check_braces,
    check_sampling,
    default_strategy,
    find_params,
    find_strategy,
    is_blank,
    notes_on,
    read_conversation,
    resolve,
)
from secondpass.service.http.routing import with_routing
from secondpass.service.http.run_request import execute_run, new_id
from secondpass.service.http.schema import SolveRequest, TraceLevel, validate
from secondpass.service.http.state import Service, service_of, tenant_of
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies.api.values import Message


async def solve(request: Request) -> Response:
    """Answer a question with a strategy, within a budget."""
    service = service_of(request)
    if "idempotency-key" in request.headers:
        raise InvalidRequest("is not supported yet; remove this header", field="Idempotency-Key")
    body = decode(await read_body(request))
    solve_request = validate(SolveRequest, without_empty_members(body))
    spec = replace(
        with_routing(_run_spec(service, tenant_of(request), solve_request), request, body),
        is_streamed=solve_request.stream,
    )
    if solve_request.stream:
        return EventStream(
            partial(_stream, request, spec, solve_request.trace),
            service.settings.keep_alive_seconds,
        )
    trace, created = Trace(), int(time.time())
    outcome = await cancel_on_disconnect(
        request.receive, partial(execute_run, request, spec, trace)
    )
    return Response(
        dumps(answer_document(spec, outcome, trace, solve_request.trace, created)),
        media_type="application/json",
        headers={"x-secondpass-overhead-ms": f"{outcome.timing.orchestration:.3f}"},
    )


async def _stream(request: Request, spec: RunSpec, trace_level: TraceLevel, outbox: Outbox) -> None:
    """Stream the events of the run, then the answer object or the problem document."""
    trace, created = Trace(keeps_deltas=trace_level == "full"), int(time.time())

    def send_event(event: Event) -> None:
        if not isinstance(event, RunFinished | RunFailed):
            outbox.put(
                sse_event(event.type, len(trace.events) - 1, event_document(event, trace_level))
            )

    try:
        outcome = await execute_run(request, spec, trace, send_event)
    except HttpError as error:
        if not trace.events:
            raise
        outbox.put(sse_event(RunFailed.type, len(trace.events) - 1, problem(error)))
    else:
        document = answer_document(spec, outcome, trace, trace_level, created)
        outbox.put(sse_event(RunFinished.type, len(trace.events) - 1, document))


def _run_spec(service: Service, tenant: Tenant, solve_request: SolveRequest) -> RunSpec:
    if solve_request.background:
        raise InvalidRequest("is not supported yet; must be false", field="background")
    check_sampling(service, solve_request.sampling, field="sampling.max_tokens")
    messages = _messages(service, solve_request)
    choice = solve_request.strategy
    if choice is None:
        choice = default_strategy(service, messages, solve_request.task)
    if isinstance(choice, str):
        strategy, params = find_strategy(choice, field="strategy"), {}
    else:
        strategy, params = find_strategy(choice.name, field="strategy.name"), choice.params
    return resolve(
        service,
        tenant,
        id=new_id("run_"),
        strategy=strategy,
        params=find_params(strategy, params, service, at="strategy.params"),
        messages=messages,
        sampling=solve_request.sampling,
        options=RunOptions(
            solve_request.task,
            solve_request.models,
            solve_request.budget,
            notes=notes_on(solve_request.messages or ()),
        ),
    )


def _messages(service: Service, solve_request: SolveRequest) -> tuple[Message, ...]:
    if (solve_request.question is None) == (solve_request.messages is None):
        detail = (
            "is missing: give either question or messages"
            if solve_request.question is None
            else "cannot be combined with messages: give one of the two"
        )
        raise InvalidRequest(detail, field="question")
    if solve_request.question is None:
        return read_conversation(service, solve_request.messages or ())
    if is_blank(solve_request.question):
        raise InvalidRequest("must not be blank", field="question")
    check_braces(solve_request.question, field="question")
    return (Message(role="user", content=solve_request.question),)

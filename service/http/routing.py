"""What a client's headers and ours tell the routers before an engine: session, tenant, priority and trace context."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request

from secondpass.service.common.routing_headers import (
    AFFINITY,
    FORWARDED,
    PRIORITY,
    PRIORITY_HEADER,
    is_value,
    opening_of,
    session_of,
)
from secondpass.service.http.state import Service, service_of, tenant_of
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies.api.engine import PlainRequest, Routing

EVERYBODY = "*"
"""In `trusted_tenants`: every tenant, and the one without keys."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_OWN_ID = re.compile(r"req_([0-9a-f]{32})")


def routed(spec: RunSpec, request: Request, body: Mapping[str, Any]) -> RunSpec:
    """The specification, whose calls carry the session, the tenant and the trace context of its request.

    A run with more drafts than `session_max_n` is a large vote. One session would send all its drafts to one replica.
    """
    service = service_of(request)
    settings = service.settings
    session: str | None = _client_session(service, request, body) or spec.id
    group = None
    if spec.params.chains > settings.session_max_n:
        is_split = settings.session_of_large_votes == "split"
        session, group = (session, settings.session_max_n) if is_split else (None, None)
    headers = _named(request, PRIORITY) if _is_trusted(service, request) else ()
    routing = Routing(session=session, tenant=tenant_of(request).name, headers=headers)
    return replace(
        spec, routing=routing, session_group=group, traceparent=_trace_context(request)[0][1]
    )


def forwarded(request: Request, path: str, raw: bytes, body: Mapping[str, Any]) -> PlainRequest:
    """A plain request as an engine gets it: the client's headers that may pass, and where to place it.

    Our request id is left out: routers would take it for a session of one request. It travels in the trace context.
    """
    service = service_of(request)
    headers = [(name, value) for name, value in request.headers.items() if name in FORWARDED]
    headers += _trace_context(request)
    affinity = () if service.settings.ignore_client_sessions else _affinity(request)
    headers += affinity
    if _is_trusted(service, request):
        headers += _trusted_priority(request, body)
    session = _client_session(service, request, body)
    is_placed = session is not None or bool(affinity)
    if not is_placed and service.settings.session_of_forwards == "opening":
        session = opening_of(body)
    routing = Routing(session=session, tenant=tenant_of(request).name)
    return PlainRequest(path, raw, tuple(headers), routing)


def _client_session(service: Service, request: Request, body: Mapping[str, Any]) -> str | None:
    if service.settings.ignore_client_sessions:
        return None
    return session_of(request.headers, body)


def _is_trusted(service: Service, request: Request) -> bool:
    trusted = service.settings.trusted_tenants
    return EVERYBODY in trusted or tenant_of(request).name in trusted


def _named(request: Request, names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """The client's headers of these names, each once; one that no router takes is left out."""
    given = [(name, request.headers[name]) for name in sorted(names) if name in request.headers]
    return tuple((name, value) for name, value in given if is_value(value))


def _affinity(request: Request) -> tuple[tuple[str, str], ...]:
    """The client's affinity headers. Its request id is one too, since some routers hash it."""
    headers = _named(request, AFFINITY)
    name = request.state.request_id
    is_clients = request.headers.get("x-request-id") == name
    return (*headers, ("x-request-id", name)) if is_clients else headers


def _trusted_priority(request: Request, body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The priority headers of a trusted client; a priority in its body is one too, or ours would override it."""
    headers = _named(request, PRIORITY)
    priority = body.get("priority")
    if PRIORITY_HEADER in dict(headers) or type(priority) is not int:
        return headers
    return (*headers, (PRIORITY_HEADER, str(priority)))


def _trace_context(request: Request) -> list[tuple[str, str]]:
    """The W3C trace context of a request. One without it gets a trace id made of its request id."""
    given = request.headers.get("traceparent", "")
    if _TRACEPARENT.fullmatch(given):
        state = request.headers.get("tracestate")
        return [("traceparent", given), *([("tracestate", state)] if state else [])]
    name = request.state.request_id
    own = _OWN_ID.fullmatch(name)
    trace = own[1] if own else hashlib.sha256(name.encode()).hexdigest()[:32]
    return [("traceparent", f"00-{trace}-{secrets.token_hex(8)}-01")]

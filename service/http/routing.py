"""Headers for the routers in front of an engine: session, tenant, priority and trace context."""

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
from secondpass.service.common.trace_context import valid_context
from secondpass.service.config.api_keys import Tenant
from secondpass.service.config.settings import Settings
from secondpass.service.http.state import Service, service_of, tenant_of
from secondpass.service.runs.run_spec import RunSpec
from secondpass.strategies.api.engine import PlainRequest, Routing

ANY_TENANT = "*"
"""Entry of `trusted_tenants` for all tenants, including the one of a service without API keys."""

_OWN_ID = re.compile(r"req_([0-9a-f]{32})")


def with_routing(spec: RunSpec, request: Request, body: Mapping[str, Any]) -> RunSpec:
    """Return the specification with the session, tenant and trace context of its request.

    A run with more than `session_max_n` drafts is a large vote. One session would send all of its drafts to one replica,
    so `session_of_large_votes` either splits the session or removes it.
    """
    service = service_of(request)
    settings = service.settings
    session: str | None = _client_session(service, request, body) or spec.id
    group = None
    if spec.params.chains > settings.session_max_n:
        is_split = settings.session_of_large_votes == "split"
        session, group = (session, settings.session_max_n) if is_split else (None, None)
    headers = (
        _client_headers(request, PRIORITY)
        if is_trusted(service.settings, tenant_of(request))
        else ()
    )
    routing = Routing(session=session, tenant=tenant_of(request).name, headers=headers)
    return replace(
        spec, routing=routing, session_group=group, traceparent=_trace_context(request)[0][1]
    )


def to_plain_request(
    request: Request, path: str, raw: bytes, body: Mapping[str, Any]
) -> PlainRequest:
    """Build the plain request for an engine, with the permitted client headers and the routing.

    A request id that the service generated is not sent as a header, because routers would treat it as a session of one
    request. It is sent in the trace context.
    """
    service = service_of(request)
    headers = [(name, value) for name, value in request.headers.items() if name in FORWARDED]
    headers += _trace_context(request)
    affinity = () if service.settings.ignore_client_sessions else _affinity_headers(request)
    headers += affinity
    if is_trusted(service.settings, tenant_of(request)):
        headers += _priority_headers(request, body)
    session = _client_session(service, request, body)
    is_placed = session is not None or bool(affinity)
    if not is_placed and service.settings.session_of_forwards == "opening":
        session = opening_of(body)
    tenant = tenant_of(request)
    routing = Routing(session=session, tenant=tenant.name)
    salt = tenant.cache_salt if service.tenants.are_several else None
    return PlainRequest(path, raw, tuple(headers), routing, salt)


def _client_session(service: Service, request: Request, body: Mapping[str, Any]) -> str | None:
    if service.settings.ignore_client_sessions:
        return None
    return session_of(request.headers, body)


def is_trusted(settings: Settings, tenant: Tenant) -> bool:
    """Return whether the tenant may set priority and fairness."""
    return ANY_TENANT in settings.trusted_tenants or tenant.name in settings.trusted_tenants


def _client_headers(request: Request, names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the client's headers with these names. Values that a router may reject are dropped."""
    given = [(name, request.headers[name]) for name in sorted(names) if name in request.headers]
    return tuple((name, value) for name, value in given if is_value(value))


def _affinity_headers(request: Request) -> tuple[tuple[str, str], ...]:
    """Return the client's affinity headers, including its request id, which some routers hash."""
    headers = _client_headers(request, AFFINITY)
    name = request.state.request_id
    is_from_client = request.headers.get("x-request-id") == name
    return (*headers, ("x-request-id", name)) if is_from_client else headers


def _priority_headers(request: Request, body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the priority headers of a trusted client.

    A priority in its body is sent as a header too. Otherwise a header of the engine's table would override it.
    """
    headers = _client_headers(request, PRIORITY)
    priority = body.get("priority")
    if PRIORITY_HEADER in dict(headers) or type(priority) is not int:
        return headers
    return (*headers, (PRIORITY_HEADER, str(priority)))


def _trace_context(request: Request) -> list[tuple[str, str]]:
    """Return the W3C trace context of a request, or a new one derived from its request id."""
    headers = request.headers
    given = valid_context(headers.getlist("traceparent"), headers.getlist("tracestate"))
    if given:
        return [*given]
    name = request.state.request_id
    own = _OWN_ID.fullmatch(name)
    trace = own[1] if own else hashlib.sha256(name.encode()).hexdigest()[:32]
    return [("traceparent", f"00-{trace}-{secrets.token_hex(8)}-01")]

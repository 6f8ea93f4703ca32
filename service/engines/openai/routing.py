"""Headers for the routers and schedulers in front of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secondpass.service.common.routing_headers import OBJECTIVE_HEADER, PRIORITY_HEADER
from secondpass.strategies.api.engine import Call, Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingHeaders:
    """Routing headers of one engine's calls.

    Attributes:
        session: names of the headers with the call's session, if it has one.
        tenant: names of the headers with the tenant's name, if the call has one.
        objective: value of the objective header of every call; None for no header.
        priority: value of the priority header of every call; None for no header.
    """

    session: Sequence[str] = ("X-Session-ID",)
    tenant: Sequence[str] = ()
    objective: str | None = None
    priority: int | None = None

    @property
    def constant(self) -> dict[str, str]:
        """Headers of every request, unless the client's forwarded headers override them."""
        headers = {}
        if self.objective is not None:
            headers[OBJECTIVE_HEADER] = self.objective
        if self.priority is not None:
            headers[PRIORITY_HEADER] = str(self.priority)
        return headers

    def of(self, routing: Routing) -> dict[str, str]:
        """Return the headers of one request with lower-case names; the client's headers take precedence."""
        headers: dict[str, str] = {}
        if routing.tenant is not None:
            headers |= {name.lower(): routing.tenant for name in self.tenant}
        if routing.session is not None:
            headers |= {name.lower(): routing.session for name in self.session}
        return headers | dict(routing.headers)

    def of_call(self, call: Call) -> dict[str, str]:
        """Return the routing headers of `call`, and the trace context of its request."""
        trace = {} if call.traceparent is None else {"traceparent": call.traceparent}
        return self.of(call.routing) | trace

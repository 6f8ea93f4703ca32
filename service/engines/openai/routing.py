"""The headers that tell routers and schedulers before a server how to place a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secondpass.service.common.routing_headers import OBJECTIVE_HEADER, PRIORITY_HEADER
from secondpass.strategies.api.engine import Call, Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingHeaders:
    """Which headers the calls of one engine carry.

    `session` and `tenant` are names; every one of them carries the session, or the tenant's name, of a call that has
    one. `objective` and `priority` are values, the same for every call.
    """

    session: Sequence[str] = ("X-Session-ID",)
    tenant: Sequence[str] = ()
    objective: str | None = None
    priority: int | None = None

    @property
    def constant(self) -> dict[str, str]:
        """What every request to the server carries, unless the client may and does say otherwise."""
        headers = {}
        if self.objective is not None:
            headers[OBJECTIVE_HEADER] = self.objective
        if self.priority is not None:
            headers[PRIORITY_HEADER] = str(self.priority)
        return headers

    def of(self, routing: Routing) -> dict[str, str]:
        """The headers of one request, names in lower case: the client's own come before ours."""
        headers: dict[str, str] = {}
        if routing.tenant is not None:
            headers |= {name.lower(): routing.tenant for name in self.tenant}
        if routing.session is not None:
            headers |= {name.lower(): routing.session for name in self.session}
        return headers | dict(routing.headers)

    def of_call(self, call: Call) -> dict[str, str]:
        """The headers of a call: those of its routing, and the trace context of the request that it serves."""
        trace = {} if call.traceparent is None else {"traceparent": call.traceparent}
        return self.of(call.routing) | trace

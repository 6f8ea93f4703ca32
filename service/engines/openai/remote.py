"""What every engine behind an HTTP connection shares: its name and key, and whether its server answered last time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

import anyio
import httpx

from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.probe import check_health
from secondpass.service.engines.openai.routing import RoutingHeaders
from secondpass.service.engines.openai.wire import Dialect
from secondpass.strategies.api.errors import CallRejected, EngineError
from secondpass.strategies.api.values import Capability


class KnownServer(Protocol):
    """What is known of a server that has answered."""

    @property
    def dialect(self) -> Dialect: ...


S = TypeVar("S", bound=KnownServer)

NOT_ASKED = "not asked yet"


class RemoteEngine(ABC, Generic[S]):
    """The engine behind `url` (it ends in /v1), serving `model` (None: the only one that it serves).

    `key` is sent to that URL alone. `routing` names the headers that calls carry for routers. `connect_timeout` and `idle_timeout`, the longest silence within a reply, are in
    seconds. `client` replaces our own httpx client. Until `start` has succeeded `ready` is false and
    `why_not_ready` says why, in words for an operator.
    """

    def __init__(
        self,
        name: str,
        url: str,
        model: str | None = None,
        *,
        key: str | None = None,
        routing: RoutingHeaders | None = None,
        connect_timeout: float = 5.0,
        idle_timeout: float | None = 120.0,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.name = name
        self.model = model or ""
        self.why_not_ready: str | None = NOT_ASKED
        self._wanted = model
        self._server: S | None = None
        self._starting = anyio.Lock()
        self._routing = routing or RoutingHeaders()
        self._connection = Connection(
            name,
            url,
            key,
            headers=self._routing.constant,
            connect_timeout=connect_timeout,
            idle_timeout=idle_timeout,
            client=client,
        )

    @property
    def ready(self) -> bool:
        """Whether the server answered when it was last asked, and can serve the model."""
        return self.why_not_ready is None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the server was found to do; empty until it has answered."""
        return self._server.dialect.capabilities if self._server else frozenset()

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and completion together, where the server tells."""
        return self._server.dialect.context_window if self._server else None

    async def start(self) -> None:
        """Find out what the server can do, or, once that is known, whether it is still alive.

        After a failure the next call asks everything anew: it may be another server by then.
        """
        async with self._starting:
            if self.why_not_ready == NOT_ASKED:
                self.why_not_ready = "no answer yet"
            try:
                if self.ready and self._server:
                    await check_health(self._connection, self._server.dialect)
                else:
                    self._server = await self._found()
                    self.model = self._server.dialect.model
            except EngineError as failure:
                self.why_not_ready = f"{failure}{self._hint(failure)}"
            else:
                self.why_not_ready = None

    def _hint(self, failure: EngineError) -> str:
        """What is most often wrong where a server knows none of our paths."""
        is_lost = isinstance(failure, CallRejected) and failure.status == httpx.codes.NOT_FOUND
        is_root = self._connection.url == self._connection.root
        return "; does its address end in /v1?" if is_lost and is_root else ""

    @abstractmethod
    async def _found(self) -> S:
        """What the server can do. Raises EngineError."""

    async def aclose(self) -> None:
        """Close every connection; calls that are running fail."""
        self.why_not_ready = "closed"
        await self._connection.aclose()

"""Base class of engines behind an HTTP connection: name, API key, probing and readiness."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import anyio
import httpx

from secondpass.service.engines.common.health import DEFECT
from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.probe import check_health
from secondpass.service.engines.openai.routing import RoutingHeaders
from secondpass.service.engines.openai.wire import Dialect
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CallRejected, EngineError, EngineUnavailable
from secondpass.strategies.api.values import Capability


class ProbedServer(Protocol):
    """Probe result of a server."""

    @property
    def dialect(self) -> Dialect: ...


S = TypeVar("S", bound=ProbedServer)

NOT_PROBED = "not probed yet"
PROBE_SECONDS = 600.0

logger = logging.getLogger(__name__)


class RemoteEngine(ABC, Generic[S]):
    """An engine behind an HTTP server.

    `ready` is false until `start` has succeeded; until then `why_not_ready` contains the reason, without addresses. The
    log has the reason with addresses.

    Args:
        name: name of the engine in the configuration.
        url: base URL of the OpenAI API, ending in /v1.
        model: model to use; None for the only one that the server serves.
        key: API key, sent to this URL only.
        secrets: API keys of other engines, which are removed from messages like `key`.
        routing: routing headers of calls.
        connect_timeout: seconds to connect.
        idle_timeout: most seconds without data within a reply.
        client: httpx client to use instead of a new one.
    """

    def __init__(
        self,
        name: str,
        url: str,
        model: str | None = None,
        *,
        key: str | None = None,
        secrets: Iterable[str] = (),
        routing: RoutingHeaders | None = None,
        connect_timeout: float = 5.0,
        idle_timeout: float | None = 120.0,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.name = name
        self.model = model or ""
        self.why_not_ready: str | None = NOT_PROBED
        self._requested_model = model
        self._logged = ""
        self._server: S | None = None
        self._starting = anyio.Lock()
        self._routing = routing or RoutingHeaders()
        self._connection = Connection(
            name,
            url,
            key,
            secrets=secrets,
            headers=self._routing.constant,
            connect_timeout=connect_timeout,
            idle_timeout=idle_timeout,
            client=client,
        )

    @property
    def ready(self) -> bool:
        """True if the last probe or health check succeeded."""
        return self.why_not_ready is None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities of the server, as probed; empty until the first probe succeeds."""
        return self._server.dialect.capabilities if self._server else frozenset()

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and completion together; None if the server does not report it."""
        return self._server.dialect.context_window if self._server else None

    @property
    def template_tokens(self) -> int | None:
        """Upper bound of the tokens of the chat template for one message, as probed; None if unknown."""
        return self._server.dialect.template_tokens if self._server else None

    @property
    def control_tokens(self) -> frozenset[str]:
        """Control tokens that the server lists, beyond those of the known model families."""
        return self._server.dialect.control_tokens if self._server else frozenset()

    async def start(self) -> None:
        """Probe the server, or check its health once it is ready.

        After a failure the next call probes again, because the server may have been replaced. A defect of this code counts
        as a failure too: the exception is raised, and the engine is not ready.
        """
        async with self._starting:
            if self.why_not_ready == NOT_PROBED:
                self.why_not_ready = "no response yet"
            try:
                if self.ready and self._server:
                    await check_health(self._connection, self._server.dialect)
                else:
                    with self._connection.parsing(None):
                        self._server = await self._probed()
                    self.model = self._server.dialect.model
            except EngineError as failure:
                self._log(failure)
                self.why_not_ready = f"{failure}{self._hint(failure)}"
            except Exception:
                self.why_not_ready = DEFECT
                raise
            else:
                self._logged, self.why_not_ready = "", None

    async def _probed(self) -> S:
        with anyio.move_on_after(PROBE_SECONDS):
            return await self._probe_server()
        raise EngineUnavailable(
            f"the probe did not end within {PROBE_SECONDS:g} s", engine=self.name
        )

    def _log(self, failure: EngineError) -> None:
        """Log a failure that differs from the one before it, with addresses."""
        if failure.logged != self._logged:
            self._logged = failure.logged
            logger.info("engine %r at %s: %s", self.name, self._connection.url, failure.logged)

    def _hint(self, failure: EngineError) -> str:
        """Return a hint on a missing /v1, the usual cause of a 404."""
        is_not_found = isinstance(failure, CallRejected) and failure.status == httpx.codes.NOT_FOUND
        is_root = self._connection.url == self._connection.root
        return "; check that the engine's URL ends in /v1" if is_not_found and is_root else ""

    @abstractmethod
    async def _probe_server(self) -> S:
        """Return the probe result of the server. Raises EngineError."""

    async def aclose(self) -> None:
        """Close all connections; running calls fail."""
        self.why_not_ready = "closed"
        await self._connection.aclose()

    def _not_ready(self, call: Call) -> EngineUnavailable:
        message = f"engine {self.name!r} is not ready: {self.why_not_ready}"
        return EngineUnavailable(message, engine=self.name, role=call.role)

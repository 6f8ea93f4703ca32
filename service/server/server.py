"""A uvicorn server that drains before it closes its sockets, its configuration, and its sockets."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal, cast

import anyio
import uvicorn
from starlette.types import ASGIApp

from secondpass.service.common.errors import BadSettings
from secondpass.service.config.settings import Settings
from secondpass.service.http.state import RequestTracker
from secondpass.service.server.connections import ConnectionLimits, ConnectionPool
from secondpass.service.server.http_protocol import IDLE_SECONDS, BoundedHttpProtocol
from secondpass.service.server.signals import StartupSignals

CLOSE_SECONDS = 5
"""Seconds that uvicorn waits for clients to read their responses once all runs have ended."""

GC_THRESHOLD = 20_000
"""Allocations between garbage collections. A run makes a few hundred and few reference cycles."""

logger = logging.getLogger("secondpass")


class Server(uvicorn.Server):
    """A server that drains before it closes its sockets.

    Requests that arrive while draining get a 503 instead of a refused connection.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        traffic: RequestTracker,
        grace: float,
        *,
        startup: StartupSignals | None = None,
        has_died: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(config)
        self._startup = startup
        self._traffic = traffic
        self._grace = grace
        self._has_died = has_died
        self.engine_died = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening and log the address."""
        await super().startup(sockets)
        # Objects that exist now live as long as the process. Freezing excludes them from later full collections.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        if self.started:
            logger.info("listening on %s", self.address)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take over signal handling from the startup phase."""
        with super().capture_signals():
            if self._startup is not None:
                self._startup.is_complete = True
            yield

    async def on_tick(self, counter: int) -> bool:
        """Return whether the server should exit; uvicorn calls this ten times a second."""
        if not self.engine_died and self._has_died():
            logger.critical("the in-process engine has died: shutting down")
            self.engine_died = True
            self.should_exit = True
            self._grace = min(self._grace, CLOSE_SECONDS)
        return await super().on_tick(counter)

    @property
    def address(self) -> str:
        """The URL of the first listening socket."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait up to the grace period for runs to finish, then interrupt them and shut down.

        An interrupted run returns its best answer so far. A second Ctrl-C ends the wait.
        """
        logger.info("draining %d requests", len(self._traffic))
        async with anyio.create_task_group() as group:
            group.start_soon(self._cancel_on_force_exit, group.cancel_scope)
            await self._traffic.drain(self._grace)
            group.cancel_scope.cancel()
        await super().shutdown(sockets)

    async def _cancel_on_force_exit(self, scope: anyio.CancelScope) -> None:
        while not self.force_exit:  # noqa: ASYNC110 - set by a signal handler, which must not use an Event
            await anyio.sleep(0.1)
        scope.cancel()


def http_config(
    app: ASGIApp,
    settings: Settings,
    *,
    close_seconds: int,
    lifespan: Literal["auto", "on"] = "auto",
) -> uvicorn.Config:
    """Return the configuration of a server whose connections are bounded.

    Args:
        app: The application.
        settings: Address, access log and limits.
        close_seconds: Seconds that a shutdown waits for clients to read their responses.
        lifespan: "on" if the server must not start without the application's lifespan.
    """
    pool = ConnectionPool(ConnectionLimits.of(settings))
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=cast("type[asyncio.Protocol]", partial(BoundedHttpProtocol, pool=pool)),
        lifespan=lifespan,
        log_config=None,
        access_log=settings.access_log,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=close_seconds,
        workers=1,
    )


@contextmanager
def bound_sockets(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Bind a socket to every local address of `host`, without listening.

    Raises:
        BadSettings: `host` does not resolve, none of its addresses is local, or the port cannot be bound.
    """
    flags = f"--host {host} --port {port}"
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in found:
                bound = stack.enter_context(socket.socket(family, kind, protocol))
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                with _missing_address_allowed():
                    bound.bind(address)
                    sockets.append(bound)
        except OSError as error:
            raise BadSettings(f"{flags}: {error.strerror}") from error
        except ValueError as error:
            raise BadSettings(
                f"--host: must be a host name or an IP address, not {host!r}"
            ) from error
        if not sockets:
            raise BadSettings(f"{flags}: this machine has no such address")
        yield sockets


@contextmanager
def _missing_address_allowed() -> Iterator[None]:
    """Ignore an address that does not exist, such as `::1` for `localhost` where IPv6 is disabled."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise

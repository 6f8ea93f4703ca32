"""The uvicorn server, which drains before it closes its socket, and the sockets that it listens on."""

from __future__ import annotations

import errno
import gc
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import anyio
import uvicorn

from secondpass.service.common.errors import BadSettings
from secondpass.service.http.state import Traffic
from secondpass.service.server.signals import Start

LAST_SECONDS = 5
"""What uvicorn waits for replies to be taken, after every run has ended."""

GC_THRESHOLD = 20_000
"""Objects between two collections: a run makes some hundreds and few cycles."""

logger = logging.getLogger("secondpass")


class Server(uvicorn.Server):
    """A server that drains before it closes its socket: meanwhile requests get a 503, not a refused connection."""

    def __init__(
        self,
        config: uvicorn.Config,
        traffic: Traffic,
        grace: float,
        *,
        start: Start | None = None,
        has_died: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(config)
        self._start = start
        self._traffic = traffic
        self._grace = grace
        self._has_died = has_died
        self.has_lost_its_engine = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        # What is there now stays: a full collection would look through all of it again, in the middle of requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        if self.started:
            logger.info("listening on %s", self.address)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the server's from here on."""
        with super().capture_signals():
            if self._start is not None:
                self._start.is_over = True
            yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: should the server end?"""
        if not self.has_lost_its_engine and self._has_died():
            logger.critical("the engine in this process has died: ending with it")
            self.has_lost_its_engine = True
            self.should_exit = True
            self._grace = min(self._grace, LAST_SECONDS)
        return await super().on_tick(counter)

    @property
    def address(self) -> str:
        """Where the server listens, as a URL."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let runs finish, then have them end with what they have; Ctrl-C ends the wait."""
        logger.info("draining %d requests", len(self._traffic))
        async with anyio.create_task_group() as group:
            group.start_soon(self._hurry, group.cancel_scope)
            await self._traffic.drain(self._grace)
            group.cancel_scope.cancel()
        await super().shutdown(sockets)

    async def _hurry(self, scope: anyio.CancelScope) -> None:
        while not self.force_exit:  # noqa: ASYNC110 - a signal handler sets it, and may not touch an Event
            await anyio.sleep(0.1)
        scope.cancel()


@contextmanager
def bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets that hold every address of `host` which this machine has; they do not listen yet. Raises BadSettings."""
    where = f"--host {host} --port {port}"
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in found:
                one = stack.enter_context(socket.socket(family, kind, protocol))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                with _missing_address_allowed():
                    one.bind(address)
                    sockets.append(one)
        except OSError as error:
            raise BadSettings(f"{where}: {error.strerror}") from error
        except ValueError as error:
            raise BadSettings(f"{where}: is not the name of a host") from error
        if not sockets:
            raise BadSettings(f"{where}: this machine has no such address")
        yield sockets


@contextmanager
def _missing_address_allowed() -> Iterator[None]:
    """`localhost` may name an address of IPv6 where that is switched off."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise

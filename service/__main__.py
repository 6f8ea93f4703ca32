"""The command line: `secondpass serve` and what comes beside it."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType

import anyio
import uvicorn
from uvicorn.loops.auto import auto_loop_factory

from secondpass.service.app import InProcess, create_app, in_process, service_in, tenants_of
from secondpass.service.cli import commands
from secondpass.service.common.errors import BadSettings
from secondpass.service.config.api_keys import Tenants
from secondpass.service.config.settings import Settings, load
from secondpass.service.http.state import Traffic

LAST_SECONDS = 5
"""What uvicorn waits for replies to be taken, after every run has ended."""

GC_THRESHOLD = 20_000
"""Objects between two collections: a run makes some hundreds and few cycles."""

logger = logging.getLogger("secondpass")


class Interrupted(BaseException):
    """A signal came before the server could be told of it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Start:
    """Has a signal end the process until there is a server to obey it, which may take as long as a model takes to load.

    The event loop may swallow what is raised out of a signal's handler: `check` raises it again. The server raises what
    it obeyed once more when it has ended: nothing is left to do then.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._number: int | None = None
        for received in (signal.SIGINT, signal.SIGTERM):
            signal.signal(received, self._interrupt)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if not self.is_over:
            self._number = number
            raise Interrupted(number)

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self._number is not None:
            raise Interrupted(self._number)


class Server(uvicorn.Server):
    """A server that drains before it closes its socket: who comes meanwhile is told so, not refused."""

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
        """Let runs finish, then have them end with what they have; a second signal ends the wait."""
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


async def run(settings: Settings, start: Start) -> int:
    """Serve by these settings until a signal comes; the exit code. Raises BadSettings.

    With an engine in this process that dies, the process ends too: 1, so that its supervisor starts another.
    """
    # Before a model is loaded in vain:
    tenants = tenants_of(settings)
    with bound(settings.host, settings.port) as sockets:
        async with in_process(settings) as inside:
            start.check()
            server = server_of(settings, inside, tenants, start)
            await server.serve(sockets)
    return 1 if server.has_lost_its_engine else 0


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


def server_of(settings: Settings, inside: InProcess, tenants: Tenants, start: Start) -> Server:
    """The server that these settings describe. Raises BadSettings."""
    app = create_app(settings, inside, tenants=tenants)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=settings.access_log,
        timeout_graceful_shutdown=LAST_SECONDS,
        workers=1,
    )
    traffic, grace = service_in(app).traffic, settings.shutdown_grace_seconds
    return Server(config, traffic, grace, start=start, has_died=inside.has_died)


def serve(arguments: Sequence[str]) -> int:
    """`secondpass serve`: until a signal. 0 after a signal, 2 for bad settings."""
    try:
        settings = load(arguments)
        _log(settings)
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            return runner.run(run(settings, Start()))
    except BadSettings as error:
        for line in str(error).splitlines():
            print(f"secondpass serve: {line}", file=sys.stderr)  # noqa: T201 - the command's own output
        return 2
    except Interrupted as signalled:
        return 128 + signalled.number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["serve"]:
        return serve(given[1:])
    return commands.main(given)


def _log(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Their "info" is a line for each request or start-up step of no interest to an operator.
    for chatty in ("httpx", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(
            logging.DEBUG if settings.log_level == "debug" else logging.WARNING
        )


if __name__ == "__main__":
    sys.exit(main())

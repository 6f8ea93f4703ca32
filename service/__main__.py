"""The command line: `secondpass serve` and what comes beside it."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
from collections.abc import Sequence

import anyio
import uvicorn

from secondpass.service.app import create_app, service_in
from secondpass.service.cli import commands
from secondpass.service.http.state import Traffic
from secondpass.service.settings import Settings, load
from secondpass.service.settings_sources import BadSettings

LAST_SECONDS = 5
"""What uvicorn waits for replies to be taken, after every run has ended."""

GC_THRESHOLD = 20_000
"""Objects between two collections: a run makes some hundreds and few cycles."""

logger = logging.getLogger("secondpass")


class Server(uvicorn.Server):
    """A server that drains before it closes its socket: who comes meanwhile is told so, not refused."""

    def __init__(self, config: uvicorn.Config, traffic: Traffic, grace: float) -> None:
        super().__init__(config)
        self._traffic = traffic
        self._grace = grace

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        # What is there now stays: a full collection would look through all of it again, in the middle of requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        if self.started:
            logger.info("listening on %s", self.address)

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


def server_of(settings: Settings) -> Server:
    """The server that these settings describe. Raises BadSettings."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=settings.access_log,
        timeout_graceful_shutdown=LAST_SECONDS,
        workers=1,
    )
    return Server(config, service_in(app).traffic, settings.shutdown_grace_seconds)


def serve(arguments: Sequence[str]) -> int:
    """`secondpass serve`: until a signal. 0 after a signal, 2 for bad settings."""
    try:
        settings = load(arguments)
        _log(settings)
        server = server_of(settings)
    except BadSettings as error:
        for line in str(error).splitlines():
            print(f"secondpass serve: {line}", file=sys.stderr)  # noqa: T201 - the command's own output
        return 2
    for received in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again when it is done; it was obeyed by then.
        signal.signal(received, lambda *_: None)
    server.run()
    return 0


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

"""`secondpass serve`: the service until a signal."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

import uvicorn
from uvicorn.loops.auto import auto_loop_factory

from secondpass.service.common.errors import BadSettings
from secondpass.service.config.api_keys import Tenants
from secondpass.service.config.settings import Settings, load
from secondpass.service.server.app import InProcess, create_app, in_process, service_in, tenants_of
from secondpass.service.server.server import LAST_SECONDS, Server, bound
from secondpass.service.server.signals import Interrupted, Start


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
        start = Start()
        with start.handling_signals():
            settings = load(arguments)
            _log(settings)
            with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
                return runner.run(run(settings, start))
    except BadSettings as error:
        for line in str(error).splitlines():
            print(f"secondpass serve: {line}", file=sys.stderr)  # noqa: T201 - the command's own output
        return 2
    except Interrupted as signalled:
        return 128 + signalled.number


def _log(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Their "info" is a line for each request or start-up step of no interest to an operator.
    for chatty in ("httpx", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(
            logging.DEBUG if settings.log_level == "debug" else logging.WARNING
        )

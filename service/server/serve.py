"""The command `secondpass serve`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

from fastapi import FastAPI
from uvicorn.loops.auto import auto_loop_factory

from secondpass.service.common.errors import BadSettings
from secondpass.service.common.logs import new_handler
from secondpass.service.config.settings import Settings, load
from secondpass.service.server.app import (
    InProcessEngines,
    create_app,
    in_process,
    service_in,
    tenants_of,
)
from secondpass.service.server.open_files import allow_open_files
from secondpass.service.server.server import CLOSE_SECONDS, Server, bound_sockets, http_config
from secondpass.service.server.signals import Interrupted, StartupSignals


async def run(settings: Settings, startup: StartupSignals) -> int:
    """Serve until a signal arrives and return the exit code. Raises BadSettings.

    If an in-process engine or a background task dies, the server shuts down and the exit code is 1, so that a supervisor
    restarts it.
    """
    # Loading a model takes minutes, so errors in the keys file and the address are reported first.
    allow_open_files(settings)
    tenants = tenants_of(settings)
    with bound_sockets(settings.host, settings.port) as sockets:
        async with in_process(settings) as inside:
            startup.check()
            app = create_app(settings, inside, tenants=tenants)
            server = create_server(app, settings, inside, startup)
            await server.serve(sockets)
    has_failed = service_in(app).background.failed_task is not None
    return 1 if server.engine_died or has_failed else 0


def create_server(
    app: FastAPI, settings: Settings, inside: InProcessEngines, startup: StartupSignals
) -> Server:
    """Create the server of an application."""
    config = http_config(app, settings, close_seconds=CLOSE_SECONDS)
    traffic, grace = service_in(app).traffic, settings.shutdown_grace_seconds
    return Server(config, traffic, grace, startup=startup, has_died=inside.has_died)


def serve(arguments: Sequence[str]) -> int:
    """Run `secondpass serve` until a signal arrives.

    Returns:
        The exit code: 0 after a signal, 1 if an in-process engine or a background task died, 2 for bad settings, and 128 plus the signal
        number for a signal during startup.
    """
    try:
        startup = StartupSignals()
        with startup.handling_signals():
            settings = load(arguments)
            _log(settings)
            with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
                return runner.run(run(settings, startup))
    except BadSettings as error:
        for line in str(error).splitlines():
            print(f"secondpass serve: {line}", file=sys.stderr)  # noqa: T201 - the command's own output
        return 2
    except Interrupted as signalled:
        return 128 + signalled.number


def _log(settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level.upper(), handlers=[new_handler()])
    # At "info" these loggers write a line for each request and startup step.
    for verbose in ("httpx", "uvicorn.error"):
        logging.getLogger(verbose).setLevel(
            logging.DEBUG if settings.log_level == "debug" else logging.WARNING
        )

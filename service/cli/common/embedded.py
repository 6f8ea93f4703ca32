"""HTTP server in this process, on a free loopback port, for the `--embedded` option."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import anyio
import uvicorn
from fastapi import FastAPI

from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.cli.common.output import print_text
from secondpass.service.common.concurrency import task_group
from secondpass.service.common.errors import BadSettings
from secondpass.service.common.logs import new_handler
from secondpass.service.config.settings import Settings, load
from secondpass.service.http.state import Service
from secondpass.service.server.app import create_app, in_process, service_in
from secondpass.service.server.server import http_config

SHUTDOWN_TIMEOUT_SECONDS = 5
WAIT_NOTICE_SECONDS = 2.0
"""Waiting time after which a message names the engines that are not ready."""


class _Server(uvicorn.Server):
    """A server that leaves signal handling to the command.

    `startup_done` is set when the server listens or has failed to start. `stopped` is set when it has ended.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.startup_done = anyio.Event()
        self.stopped = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.startup_done.set()

    async def serve_on(self, listening: socket.socket) -> None:
        try:
            await self.serve(sockets=[listening])
        finally:
            self.startup_done.set()
            self.stopped.set()


@asynccontextmanager
async def embedded_server(flags: Sequence[str], wait: float) -> AsyncIterator[str]:
    """Serve on a free loopback port during the block and yield the URL.

    On exit the server and its engines are stopped before the block returns.

    Args:
        flags: Flags of `serve`. Host and port have no effect.
        wait: Seconds within which the engines must become ready.

    Raises:
        Failure: The settings are invalid, the server did not start, or the engines are not ready in time.
    """
    async with AsyncExitStack() as stack:
        try:
            settings = load(flags)
            # stderr is the command's; vLLM in this process logs a lot at its default level.
            os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
            inside = await stack.enter_async_context(in_process(settings))
            app = create_app(settings, inside)
        except BadSettings as error:
            raise Failure(f"--embedded: {error}", REFUSED) from error
        yield await stack.enter_async_context(_serve(app, settings, wait))


@asynccontextmanager
async def _serve(app: FastAPI, settings: Settings, wait: float) -> AsyncIterator[str]:
    if "log_level" in settings.model_fields_set:
        logging.basicConfig(level=settings.log_level.upper(), handlers=[new_handler()])
    config = http_config(app, settings, close_seconds=SHUTDOWN_TIMEOUT_SECONDS, lifespan="on")
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with task_group() as group:
            group.start_soon(server.serve_on, listening)
            try:
                await server.startup_done.wait()
                if not server.started:
                    raise Failure("--embedded: the server did not start; see the log")
                await _wait_until_ready(service_in(app), wait)
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                with anyio.CancelScope(shield=True):
                    await server.stopped.wait()


async def _wait_until_ready(service: Service, wait: float) -> None:
    has_notified = False
    began = anyio.current_time()
    while reasons := service.not_ready():
        waited = anyio.current_time() - began
        if waited >= wait:
            raise Failure(f"--embedded: not ready after {wait:g} s: {'; '.join(reasons)}")
        if waited >= WAIT_NOTICE_SECONDS and not has_notified:
            print_text(f"secondpass: waiting for {'; '.join(reasons)}", to_stderr=True)
            has_notified = True
        await anyio.sleep(0.05)

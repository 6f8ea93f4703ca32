"""A service for one question, in this process: the same application, reached through a loopback socket."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import anyio
import uvicorn
from fastapi import FastAPI

from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.common.concurrency import task_group
from secondpass.service.common.errors import BadSettings
from secondpass.service.config.settings import Settings, load
from secondpass.service.http.state import Service
from secondpass.service.server.app import create_app, in_process, service_in

LAST_SECONDS = 5
PATIENCE = 2.0
"""Seconds after which somebody who waits is told what for."""


class _Server(uvicorn.Server):
    """A server that leaves signals to whom the process belongs, and says when it is up, or never will be."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_settled = anyio.Event()
        self.has_ended = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_settled.set()

    async def run_until_told(self, listening: socket.socket) -> None:
        try:
            await self.serve(sockets=[listening])
        finally:
            self.has_settled.set()
            self.has_ended.set()


@asynccontextmanager
async def embedded(flags: Sequence[str], wait: float) -> AsyncIterator[str]:
    """Serve on a free port while the block lasts, by these flags of `serve`; gives the URL.

    Its host and port settings have no part. `wait` is how many seconds engines may take to get ready. Raises
    Failure; leaving the block ends everything, and waits until it has ended.
    """
    async with AsyncExitStack() as stack:
        try:
            settings = load(flags)
            os.environ.setdefault(
                "VLLM_LOGGING_LEVEL", "WARNING"
            )  # vLLM in this process tells a lot
            inside = await stack.enter_async_context(in_process(settings))
            app = create_app(settings, inside)
        except BadSettings as error:
            raise Failure(f"--embedded: {error}", REFUSED) from error
        yield await stack.enter_async_context(_served(app, settings, wait))


@asynccontextmanager
async def _served(app: FastAPI, settings: Settings, wait: float) -> AsyncIterator[str]:
    if "log_level" in settings.model_fields_set:
        logging.basicConfig(level=settings.log_level.upper())
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with task_group() as group:
            group.start_soon(server.run_until_told, listening)
            try:
                await server.has_settled.wait()
                if not server.started:
                    raise Failure("--embedded: the service did not start; the log says why")
                await _ready(service_in(app), wait)
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                with anyio.CancelScope(shield=True):
                    await server.has_ended.wait()


async def _ready(service: Service, wait: float) -> None:
    is_told = False
    began = anyio.current_time()
    while reasons := service.not_ready():
        waited = anyio.current_time() - began
        if waited >= wait:
            raise Failure(f"--embedded: not ready after {wait:g} s: {'; '.join(reasons)}")
        if waited >= PATIENCE and not is_told:
            print(f"secondpass: waiting for {'; '.join(reasons)}", file=sys.stderr)  # noqa: T201
            is_told = True
        await anyio.sleep(0.05)

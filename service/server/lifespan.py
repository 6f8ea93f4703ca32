"""What goes on beside the requests: engines are started and watched, and at the end nothing is left running."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from fastapi import FastAPI

from secondpass.service.common.concurrency import task_group
from secondpass.service.equivalence.checker import Equivalence, WorkerFailed
from secondpass.service.http.state import Node, Service

RETRY_SECONDS = 1.0
"""Between two questions to an engine that is not ready."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(service: Service, _: FastAPI) -> AsyncIterator[None]:
    """Start the engines and watch them; at the end let nothing go on."""
    async with AsyncExitStack() as stack:
        for node in service.nodes.values():
            stack.push_async_callback(_close, node)
        await stack.enter_async_context(service.shared.equivalence)
        async with task_group() as group:
            group.start_soon(_warm, service.shared.equivalence)
            for node in service.nodes.values():
                group.start_soon(_watch, node, service.settings.health_check_seconds)
            yield
            await service.traffic.drain()
            group.cancel_scope.cancel()


async def _warm(equivalence: Equivalence) -> None:
    """Spare the first vote the start of the process that compares its answers."""
    try:
        await equivalence.warm()
    except WorkerFailed as error:
        logger.warning("answers will be compared as text only: %s", error)


async def _watch(node: Node, health_check_seconds: float) -> None:
    """Ask the engine until it is ready, and then whether it still is; each change is logged."""
    reported: str | None = "not contacted yet"
    while True:
        await node.engine.start()
        if (reason := node.why_not_ready) != reported:
            reported = reason
            _report(node.engine.name, reason)
        await anyio.sleep(health_check_seconds if node.is_ready else RETRY_SECONDS)


def _report(engine: str, reason: str | None) -> None:
    if reason is None:
        logger.info("engine %r is ready", engine)
    else:
        logger.warning("engine %r is not ready: %s", engine, reason)


async def _close(node: Node) -> None:
    await node.engine.aclose()

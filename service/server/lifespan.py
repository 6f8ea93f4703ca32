"""Background tasks: start and health-check engines, and stop everything on shutdown."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from fastapi import FastAPI

from secondpass.service.common.concurrency import task_group
from secondpass.service.equivalence.checker import Equivalence, WorkerFailed
from secondpass.service.http.state import ServedEngine, Service

RETRY_SECONDS = 1.0
"""Seconds between health checks of an engine that is not ready."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(service: Service, _: FastAPI) -> AsyncIterator[None]:
    """Start and health-check the engines. On shutdown, drain requests and close everything."""
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
    """Start the answer comparison worker now, so that the first vote does not wait for it."""
    try:
        await equivalence.warm()
    except WorkerFailed as error:
        logger.warning(
            "answers are compared as plain text because the comparison worker failed: %s", error
        )


async def _watch(node: ServedEngine, health_check_seconds: float) -> None:
    """Check the engine's health repeatedly and log every change."""
    reported: str | None = "not probed yet"
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


async def _close(node: ServedEngine) -> None:
    await node.engine.aclose()

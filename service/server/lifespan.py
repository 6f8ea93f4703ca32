"""Background tasks: start and health-check engines, and stop everything on shutdown.

A background task that fails has a defect. It ends the process, because a server without it would never become ready. The
health check of an engine continues after any exception: one reply of one engine must not end the service of the others.
"""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio
from fastapi import FastAPI

from secondpass.service.common.concurrency import task_group
from secondpass.service.equivalence.checker import Equivalence, WorkerFailed
from secondpass.service.http.state import ServedEngine, Service

RETRY_SECONDS = 1.0
"""Seconds between health checks of an engine that is not ready."""

DEFECT_LOG_SECONDS = 60.0
"""Fewest seconds between two log records of a health check's defect."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(service: Service, _: FastAPI) -> AsyncIterator[None]:
    """Start and health-check the engines. On shutdown, drain requests and close everything."""
    async with AsyncExitStack() as stack:
        for node in service.nodes.values():
            stack.push_async_callback(_close, node)
        await stack.enter_async_context(service.shared.equivalence)
        async with task_group() as group:
            warm = partial(_warm, service.shared.equivalence)
            group.start_soon(_supervise, service, "answer comparison", warm)
            for node in service.nodes.values():
                watch = partial(_watch, node, service.settings.health_check_seconds)
                name = f"health check of engine {node.engine.name!r}"
                group.start_soon(_supervise, service, name, watch)
            yield
            await service.traffic.drain()
            group.cancel_scope.cancel()


async def _supervise(service: Service, name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run a background task. If it fails, log the error and end the process by SIGTERM."""
    try:
        await work()
    except Exception:
        logger.critical("the background task %r failed: shutting down", name, exc_info=True)
        service.background.failed_task = name
        os.kill(os.getpid(), signal.SIGTERM)


async def _warm(equivalence: Equivalence) -> None:
    """Start the answer comparison worker now, so that the first vote does not wait for it."""
    try:
        await equivalence.warm()
    except WorkerFailed as error:
        logger.warning(
            "answers are compared as plain text because the comparison worker failed: %s", error
        )


async def _watch(node: ServedEngine, health_check_seconds: float) -> None:
    """Check the engine's health repeatedly and log every change.

    A defect of a check is logged, and the next check follows.
    """
    reported: str | None = "not probed yet"
    logged_at = -math.inf
    while True:
        has_failed = False
        try:
            await node.engine.start()
        except Exception:
            has_failed = True
            if anyio.current_time() - logged_at >= DEFECT_LOG_SECONDS:
                logged_at = anyio.current_time()
                logger.exception(
                    "the health check of engine %r failed by a defect", node.engine.name
                )
        if (reason := node.why_not_ready) != reported:
            reported = reason
            _report(node.engine.name, reason)
        is_fine = node.is_ready and not has_failed
        await anyio.sleep(health_check_seconds if is_fine else RETRY_SECONDS)


def _report(engine: str, reason: str | None) -> None:
    if reason is None:
        logger.info("engine %r is ready", engine)
    else:
        logger.warning("engine %r is not ready: %s", engine, reason)


async def _close(node: ServedEngine) -> None:
    await node.engine.aclose()

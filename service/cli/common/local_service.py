"""The service's components in this process, without an HTTP server."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.common.errors import BadSettings
from secondpass.service.config.settings import load
from secondpass.service.http.state import Service
from secondpass.service.server.app import create_app, in_process, service_in


@asynccontextmanager
async def local_service(flags: Sequence[str], wait: float) -> AsyncIterator[Service]:
    """Yield the service that the flags of `serve` configure, once the actor's engine is ready.

    Args:
        flags: Flags of `serve`.
        wait: Seconds within which the engine must become ready.

    Raises:
        Failure: The flags are invalid, or the engine is not ready in time.
    """
    try:
        settings = load(flags)
        async with in_process(settings) as inside:
            service = service_in(create_app(settings, inside))
            node = service.roles["actor"]
            if "log_level" in settings.model_fields_set:
                logging.basicConfig(level=settings.log_level.upper())
            try:
                began = anyio.current_time()
                await node.engine.start()
                while not node.is_ready:
                    if anyio.current_time() - began >= wait:
                        raise Failure(
                            f"the engine is not ready after {wait:g} s: {node.why_not_ready}"
                        )
                    await anyio.sleep(1)
                    await node.engine.start()
                yield service
            finally:
                with anyio.CancelScope(shield=True):
                    await node.engine.aclose()
    except BadSettings as error:
        raise Failure(f"after --: {error}", REFUSED) from error

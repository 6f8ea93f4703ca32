"""An upstream server of the tests on a thread of its own, for a service that runs on another."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from aiohttp import web
from anyio.from_thread import start_blocking_portal

from tests.engines.upstream import DONE, Body, Upstream, chunk, event, streams

_numbers = count()


async def disagrees(request: web.Request, body: Body) -> web.StreamResponse:
    """Another answer to each request, so that no vote is decided early."""
    text = f"The answer is {next(_numbers)}."
    return await streams(event(chunk(text)), event(chunk(finish="stop")), DONE)(request, body)


@contextmanager
def running(upstream: Upstream) -> Iterator[Upstream]:
    """Serve until the block is left."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(upstream.serving()) as served,
    ):
        yield served


def generations(upstream: Upstream) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Headers and body of each completion that was asked for since the list was last cleared."""
    return [
        (headers, json.loads(raw))
        for path, headers, raw in upstream.requests
        if path.endswith("/completions")
    ]

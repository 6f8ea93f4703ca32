"""An upstream test server in its own thread, for a service in another thread."""

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
    """Reply with a new answer each time, so that no vote is decided early."""
    chunks = [
        event(chunk(f"The answer is {next(_numbers)}.", "stop", index))
        for index in range(body.get("n") or 1)
    ]
    return await streams(*chunks, DONE)(request, body)


@contextmanager
def running(upstream: Upstream) -> Iterator[Upstream]:
    """Serve the upstream for the duration of the block."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(upstream.serving()) as served,
    ):
        yield served


def drafts(upstream: Upstream) -> int:
    """Number of completions requested, singly or in batches."""
    return sum(body.get("n") or 1 for _, body in generations(upstream))


def generations(upstream: Upstream) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Headers and body of each completion request since the list was last cleared."""
    return [
        (headers, json.loads(raw))
        for path, headers, raw in upstream.requests
        if path.endswith("/completions")
    ]

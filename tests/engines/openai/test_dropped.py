"""Retries of requests that llm-d dropped, by its reason."""

from collections.abc import Iterator

import pytest
from aiohttp import web

from secondpass.service.engines.common.status_codes import DROPPED_REASON_HEADER
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable
from secondpass.strategies.api.values import SOLVE
from secondpass.testing import support
from tests.engines.upstream import Body, Handler, Upstream, plain

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def drops(status: int, reason: str | None) -> Handler:
    """Return a handler that drops the first request with `reason` and answers the others."""
    requests: Iterator[int] = iter(range(100))

    async def handle(request: web.Request, body: Body) -> web.StreamResponse:
        if next(requests):
            return await plain(request, body)
        headers = {} if reason is None else {DROPPED_REASON_HEADER: reason}
        return web.json_response({"error": "dropped"}, status=status, headers=headers)

    return handle


@pytest.mark.parametrize(
    ("status", "reason", "requests"),
    [
        (429, "rejected-saturated", 2),
        (429, "rejected-ttl-expired", 2),
        (503, "rejected-shutting-down", 2),
        (503, "evicted", 2),
        (429, "evicted-queue-pressure", 2),
        (429, "evicted-priority", 2),
        (400, "evicted-priority", 2),  # the reason overrides the status
        (503, "rejected-no-endpoints", 1),
        (503, "rejected-context-cancelled", 1),
        (429, "rejected-context-cancelled", 1),
        (503, "a-reason-of-tomorrow", 2),
        (400, "a-reason-of-tomorrow", 1),
        (503, None, 2),
    ],
)
async def test_the_reason_decides_whether_a_dropped_request_is_retried(
    upstream: Upstream, engine: HttpEngine, status: int, reason: str | None, requests: int
) -> None:
    upstream.chat = drops(status, reason)
    upstream.requests.clear()
    run = support.make_run(support.upstream(engine, attempts=3))
    if requests == 2:
        assert (await run.ask(SOLVE)).text == "Hello"
    else:
        with pytest.raises((EngineUnavailable, CallRejected), match=str(status)) as refused:
            await run.ask(SOLVE)
        assert reason is None or "tomorrow" in reason or reason in str(refused.value)
    assert len(upstream.requests) == requests

"""Upstreams that break their streams, and an instance of the service in front of one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from tests.engines.upstream import Body, Handler, Upstream, chunk, event, start_stream
from tests.http.serving import Json, Served, serving
from tests.http.upstreams import running
from tests.polling import wait_until

CHAT = "/v1/chat/completions"
MESSAGES: Any = [{"role": "user", "content": "What is 6 times 7?"}]
PARTIAL = b'data: {"choices": [{"index": 0, "del'
WAYS = ("reset", "close", "partial", "garbage", "error chunk")


def counted(number: int) -> bytes:
    """Return the chunk of word `number`, from 0, with the number of tokens so far."""
    usage = {"prompt_tokens": 5, "completion_tokens": number + 1}
    return event(chunk(f"word{number} ") | {"usage": usage})


def breaks(after: int, how: str = "reset") -> Handler:
    """Return a handler that breaks its stream after a number of chunks, without a finish reason."""

    async def handle(request: web.Request, body: Body) -> web.StreamResponse:
        response = await start_stream(request)
        for number in range(after):
            await response.write(counted(number))
        if how == "partial":
            await response.write(PARTIAL)
        elif how == "garbage":
            await response.write(b"data: {not json\n\n")
        elif how == "error chunk":
            await response.write(event({"error": {"message": "out of memory", "code": 500}}))
        if how in ("reset", "partial"):
            assert request.transport is not None
            request.transport.abort()
        return response

    return handle


@contextmanager
def in_front_of(upstream: Upstream, **settings: object) -> Iterator[Served]:
    """Run the service over a running upstream, ready for requests."""
    with (
        running(upstream),
        serving(engine="http", engine_url=upstream.url, model="model", **settings) as front,
    ):
        wait_until(lambda: front.get("/readyz").status_code == 200)
        upstream.requests.clear()
        yield front


def chunks_of(text: str) -> list[Json]:
    """Return the JSON of each chunk before [DONE], which must be the last event."""
    *chunks, done = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert done == "[DONE]"
    return [json.loads(each) for each in chunks]

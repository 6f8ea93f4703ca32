import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator

import anyio
import httpx
import pytest
from aiohttp import web

from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.strategies.api.engine import PlainRequest
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Role
from tests.engines.support import CALL, KEY, run, started, until_idle
from tests.engines.upstream import (
    Body,
    Upstream,
    breaking,
    endless,
    plain,
    refuses,
)

pytestmark = pytest.mark.anyio


# -- aborted calls ----------------------------------------------------------------------------------------


async def test_closing_a_stream_aborts_the_request_at_once(
    upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = endless
    stream = engine.stream(CALL)
    await anext(stream)
    assert upstream.running == 1
    await stream.aclose()
    await until_idle(upstream, 0.25)


@pytest.mark.parametrize("is_native", [True, False])
async def test_cancelling_a_call_aborts_the_request_at_once(
    is_native: bool, upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = endless

    async def consume() -> None:
        await run(engine)

    if is_native:
        tasks = [asyncio.create_task(consume()) for _ in range(20)]
        await asyncio.sleep(0.3)
        assert upstream.running == 20
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    else:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(consume)
            await anyio.sleep(0.3)
            assert upstream.running == 20
            group.cancel_scope.cancel()
    await until_idle(upstream, 0.25)


async def test_cancelling_a_call_before_the_response_headers_aborts_the_request(
    upstream: Upstream, engine: HttpEngine
) -> None:
    async def mute(_: web.Request, __: Body) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    upstream.chat = mute
    with anyio.move_on_after(0.1):
        await run(engine)
    await until_idle(upstream, 0.25)


class SlowToClose(httpx.AsyncByteStream):
    """A body that never ends and takes 50 ms to close."""

    is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        await anyio.sleep(0.05)
        self.is_closed = True


async def test_a_response_is_closed_completely_when_its_reader_is_cancelled() -> None:
    body = SlowToClose()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    client = httpx.AsyncClient(transport=transport, trust_env=False, verify=False)
    connection = Connection("e", "http://upstream/v1", client=client)
    with anyio.move_on_after(0.02) as scope:
        async with connection.open("GET", connection.url) as response:
            async for _ in response.aiter_raw():
                pass
    assert scope.cancelled_caught
    assert body.is_closed
    await connection.aclose()


class EndlessConnection(Connection):
    """A connection with an endless reply; it counts the streams of chunks that were closed."""

    closed = 0

    async def chunks(
        self, response: httpx.Response, *, role: Role | None = None
    ) -> AsyncGenerator[bytes]:
        try:
            yield b"data: 1\n\n"
            await anyio.sleep_forever()
        finally:
            self.closed += 1


async def test_closing_the_events_of_a_stream_closes_its_chunks_at_once() -> None:
    connection = EndlessConnection("e", "http://upstream/v1")
    response = httpx.Response(200, headers={"content-type": "text/event-stream"})
    events = connection.events(response)
    assert await anext(events) == [b"1"]
    assert connection.closed == 0
    await events.aclose()
    assert connection.closed == 1
    await connection.aclose()


async def test_300_streams_run_concurrently(upstream: Upstream, engine: HttpEngine) -> None:
    all_arrived = asyncio.Event()

    async def wait_for_all(request: web.Request, _: Body) -> web.StreamResponse:
        if upstream.running == 300:
            all_arrived.set()
        await all_arrived.wait()
        return await plain(request, {})

    upstream.chat = wait_for_all
    async with anyio.create_task_group() as tasks:
        for _ in range(300):
            tasks.start_soon(run, engine)
    assert upstream.running == 0


async def test_sequential_calls_share_a_connection(upstream: Upstream, engine: HttpEngine) -> None:
    before = len(upstream.connections)
    for _ in range(10):
        await run(engine)
    assert len(upstream.connections) - before <= 1


async def test_a_closed_engine_rejects_calls(upstream: Upstream) -> None:
    async with started(upstream) as engine:
        pass
    assert not engine.ready
    with pytest.raises(EngineUnavailable, match="closed"):
        await run(engine)
    await engine.start()
    assert not engine.ready


# -- the API key ------------------------------------------------------------------------------------------


async def test_a_redirect_is_an_error_and_its_target_gets_no_api_key(
    upstream: Upstream, engine: HttpEngine
) -> None:
    async with Upstream().serving() as elsewhere:

        async def redirect(_: web.Request, __: Body) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{elsewhere.url}/chat/completions")

        upstream.chat = redirect
        with pytest.raises(EngineUnavailable, match="redirect"):
            await run(engine)
        with pytest.raises(EngineUnavailable, match="redirect"):
            async with engine.forward(PlainRequest("chat/completions", b"{}")):
                pass
        assert elsewhere.requests == []


async def test_the_api_key_is_sent_only_to_the_engines_url_and_is_in_no_error(
    upstream: Upstream, engine: HttpEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Upstream().serving() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        async with started(upstream) as fresh:
            await run(fresh)
        assert proxy.requests == []
    sent = {headers.get("authorization") for _, headers, _ in upstream.requests}
    assert sent == {f"Bearer {KEY}"}
    upstream.chat = refuses(500, {"error": "no"})
    with pytest.raises(EngineUnavailable) as failed:
        await run(engine)
    assert KEY not in f"{failed.value!r} {engine!r} {engine.why_not_ready}"


async def test_without_an_api_key_no_authorization_header_is_sent(upstream: Upstream) -> None:
    async with started(upstream, key=None):
        assert all("authorization" not in headers for _, headers, _ in upstream.requests)


async def test_cookies_of_a_reply_are_not_sent_with_later_calls(
    upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = refuses(400, {}, **{"Set-Cookie": "tenant=a; Path=/"})
    for _ in range(2):
        with pytest.raises(CallRejected):
            await run(engine)
    assert all("cookie" not in headers for _, headers, _ in upstream.requests)


# -- forwarding -------------------------------------------------------------------------------------------


async def test_a_request_is_forwarded_byte_for_byte_with_the_engines_api_key(
    upstream: Upstream, engine: HttpEngine
) -> None:
    reply = b'data: {"a":  1}\r\n\r\n: odd \xff bytes\n'

    async def answer(request: web.Request, _: Body) -> web.StreamResponse:
        headers = {"x-request-id": "r1", "keep-alive": "x", "set-cookie": "a=b", "x-more": "m"}
        response = web.StreamResponse(status=202, headers=headers)
        response.content_type = "text/event-stream"
        await response.prepare(request)
        await response.write(reply[:7])
        await response.write(reply[7:])
        return response

    upstream.routes["/v1/embeddings"] = answer
    body = b'{ "input" :"\xc3\xbc",  "unknown": [1.0e5] }'
    client = (
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer of-the-client"),
        ("Cookie", "a=b"),
        ("Host", "elsewhere"),
        ("X-Request-Id", "r0"),
    )
    async with engine.forward(PlainRequest("/embeddings", body, client)) as plain_reply:
        chunks = [chunk async for chunk in plain_reply.chunks]

    path, sent, received = upstream.requests[-1]
    assert (path, received) == ("/v1/embeddings", body)
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent["x-request-id"] == "r0"
    assert "cookie" not in sent
    assert sent["host"] == upstream.url.split("/")[2]
    assert plain_reply.status == 202
    assert b"".join(chunks) == reply
    back = dict(plain_reply.headers)
    assert back["content-type"].startswith("text/event-stream")
    assert (back["x-request-id"], back["x-more"]) == ("r1", "m")
    assert not {"keep-alive", "set-cookie", "transfer-encoding", "connection"} & set(back)


@pytest.mark.parametrize("value", ["\xff", "\xe9; q=1", "ж"])
async def test_a_header_that_is_not_ascii_is_not_forwarded(
    value: str, upstream: Upstream, engine: HttpEngine
) -> None:
    client = (("Accept", value), ("TraceState", value), ("X-Request-Id", "r0"))
    async with engine.forward(PlainRequest("chat/completions", b"{}", client)) as reply:
        assert reply.status == 200
    sent = upstream.requests[-1][1]
    assert "tracestate" not in sent
    assert sent["x-request-id"] == "r0"


@pytest.mark.parametrize("status", [400, 404, 429, 500])
async def test_the_servers_error_is_returned_unchanged_to_a_forwarded_request(
    status: int, upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = refuses(status, {"error": {"message": "mine"}})
    async with engine.forward(PlainRequest("chat/completions", b"{}")) as reply:
        assert reply.status == status
        assert json.loads(b"".join([chunk async for chunk in reply.chunks])) == {
            "error": {"message": "mine"}
        }


async def test_a_forwarded_stream_is_not_buffered_and_is_aborted_at_the_end_of_its_block(
    upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = endless
    async with engine.forward(PlainRequest("chat/completions", b"{}")) as reply:
        assert await anext(reply.chunks)
        assert upstream.running == 1
    await until_idle(upstream, 0.25)


async def test_a_forwarded_stream_that_breaks_raises_stream_interrupted(
    upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = breaking(b"data: 1\n\n")

    async def read() -> None:
        async with engine.forward(PlainRequest("chat/completions", b"{}")) as reply:
            async for _ in reply.chunks:
                pass

    with pytest.raises(StreamInterrupted):
        await read()


async def test_an_invalid_url_is_the_reason_why_the_engine_is_not_ready() -> None:
    engine = HttpEngine("e", "http://xn--A-:80/v1", "model")
    try:
        await engine.start()
        assert not engine.ready
        assert engine.why_not_ready != "not probed yet"
    finally:
        await engine.aclose()

"""Middleware: a stalled client is disconnected, and an internal error is logged once."""

import logging
import socket
from collections.abc import Iterator
from dataclasses import replace

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from secondpass.service.config.api_keys import Tenants
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.http.middleware import RequestMiddleware
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.registry import Params
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate
from secondpass.testing.support import ON_BOTH_BACKENDS, constant_reply
from tests.http.serving import QUESTION, Json, Served, serving
from tests.polling import wait_until

CHAT: Json = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
SCOPE: Scope = {"type": "http", "path": "/livez", "headers": []}


async def receive() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_blocked_send_ends_the_request_and_cleans_up() -> None:
    cleaned = False

    async def app(_: Scope, __: Receive, send: Send) -> None:
        nonlocal cleaned
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            cleaned = True

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        await RequestMiddleware(app, Tenants(), 0.05)(SCOPE, receive, send)
    assert cleaned


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_slow_client_receives_everything() -> None:
    taken: list[bytes] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(20):
            await send({"type": "http.response.body", "body": b"%d " % number, "more_body": True})

    async def send(message: Message) -> None:
        await anyio.sleep(0.02)
        taken.append(message.get("body", b""))

    await RequestMiddleware(app, Tenants(), 0.3)(SCOPE, receive, send)
    assert len(b"".join(taken).split()) == 20


@pytest.fixture(scope="module")
def chatty() -> Iterator[Served]:
    """An engine whose text exceeds the buffers of a socket."""
    engine = ScriptedEngine(constant_reply("word " * 300_000), window=None, tokens_per_delta=10)
    with serving(engine, stalled_client_seconds=0.5) as served:
        yield served


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT | {"stream": True}),
        ("/v1/chat/completions", CHAT | {"model": "scripted@single", "stream": True}),
        ("/solve", QUESTION | {"stream": True, "trace": "full"}),
    ],
)
def test_a_client_that_reads_nothing_occupies_no_slot(
    chatty: Served, path: str, body: Json
) -> None:
    if body.get("model") != "scripted":
        caps = {"budget": {"max_tokens": 1_000_000}}
        body = body | (
            caps | {"sampling": {"max_tokens": 131_072}}
            if path == "/solve"
            else {"secondpass": caps, "max_tokens": 131_072}
        )
    before = len(chatty.engine.calls)
    with chatty.open(path, body) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wait_until(lambda: len(chatty.engine.calls) > before)
        wait_until(lambda: not chatty.engine.running, 20)
        wait_until(lambda: not chatty.server.server_state.tasks, 20)
        assert not len(chatty.service.traffic)


async def broken(run: Run, params: Params) -> Candidate:
    """Make one call, then raise an unexpected exception."""
    await run.ask(SOLVE)
    raise ZeroDivisionError


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_internal_error_in_a_run_is_logged_once_with_both_ids(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_stream: bool,
) -> None:
    defective = replace(STRATEGIES["single"], body=broken)
    monkeypatch.setattr("secondpass.service.http.resolve.STRATEGIES", {"single": defective})
    with caplog.at_level(logging.ERROR):
        reply = served.solve(strategy="single", stream=is_stream)
    assert reply.status_code == (200 if is_stream else 500)
    assert "internal" in reply.text
    assert "ZeroDivisionError" not in reply.text
    (record,) = (each for each in caplog.records if each.levelno >= logging.ERROR)
    assert reply.headers["x-request-id"] in record.getMessage()
    assert "run_" in record.getMessage()
    metrics = served.get("/metrics").text
    assert 'secondpass_solves_total{stop_reason="internal",strategy="single"}' in metrics


def test_an_internal_error_outside_a_run_is_logged_once(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("secondpass.service.http.resolve.guess", None)
    with caplog.at_level(logging.ERROR):
        reply = served.solve()
    (record,) = (each for each in caplog.records if each.levelno >= logging.ERROR)
    assert reply.status_code == 500
    assert reply.headers["x-request-id"] in record.getMessage()

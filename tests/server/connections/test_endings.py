"""The number of connections, and that each of them ends: idle, unread, and those beyond the limit."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.server import connections
from secondpass.testing.support import constant_reply
from tests.http.serving import QUESTION, Served, serving
from tests.polling import wait_until
from tests.server.connections.raw import (
    GET,
    connect,
    exchange,
    port_of,
    read_all,
    read_reply,
    serving_app,
    status_of,
)

LIMIT = 4
IDLE = 0.3


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    engine = ScriptedEngine(constant_reply("word " * 2000), per_token=0.01)
    with serving(engine, max_connections=LIMIT, header_timeout_seconds=30) as running:
        yield running


@pytest.fixture
def busy(served: Served) -> Iterator[list[socket.socket]]:
    """Occupy all connections with runs."""
    with ExitStack() as stack:
        runs = [stack.enter_context(served.open("/solve", QUESTION)) for _ in range(LIMIT)]
        wait_until(lambda: len(served.engine.running) == LIMIT)
        yield runs
    wait_until(lambda: not served.server.server_state.connections)


@pytest.mark.parametrize("sends", [b"", GET, b"POST /v1/chat/completions HTTP/1.1\r\n"])
def test_a_connection_over_the_limit_gets_a_503(
    served: Served, busy: list[socket.socket], sends: bytes
) -> None:
    reply = exchange(served.port, sends)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert status_of(reply) == 503
    assert b"retry-after: 1" in head
    assert b"connection: close" in head
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "unavailable"
    assert f"max_connections ({LIMIT})" in json.loads(body)["detail"]
    assert len(served.engine.running) == LIMIT
    busy.pop().close()
    wait_until(lambda: len(served.engine.running) < LIMIT)
    wait_until(
        lambda: status_of(exchange(served.port, GET[:-2] + b"connection: close\r\n\r\n")) == 200
    )


def test_many_refused_connections_do_not_stay_open(
    served: Served, busy: list[socket.socket]
) -> None:
    assert busy
    with ExitStack() as stack:
        clients = [
            stack.enter_context(connect(served.port))
            for _ in range(connections.LINGERING_REFUSALS + 50)
        ]
        assert {status_of(read_all(client)) for client in clients} == {503}


@pytest.mark.parametrize(
    "state", ["silent", "half a request", "idle", "refused", "with an unread body"]
)
def test_connections_without_a_request_in_progress_give_way_to_new_ones(
    served: Served, state: str
) -> None:
    sent = {
        "silent": b"",
        "half a request": b"GET / HTTP",
        "idle": GET,
        "refused": b"\x00",
        "with an unread body": b"GET /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n",
    }[state]
    with ExitStack() as stack:
        held = [stack.enter_context(connect(served.port)) for _ in range(LIMIT)]
        for client in held:
            client.sendall(sent)
        for client in held:
            if state not in ("silent", "half a request"):
                read_reply(client)
        for _ in range(3):
            assert served.get("/livez").status_code == 200
        for client in held[:1]:
            assert client.recv(2**16) == b""  # the one that had waited longest


def test_a_connection_with_a_request_in_progress_does_not_give_way(
    served: Served, busy: list[socket.socket]
) -> None:
    busy.pop().close()
    wait_until(lambda: len(served.engine.running) == LIMIT - 1)
    for _ in range(2 * LIMIT):
        assert served.get("/livez").status_code == 200
    assert len(served.engine.running) == LIMIT - 1


@pytest.fixture
def impatient() -> Iterator[Served]:
    with serving(header_timeout_seconds=5) as running:
        running.server.config.timeout_keep_alive = IDLE  # type: ignore[assignment] # whole seconds by its type only
        yield running


def test_an_idle_connection_ends(impatient: Served) -> None:
    with connect(impatient.port) as client:
        client.sendall(GET)
        assert status_of(read_reply(client)) == 200
        began = time.monotonic()
        assert client.recv(1) == b""
    assert IDLE * 0.9 <= time.monotonic() - began < IDLE + 2


@pytest.mark.parametrize("drip", [b"\r\n", b"x"])
def test_a_connection_that_only_sends_the_rest_of_an_answered_request_ends(
    impatient: Served, drip: bytes
) -> None:
    length = b"content-length: 1000\r\n" if drip == b"x" else b""
    with connect(impatient.port) as client:
        client.sendall(GET[:-2] + length + b"\r\n")
        assert status_of(read_reply(client)) == 200
        client.settimeout(0.05)
        began = time.monotonic()
        while time.monotonic() - began < IDLE + 3:
            try:
                client.sendall(drip)
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("the connection lived on")
    wait_until(lambda: not impatient.server.server_state.connections)


async def _ignorant(scope: Scope, receive: Receive, send: Send) -> None:
    """Reply without reading the body."""
    if scope["type"] == "http":
        await Response(b"", status_code=404)(scope, receive, send)


def test_a_short_body_after_its_reply_keeps_the_connection() -> None:
    post = b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n"
    with serving_app(_ignorant) as server, connect(port_of(server)) as client:
        for _ in range(3):
            client.sendall(post)
            assert status_of(read_reply(client)) == 404
            client.sendall(b"hello")


async def _large(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await Response(b"x" * 30_000_000)(scope, receive, send)


@pytest.mark.parametrize("headers", [b"", b"connection: close\r\n"])
@pytest.mark.parametrize("after", [b"", GET])
def test_a_client_that_reads_nothing_is_disconnected(
    headers: bytes, after: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondpass.service.server.http_protocol.LINGER_SECONDS", 0.1)
    with serving_app(_large, stalled_client_seconds=0.5) as server:
        server.config.timeout_keep_alive = IDLE  # type: ignore[assignment] # whole seconds by its type only
        with connect(port_of(server)) as client:
            client.sendall(GET[:-2] + headers + b"\r\n" + after)
            wait_until(lambda: bool(server.server_state.connections))
            wait_until(lambda: not server.server_state.connections, 15)


def test_a_slow_reader_gets_the_whole_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secondpass.service.server.http_protocol.LINGER_SECONDS", 0.1)
    with (
        serving_app(_large, stalled_client_seconds=0.6) as server,
        connect(port_of(server)) as client,
    ):
        client.sendall(GET[:-2] + b"connection: close\r\n\r\n")
        received, began = 0, time.monotonic()
        while data := client.recv(2**20):
            received += len(data)
            time.sleep(0.03)
    assert received > 30_000_000
    assert time.monotonic() - began > 0.6

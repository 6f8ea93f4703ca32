"""The cost of a connection is bounded before any key is checked."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.attacks.replies import answer_42
from tests.attacks.victim import Victim, attack, victim
from tests.engines.upstream import endless
from tests.polling import wait_at_most, wait_until

pytestmark = pytest.mark.faults

HOST = b"host: localhost\r\n"
KEY = "an-api-key-of-a-tenant"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("connections")
    with victim(
        folder, keys={"tenant": KEY}, header_timeout_seconds=2.0, max_connections=1800
    ) as it:
        it.upstream.chat = answer_42
        yield it


def sent(attacked: Victim, *parts: bytes) -> bytes:
    """Send parts until the service stops reading, and return its whole reply."""
    with attacked.connect() as client:
        client.settimeout(10)
        with contextlib.suppress(OSError):
            for part in parts:
                client.sendall(part)
        return received(client)


def received(client: socket.socket) -> bytes:
    """Return everything that arrives until the connection ends."""
    client.settimeout(20)
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := client.recv(65536):
            data += part
    return bytes(data)


def status_of(reply: bytes) -> int:
    return int(reply.split()[1]) if reply else 0


def test_a_long_target_is_a_414(attacked: Victim) -> None:
    with attack(attacked):
        for size in (9_000, 100_000, 5_000_000):
            target = b"GET /livez?" + b"a" * size + b" HTTP/1.1\r\n"
            assert status_of(sent(attacked, target + HOST + b"\r\n")) == 414


def test_large_headers_are_a_431(attacked: Victim) -> None:
    line = b"x-padding: " + b"a" * 33_000 + b"\r\n"
    with attack(attacked):
        assert status_of(sent(attacked, b"GET /livez HTTP/1.1\r\n" + HOST + line + b"\r\n")) == 431


def test_many_headers_are_a_431(attacked: Victim) -> None:
    lines = b"".join(b"x-%d: a\r\n" % number for number in range(200))
    with attack(attacked):
        assert status_of(sent(attacked, b"GET /livez HTTP/1.1\r\n" + HOST + lines + b"\r\n")) == 431


@pytest.mark.parametrize("unit", [b"x-a: b\r\n", b"x-padding: " + b"a" * 60_000 + b"\r\n", b"a"])
def test_a_flood_of_headers_takes_no_memory(attacked: Victim, unit: bytes) -> None:
    block = unit * (2**20 // len(unit))
    before = attacked.peak()
    with attack(attacked):
        reply = sent(attacked, b"GET /livez HTTP/1.1\r\n" + HOST + b"x: ", *([block] * 68))
    assert status_of(reply) in (0, 431)
    assert attacked.peak() - before < 50 * 2**20


@pytest.mark.parametrize(
    "trailer",
    [b"0\r\n" + b"x-a: b\r\n" * 100_000, b"1;" + b"a" * 2_000_000 + b"\r\na\r\n0\r\n\r\n"],
    ids=["trailers", "chunk extensions"],
)
def test_a_chunked_body_takes_no_memory(attacked: Victim, trailer: bytes) -> None:
    head = b"POST /solve HTTP/1.1\r\n" + HOST + b"content-type: application/json\r\n"
    key = b"authorization: Bearer " + KEY.encode() + b"\r\n"
    before = attacked.peak()
    with attack(attacked):
        reply = sent(attacked, head + key + b"transfer-encoding: chunked\r\n\r\n", trailer)
    assert status_of(reply) in (0, 400, 431)
    assert attacked.peak() - before < 50 * 2**20


def test_half_sent_requests_end(attacked: Victim) -> None:
    """1,500 connections that never complete their headers end after the limit, and all others are served."""
    with attack(attacked), ExitStack() as stack:
        clients = [stack.enter_context(attacked.connect()) for _ in range(1500)]
        for number, client in enumerate(clients):
            if number % 3:
                client.sendall(b"GET /livez HTTP/1.1\r\nhost: loc"[: number % 29])
        assert attacked.is_live(0.5)
        began = time.monotonic()
        for client in clients:
            assert status_of(received(client)) in (0, 408)
        assert time.monotonic() - began < 10


def test_headers_that_trickle_end(attacked: Victim) -> None:
    with attack(attacked), attacked.connect() as client:
        began = time.monotonic()
        client.sendall(b"GET /livez HTTP/1.1\r\n" + HOST)
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 10:
                client.sendall(b"x-a: b\r\n")
                time.sleep(0.05)
        assert time.monotonic() - began < 5


def test_connections_are_capped(attacked: Victim) -> None:
    with attack(attacked), ExitStack() as stack:
        for _ in range(1800):
            stack.enter_context(attacked.connect())
        with attacked.connect() as one_more:
            one_more.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
            assert status_of(received(one_more)) in (0, 200, 503)


def test_an_idle_connection_ends(attacked: Victim) -> None:
    with attack(attacked), attacked.connect() as client:
        client.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        began = time.monotonic()
        assert status_of(received(client)) == 200
        assert time.monotonic() - began < 15


def solve(key: str) -> bytes:
    """Return a request for an endless solve."""
    body = b'{"question": "How long?", "strategy": "single"}'
    head = f"POST /solve HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
    return (
        f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )


PIPELINED = {
    "nothing": b"",
    "a request": b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "requests": b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n" * 200,
    "part of a request": b"GET /livez HTTP/1.1\r\nho",
    "a solve": solve(KEY),
    "garbage": b"\x00\xff" * 500,
    "much garbage": b"a" * 1_000_000,
}


@pytest.mark.parametrize("second", PIPELINED.values(), ids=list(PIPELINED))
def test_a_pipelined_request_does_not_hide_a_disconnect(attacked: Victim, second: bytes) -> None:
    with attack(attacked):
        attacked.upstream.chat = endless
        try:
            with attacked.connect() as client:
                client.sendall(solve(KEY))
                wait_until(lambda: attacked.upstream.running == 1)
                client.settimeout(1)
                with contextlib.suppress(OSError):
                    client.sendall(second)
                time.sleep(0.2)
            wait_at_most(0.25, lambda: attacked.upstream.running == 0)
        finally:
            attacked.upstream.chat = answer_42

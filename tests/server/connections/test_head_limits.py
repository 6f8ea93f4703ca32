"""Limits of the target, the headers and the framing of a body, before any key is checked."""

import json
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tests.http.serving import Served, serving
from tests.server.connections.raw import (
    CHUNKED,
    GET,
    connect,
    exchange,
    port_of,
    read_all,
    read_reply,
    serving_app,
    status_of,
)

TARGET, HEADER_BYTES, HEADERS = 200, 1000, 10
TIMEOUT = 0.4


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(
        max_target_bytes=TARGET,
        max_header_bytes=HEADER_BYTES,
        max_headers=HEADERS,
        header_timeout_seconds=TIMEOUT,
    ) as running:
        yield running


def target(size: int, path: bytes = b"/livez") -> bytes:
    padded = path + b"?" + b"x" * (size - len(path) - 1)
    return b"GET " + padded + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def header_bytes(size: int, path: bytes = b"/livez") -> bytes:
    fixed = b"host: localhost\r\nconnection: close\r\n"
    value = b"x" * (size - len(fixed) - len(b"a: \r\n"))
    return b"GET " + path + b" HTTP/1.1\r\n" + fixed + b"a: " + value + b"\r\n\r\n"


def header_count(number: int, path: bytes = b"/livez") -> bytes:
    fixed = b"host: localhost\r\nconnection: close\r\n"
    return b"GET " + path + b" HTTP/1.1\r\n" + fixed + b"a: b\r\n" * (number - 2) + b"\r\n"


LIMITS = {
    "target": (target, TARGET, 414, "target_too_long"),
    "header bytes": (header_bytes, HEADER_BYTES, 431, "headers_too_large"),
    "headers": (header_count, HEADERS, 431, "headers_too_large"),
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("size", [10_000, 1, 7])
def test_a_request_at_a_limit_is_served_and_one_over_it_is_refused(
    served: Served, limit: str, size: int
) -> None:
    build, bound, status, code = LIMITS[limit]

    def parts(raw: bytes) -> list[bytes]:
        return [raw[at : at + size] for at in range(0, len(raw), size)]

    assert status_of(exchange(served.port, *parts(build(bound)))) == 200
    with connect(served.port) as client:
        for part in parts(build(bound + 1)):
            client.sendall(part)
        reply = read_all(client)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert status_of(reply) == status
    assert b"connection: close" in head
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == code
    assert json.loads(body)["status"] == status
    assert str(bound) in json.loads(body)["detail"]


@pytest.mark.parametrize("limit", LIMITS)
def test_below_v1_the_error_has_the_shape_of_openai(served: Served, limit: str) -> None:
    build, bound, status, code = LIMITS[limit]
    reply = exchange(served.port, build(bound + 1, b"/v1/models"))
    assert status_of(reply) == status
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == code


@given(cuts=st.lists(st.integers(1, 1030), max_size=8), over=st.booleans())
def test_the_limit_of_header_bytes_does_not_depend_on_packets(
    served: Served, cuts: list[int], over: bool
) -> None:
    raw = header_bytes(HEADER_BYTES + over)
    edges = [0, *sorted({min(cut, len(raw)) for cut in cuts}), len(raw)]
    parts = [raw[a:b] for a, b in pairwise(edges)]
    assert status_of(exchange(served.port, *parts)) == (431 if over else 200)


ENDLESS = {
    "a target": (b"GET /", b"x", 414),
    "a method": (b"GET", b" ", 431),
    "blank lines": (b"", b"\r\n", 431),
    "a name": (b"GET / HTTP/1.1\r\n", b"x", 431),
    "a value": (b"GET / HTTP/1.1\r\na: ", b"x", 431),
    "spaces": (b"GET / HTTP/1.1\r\na: ", b" ", 431),
    "short headers": (b"GET / HTTP/1.1\r\n", b"a:b\r\n", 431),
    "a chunk extension": (CHUNKED + b"1;", b"x", 431),
    "a chunk size": (CHUNKED, b"0", 431),
    "a trailer": (CHUNKED + b"0\r\na: ", b"x", 431),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n", 431),
    "small chunks": (CHUNKED, b"1\r\nx\r\n", 400),
}


@pytest.mark.parametrize("shape", ENDLESS)
def test_input_without_an_end_is_refused_and_the_client_can_read_why(
    served: Served, shape: str
) -> None:
    opening, more, status = ENDLESS[shape]
    with connect(served.port) as client:
        client.sendall(opening)
        client.sendall(more * (500_000 // len(more)))
        assert status_of(read_all(client)) == status
    assert served.get("/livez").status_code == 200
    assert not served.engine.calls


def test_slow_headers_get_a_408(served: Served) -> None:
    began = time.monotonic()
    with connect(served.port) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\na: ")
        client.settimeout(0.02)
        reply = b""
        while not reply:
            try:
                reply = client.recv(2**16)
            except TimeoutError:
                client.sendall(b"x")
    assert TIMEOUT * 0.9 <= time.monotonic() - began < TIMEOUT + 2
    assert status_of(reply) == 408
    assert b'"headers_too_slow"' in reply


def test_a_silent_connection_is_closed_without_a_reply(served: Served) -> None:
    began = time.monotonic()
    assert exchange(served.port) == b""
    assert TIMEOUT * 0.9 <= time.monotonic() - began < TIMEOUT + 2


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\na"])
def test_the_headers_of_a_later_request_have_the_same_deadline(
    served: Served, start: bytes
) -> None:
    with connect(served.port) as client:
        client.sendall(GET)
        assert status_of(read_reply(client)) == 200
        began = time.monotonic()
        client.sendall(start)
        assert status_of(read_all(client)) == 408
    assert TIMEOUT * 0.9 <= time.monotonic() - began < TIMEOUT + 2


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://x HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\r\n folded\r\n\r\n",
    ],
)
def test_a_request_that_is_not_http_gets_a_problem_document(
    served: Served, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reply = exchange(served.port, raw)
    assert status_of(reply) == 400
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["code"] == "malformed"
    assert not caplog.records, "a stranger must not fill the log"


def test_a_request_for_another_protocol_is_answered_and_its_connection_closed(
    served: Served,
) -> None:
    upgrade = (
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    )
    reply = exchange(served.port, upgrade + GET)
    assert reply.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in reply


async def _headers_after_the_body(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        return
    request = Request(scope, receive)
    await request.body()
    response = JSONResponse([name.decode() for name, _ in scope["headers"]])
    await response(scope, receive, send)


def test_trailers_do_not_become_headers() -> None:
    head = b"POST / HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    with serving_app(_headers_after_the_body) as server:
        trailers = (b"2\r\nhi\r\n0\r\nauthorization: x\r\na: b\r\n", b"c: d\r\n\r\n")
        reply = exchange(port_of(server), head, *trailers, gap=0.02)
    assert json.loads(reply.partition(b"\r\n\r\n")[2]) == ["connection", "transfer-encoding"]

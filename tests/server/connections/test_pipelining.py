"""Input after a request: it never hides a disconnect, and never damages the reply in progress."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.testing.support import constant_reply
from tests.http.serving import QUESTION, Json, Served, serving
from tests.http.test_disconnect import SOON, close, half_close, reset, with_retries
from tests.polling import wait_at_most, wait_until
from tests.server.connections.raw import CHUNKED, GET, connect, read_all, read_reply, status_of

SOLVE = b"POST /solve HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
MIB = 2**20

EXTRA: dict[str, bytes] = {
    "nothing": b"",
    "a blank line": b"\r\n",
    "a request": GET,
    "half a request": GET[:20],
    "a request with half a body": SOLVE + b"content-length: 100\r\n\r\n{",
    "three requests": GET * 3,
    "bytes beyond the body": b"}}}",
    "garbage": b"\x00\xff\x16\x03\x01",
    "a chunked request": CHUNKED + b"5;x\r\nhello\r\n",
    "a websocket": b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "a megabyte of garbage": b"\x00" * MIB,
    "megabytes of requests": GET * (3 * MIB // len(GET)),
    "megabytes of one target": b"GET /" + b"x" * (3 * MIB),
    "a flood": b"x" * (20 * MIB),
}

BODIES: dict[str, Json] = {"whole": QUESTION, "stream": QUESTION | {"stream": True}}


def solve(body: Json, *headers: bytes) -> bytes:
    raw = json.dumps(body).encode()
    length = b"content-length: %d\r\n" % len(raw)
    return SOLVE + length + b"".join(headers) + b"\r\n" + raw


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ScriptedEngine(constant_reply("word " * 2000), per_token=0.01)) as running:
        yield running


def send_what_is_read(client: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):
        client.sendall(data)


def disconnect_after(served: Served, parts: list[bytes], disconnect: Callable[..., None]) -> None:
    """Send the parts, of which the first begins with a whole request. Expect an idle engine."""
    with connect(served.port) as client:
        client.sendall(parts[0])
        wait_until(lambda: bool(served.engine.running))
        for part in parts[1:]:
            send_what_is_read(client, part)
        with suppress(OSError):  # a flood may have ended the connection
            disconnect(client)
        wait_at_most(SOON, lambda: not (served.engine.running or len(served.service.traffic)))


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("is_apart", [False, True])
def test_a_disconnect_after_more_input_frees_the_engine(
    served: Served, extra: str, body: str, is_apart: bool
) -> None:
    request = solve(BODIES[body])
    parts = [request, EXTRA[extra]] if is_apart else [request + EXTRA[extra][:MIB]]
    with_retries(lambda: disconnect_after(served, parts, close))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.sampled_from([*EXTRA.values()][:-4]) | st.binary(max_size=200), max_size=4),
    headers=st.sampled_from([b"", b"connection: close\r\n", b"connection: keep-alive\r\n"]),
    is_apart=st.booleans(),
    disconnect=st.sampled_from([close, reset, half_close]),
)
def test_no_input_hides_a_disconnect(
    served: Served,
    pieces: list[bytes],
    headers: bytes,
    is_apart: bool,
    disconnect: Callable[[socket.socket], None],
) -> None:
    request = solve(QUESTION, headers)
    parts = [request, *pieces] if is_apart else [request + b"".join(pieces)]
    with_retries(lambda: disconnect_after(served, parts, disconnect))


def test_a_flood_during_a_response_ends_the_connection(served: Served) -> None:
    with connect(served.port) as client:
        client.sendall(solve(QUESTION))
        wait_until(lambda: bool(served.engine.running))
        send_what_is_read(client, EXTRA["a flood"])
        wait_until(lambda: not served.engine.running)


@pytest.mark.parametrize("extra", [name for name in EXTRA if name != "a flood"])
@pytest.mark.parametrize("is_apart", [False, True])
def test_the_reply_is_whole_and_ends_the_connection(extra: str, is_apart: bool) -> None:
    with serving(ScriptedEngine(constant_reply("42"), per_token=0.1)) as served:
        request = solve(QUESTION)
        with connect(served.port) as client:
            client.sendall(request if is_apart else request + EXTRA[extra])
            if is_apart:
                wait_until(lambda: bool(served.engine.running))
                client.sendall(EXTRA[extra])
            reply = b""
            while b"\r\n\r\n" not in reply:
                reply += client.recv(2**16)
            has_input = bool(EXTRA[extra].strip())
            assert (b"connection: close" in reply) is has_input
            reply += read_all(client) if has_input else b""
        assert status_of(reply) == 200
        assert reply.count(b"HTTP/1.1") == 1
        assert json.loads(reply.partition(b"\r\n\r\n")[2])["answer"] == "42"
        assert len(served.engine.calls) == 1


def test_requests_one_after_another_share_a_connection(served: Served) -> None:
    with connect(served.port) as client:
        for _ in range(50):
            client.sendall(b"\r\n" + GET)
            assert status_of(read_reply(client)) == 200

"""Bodies that arrive slowly end, count towards the limits, and never delay other requests."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.types import Message

from secondpass.service.common import uploads
from secondpass.service.common.errors import BodyTooSlow, HttpError, NotAdmitted
from secondpass.service.common.uploads import Upload, Uploads
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.http.serving import Served, serving
from tests.polling import wait_at_most, wait_until

PATHS = ["/solve", "/v1/chat/completions"]
HIDDEN = b"POST /solve HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(body_timeout_seconds=0.5, max_runs=4) as running:
        yield running


def start(
    served: Served, path: str = "/solve", length: int = 1000, more: str = ""
) -> socket.socket:
    """Send the headers of a request and the first byte of its body."""
    client = socket.create_connection(("127.0.0.1", served.port), timeout=10)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}"
    client.sendall(f"{head}content-length: {length}\r\n\r\n{{".encode())
    return client


def rest_of(client: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_stops_is_a_408_and_closes_the_connection(served: Served, path: str) -> None:
    with start(served, path) as client:
        reply = rest_of(client)
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in reply
    assert b"connection: close" in reply
    wait_until(lambda: not len(served.service.traffic))
    assert not served.service.traffic.uploads.size


def test_a_body_below_the_least_rate_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "GRACE_SECONDS", 0.3)
    with serving(min_body_rate=1000) as served, start(served, length=10_000) as client:
        began = time.monotonic()
        client.sendall(b" " * 799)
        assert rest_of(client).startswith(b"HTTP/1.1 408")
        assert 0.7 < time.monotonic() - began < 3  # 800 bytes at 1000 a second


def test_bodies_count_towards_max_runs_until_another_request_needs_their_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "PATIENCE_SECONDS", 1.0)
    with serving(max_runs=4) as served, ExitStack() as stack:
        clients = [stack.enter_context(start(served)) for _ in range(4)]
        wait_until(lambda: len(served.service.traffic) == 4)
        refused = served.solve()
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        time.sleep(1.1)
        assert served.solve().status_code == 200
        reply = rest_of(clients[0])  # the oldest
        assert reply.startswith(b"HTTP/1.1 503")
        assert b"connection: close" in reply
        assert len(served.service.traffic) == 3


def test_the_bytes_of_all_bodies_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LINGER_SECONDS", 0.2)
    with serving(max_body_bytes=100_000) as served, ExitStack() as stack:
        clients = []
        for _ in range(16):
            client = stack.enter_context(start(served, length=100_000))
            client.sendall(b" " * 99_990)
            clients.append(client)
        wait_until(lambda: served.service.traffic.uploads.size == 16 * 99_991)
        late = stack.enter_context(start(served, length=100, more="connection: close\r\n"))
        late.sendall(b" " * 99)
        assert rest_of(late).startswith(b"HTTP/1.1 4")  # it fits, and is not JSON
        big = stack.enter_context(start(served, length=50_000))
        big.sendall(b" " * 40_000)
        assert b"too many request bodies" in big.recv(4096)
        assert served.service.traffic.uploads.size == 16 * 99_991
        for client in clients:
            client.close()
        wait_until(lambda: not served.service.traffic.uploads.size)


def test_draining_does_not_wait_for_bodies() -> None:
    with serving(shutdown_grace_seconds=30) as served, start(served) as client:
        wait_until(lambda: len(served.service.traffic) == 1)
        served.server.should_exit = True
        wait_at_most(3, lambda: client.recv(4096).startswith(b"HTTP/1.1 503"))


@pytest.mark.parametrize("path", [*PATHS, "/nowhere", "/livez"])
def test_the_rest_of_a_refused_body_is_never_a_request(
    served: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(uploads, "LINGER_SECONDS", 0.2)
    with start(served, path, length=10**9) as client:
        reply = client.recv(65536)
        assert reply.startswith((b"HTTP/1.1 413", b"HTTP/1.1 40"))
        assert b"connection: close" in reply
        try:
            client.sendall(HIDDEN)
            rest = rest_of(client)
        except ConnectionError:
            rest = b""
        assert b"HTTP/1.1" not in rest


def test_a_refused_request_whose_body_is_complete_keeps_the_connection(served: Served) -> None:
    with served.client() as client:
        for path in ("/solve", "/nowhere", "/v1/chat/completions"):
            reply = client.post(path, json={"a": "b" * 100_000})
            assert reply.status_code >= 400
            assert "connection" not in reply.headers


# -- bookkeeping ---------------------------------------------------------------------------------------


def upload_of(bodies: Uploads, messages: list[Message]) -> Upload:
    async def receive() -> Message:
        if not messages:
            await anyio.sleep_forever()
        return messages.pop(0)

    return Upload(bodies, Headers({"content-length": "10"}), receive)


def part(size: int, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_refused_body_is_not_read_further() -> None:
    bodies = Uploads()
    upload = upload_of(bodies, [part(3), part(4)])
    await upload.receive()
    upload.refuse("full")
    for _ in range(2):
        with pytest.raises(NotAdmitted):
            await upload.receive()
    assert not await upload.discard()
    assert not bodies.size


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_an_old_body_makes_room_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PATIENCE_SECONDS", 0.0)
    bodies = Uploads(max_bytes=10)
    old, new = upload_of(bodies, [part(6)]), upload_of(bodies, [part(7)])
    await old.receive()
    await new.receive()
    assert bodies.size == 7
    with pytest.raises(NotAdmitted):
        await old.receive()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_late_body_times_out_for_good() -> None:
    upload = upload_of(Uploads(timeout=0.05), [part(3)])
    await upload.receive()
    for _ in range(2):
        with pytest.raises(BodyTooSlow):
            await upload.receive()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans()), max_size=30),
    st.integers(1, 15),
    st.booleans(),
)
def test_all_bodies_together_never_hold_more_than_allowed(
    steps: list[tuple[int, int, bool]], limit: int, are_old: bool
) -> None:
    async def check() -> None:
        bodies = Uploads(max_bytes=limit)
        queues: list[list[Message]] = [[] for _ in range(4)]
        all_uploads = [upload_of(bodies, queue) for queue in queues]
        for number, size, more in steps:
            upload = all_uploads[number]
            if upload.is_complete:
                continue
            queues[number].append(part(size, more=more))
            try:
                await upload.receive()
            except NotAdmitted:
                await upload.discard()
            assert 0 <= bodies.size <= limit
        for upload in all_uploads:
            upload.close()
        assert not bodies.size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "PATIENCE_SECONDS", 0.0 if are_old else 60.0)
        patch.setattr(uploads, "LINGER_SECONDS", 0.0)
        anyio.run(check)


def test_a_refused_body_leaves_nothing_for_the_garbage_collector() -> None:
    """An error in a reference cycle would keep the body in memory until the next full collection."""
    with serving(body_timeout_seconds=0.3) as served:
        served.solve()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            with start(served) as client:
                client.sendall(b" " * 100)
                rest_of(client)
            served.solve(strategy="unknown", trace="unknown")
            served.post("/solve", {"question": 1})
            gc.collect()
            kept = [each for each in gc.garbage if isinstance(each, HttpError)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert not kept

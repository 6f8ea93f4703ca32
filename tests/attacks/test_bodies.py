"""Request bodies never cost more than they are worth, in CPU time or in memory."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.attacks.replies import answer_42
from tests.attacks.victim import Json, Victim, attack, victim
from tests.polling import wait_until

pytestmark = pytest.mark.faults

BODY_BYTES = 4 * 2**20
PEAK_BYTES = 150 * 2**20
"""Most memory that reading one body may take, over that of an idle service."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("bodies")
    with victim(folder, body_timeout_seconds=3.0, max_runs=64) as started:
        started.upstream.chat = answer_42
        yield started


def repeated(before: str, unit: str, after: str) -> bytes:
    """Return a body of nearly 4 MiB with `unit` repeated between two texts."""
    count = (BODY_BYTES - len(before) - len(after) - 16) // (len(unit) + 1)
    return (before + ",".join([unit] * count) + after).encode()


def numbered(before: str, unit: Callable[[int], str], after: str) -> bytes:
    """Return a body of at most 4 MiB with 200,000 different units between two texts."""
    text = before + ",".join(map(unit, range(200_000))) + after
    assert len(text) <= BODY_BYTES
    return text.encode()


TURN = '{"role":"user","content":"hi"}'
CHAT = '{"model":"model@single","messages":[' + TURN + "],"
BODIES: dict[str, tuple[str, bytes]] = {
    "numbers for messages": ("/solve", repeated('{"messages":[', "1", "]}")),
    "objects for messages": ("/solve", repeated('{"messages":[', "{}", "]}")),
    "numbers for content": (
        "/solve",
        repeated('{"messages":[{"role":"user","content":[', "1", "]}]}"),
    ),
    "messages": ("/solve", repeated('{"messages":[', TURN, "]}")),
    "unknown fields": ("/solve", numbered('{"question":"a",', lambda n: f'"f{n}":1', "}")),
    "unknown roles": (
        "/solve",
        numbered('{"question":"a","models":{', lambda n: f'"r{n}":"m"', "}}"),
    ),
    "params": (
        "/solve",
        numbered(
            '{"question":"a","strategy":{"name":"single","params":{', lambda n: f'"p{n}":1', "}}}"
        ),
    ),
    "stop strings": ("/solve", repeated('{"question":"a","sampling":{"stop":[', '"x"', "]}}")),
    "long stop string": (
        "/solve",
        b'{"question":"a","sampling":{"stop":["' + b"x" * 4_000_000 + b'"]}}',
    ),
    "nested lists": ("/solve", b'{"question":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}"),
    "nested objects": ("/solve", b'{"question":' + b'{"a":' * 600_000 + b"1" + b"}" * 600_001),
    "digits": ("/solve", b'{"question":"a","stream":' + b"9" * 4_000_000 + b"}"),
    "duplicate fields": ("/solve", repeated("{", '"question":"a"', "}")),
    "options": (
        "/solve",
        repeated('{"question":"a","task":{"kind":"choice","options":[', '"x"', "]}}"),
    ),
    "chat numbers": (
        "/v1/chat/completions",
        repeated('{"model":"model@single","messages":[', "1", "]}"),
    ),
    "chat unknown fields": ("/v1/chat/completions", numbered(CHAT, lambda n: f'"f{n}":1', "}")),
    "chat stop strings": ("/v1/chat/completions", repeated(CHAT + '"stop":[', '"x"', "]}")),
    "chat tools": ("/v1/chat/completions", repeated(CHAT + '"tools":[', "{}", "]}")),
    "chat bias": (
        "/v1/chat/completions",
        numbered(CHAT + '"logit_bias":{', lambda n: f'"{n}":1', "}}"),
    ),
}


@pytest.mark.parametrize(("path", "body"), BODIES.values(), ids=list(BODIES))
def test_a_large_body(attacked: Victim, path: str, body: bytes) -> None:
    idle = attacked.peak()
    with attack(attacked), attacked.client() as client:
        headers = {"content-type": "application/json"}
        began = time.monotonic()
        reply = client.post(path, content=body, headers=headers)
        took = time.monotonic() - began
    assert 400 <= reply.status_code < 500, reply.text
    assert len(reply.content) < 2000
    assert took < 1.0
    assert attacked.peak() - idle < PEAK_BYTES


def half_sent(attacked: Victim, length: int, sent: bytes) -> socket.socket:
    """Send the headers of a request with a body of `length` bytes, and the start of its body."""
    client = attacked.connect()
    head = "POST /solve HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    client.sendall(f"{head}content-length: {length}\r\n\r\n".encode() + sent)
    return client


def status_of(client: socket.socket) -> int:
    """Return the status of the next reply; 0 if the connection closes without one."""
    client.settimeout(20)
    head = client.recv(4096)
    return int(head.split()[1]) if head else 0


def test_a_body_that_stops_is_a_408(attacked: Victim) -> None:
    with attack(attacked), half_sent(attacked, 1000, b'{"question":') as client:
        assert status_of(client) == 408
        client.settimeout(5)
        while client.recv(4096):
            pass


def test_a_body_that_trickles_is_a_408(attacked: Victim) -> None:
    with attack(attacked), half_sent(attacked, 100_000, b'{"question":"') as client:
        client.setblocking(False)
        began = time.monotonic()
        while time.monotonic() - began < 10:
            time.sleep(0.05)
            try:
                client.send(b"a")
            except OSError:
                break
        assert time.monotonic() - began < 8
        client.setblocking(True)
        assert status_of(client) in (0, 408)


def test_bodies_that_are_read_count_towards_the_limit(attacked: Victim) -> None:
    """64 half-sent bodies take all runs, so that a further request is refused, until they end."""
    with attack(attacked), ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(half_sent(attacked, 1000, b'{"question":'))

        def is_refused() -> bool:
            reply = attacked.post("/solve", {"question": "What is 6 times 7?"})
            return reply.status_code == 503 and "retry-after" in reply.headers

        wait_until(is_refused, 2.5, "the bodies do not count")
        wait_until(lambda: not is_refused(), 10, "the bodies count for ever")


def test_many_large_bodies_at_once_do_not_fill_the_memory(attacked: Victim) -> None:
    idle = attacked.peak()
    with attack(attacked, stall=2.0), ExitStack() as stack:
        clients = [
            stack.enter_context(half_sent(attacked, BODY_BYTES - 1, b'{"question":"'))
            for _ in range(60)
        ]
        data = b"a" * (BODY_BYTES - 4096)
        for client in clients:
            client.settimeout(3)
            try:
                client.sendall(data)
            except OSError:
                continue
        for client in clients:
            assert status_of(client) in (0, 408, 503)
    assert attacked.peak() - idle < 2 * PEAK_BYTES


def test_a_body_without_a_content_type_is_refused(attacked: Victim) -> None:
    question: Json = {"question": "What is 6 times 7?"}
    with attacked.client() as client:
        for path in ("/solve", "/v1/chat/completions"):
            request = client.build_request("POST", path, content=json.dumps(question))
            request.headers.pop("content-type", None)
            reply = client.send(request)
            assert reply.status_code == 400
            assert "content-type" in reply.text

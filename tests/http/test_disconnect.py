"""A client disconnect cancels the work of its request, and no call stays in an engine."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

import anyio
import httpx
import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.testing.support import constant_reply
from tests.http.serving import QUESTION, Json, Served, serving
from tests.polling import wait_at_most, wait_until

SOON = 0.25
"""Seconds after a disconnect within which the engine must be idle."""

VOTE: Json = {"strategy": {"name": "self_consistency", "params": {"n": 16, "stop": "none"}}}
LANES: Json = {"strategy": {"name": "self_consistency", "params": {"n": 16, "width": 8}}}
CHAT: Json = {"messages": [{"role": "user", "content": "What is 6 times 7?"}]}

REQUESTS: dict[str, tuple[str, Json]] = {
    "solve": ("/solve", QUESTION),
    "solve, many calls": ("/solve", QUESTION | LANES),
    "solve, one call of many": ("/solve", QUESTION | VOTE),
    "solve as a stream": ("/solve", QUESTION | {"stream": True}),
    "solve as a full stream": ("/solve", QUESTION | LANES | {"stream": True, "trace": "full"}),
    "chat": ("/v1/chat/completions", CHAT | {"model": "scripted@single"}),
    "chat as a stream": (
        "/v1/chat/completions",
        CHAT | {"model": "scripted@self_consistency", "stream": True},
    ),
    "plain chat": ("/v1/chat/completions", CHAT | {"model": "scripted"}),
    "plain chat as a stream": (
        "/v1/chat/completions",
        CHAT | {"model": "scripted", "stream": True},
    ),
}


def with_retries(attempt: Callable[[], None], tries: int = 4) -> None:
    """Run `attempt` up to `tries` times. A busy machine may fail one, a defect fails all of them."""
    for _ in range(tries - 1):
        with suppress(AssertionError):
            return attempt()
    return attempt()


def close(client: socket.socket) -> None:
    client.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ScriptedEngine(constant_reply("word " * 2000), per_token=0.01)) as running:
        yield running


@pytest.mark.parametrize("disconnect", [close, reset, half_close])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_the_engine_is_idle_soon_after_a_disconnect(
    served: Served, request_: tuple[str, Json], disconnect: Callable[[socket.socket], None]
) -> None:
    def attempt() -> None:
        with served.open(*request_) as client:
            wait_until(lambda: bool(served.engine.running))
            before = len(served.engine.calls)
            disconnect(client)
            took = wait_until(lambda: not (served.engine.running or len(served.service.traffic)))
        # Only lanes that had already started.
        assert len(served.engine.calls) - before <= 8
        assert took < SOON

    with_retries(attempt)


@pytest.mark.anyio
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_cancelled_httpx_request_frees_the_engine(served: Served, is_stream: bool) -> None:
    body = QUESTION | {"stream": is_stream}
    async with httpx.AsyncClient(base_url=served.url, verify=False, trust_env=False) as client:
        with anyio.move_on_after(0.3):
            await client.post("/solve", json=body, timeout=20)
    wait_at_most(SOON, lambda: not served.engine.running)


def test_a_half_closed_connection_counts_as_a_disconnect_and_gets_no_response(
    served: Served,
) -> None:
    with served.open("/solve", QUESTION) as client:
        wait_until(lambda: bool(served.engine.running))
        half_close(client)
        client.settimeout(10)
        assert client.recv(1) == b""


def test_a_disconnect_during_the_body_starts_no_call(served: Served) -> None:
    before = len(served.engine.calls)
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        head = b"POST /solve HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        client.sendall(head + b"content-length: 1000\r\n\r\n{")
    assert served.get("/livez").status_code == 200
    assert len(served.engine.calls) == before


def test_a_disconnect_is_counted_as_cancelled(served: Served) -> None:
    with served.open("/solve", QUESTION):
        wait_until(lambda: bool(served.engine.running))
    wait_at_most(SOON, lambda: not served.engine.running)
    metrics = served.get("/metrics").text
    assert 'secondpass_solves_total{stop_reason="cancelled",strategy="single"}' in metrics
    assert "secondpass_runs_in_flight 0.0" in metrics
    assert 'secondpass_engine_calls_in_flight{role="actor"} 0.0' in metrics

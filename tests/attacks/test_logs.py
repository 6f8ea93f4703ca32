"""Strangers fill neither the log nor the metrics, and what a client sends is not passed on blindly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.replies import answer_42
from tests.attacks.victim import INNOCENT, Json, Victim, attack, victim

pytestmark = pytest.mark.faults

KEY = "an-api-key-of-a-tenant"
ATTEMPTS = 500
MAX_LINES = 20
"""Most log lines of many equal events within a minute."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with victim(tmp_path_factory.mktemp("logs"), keys={"tenant": KEY}) as started:
        started.upstream.chat = answer_42
        yield started


def failures(attacked: Victim) -> float:
    with attacked.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("secondpass_auth_failures_total")
    )


def test_failed_logins_are_counted_and_logged_rarely(attacked: Victim) -> None:
    before, lines = failures(attacked), len(attacked.log)
    with attack(attacked), attacked.client() as client:
        for number in range(ATTEMPTS):
            headers = {"authorization": f"Bearer guess-{number}"}
            assert client.post("/solve", json=INNOCENT, headers=headers).status_code == 401
    assert failures(attacked) - before == ATTEMPTS
    written = attacked.log[lines:]
    assert 1 <= len(written) < MAX_LINES, written[:30]
    assert "guess-" not in "".join(written)


NOISE = {
    "garbage": b"\x00\x01garbage\r\n\r\n",
    "bad version": b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
    "bad header": b"GET / HTTP/1.1\r\nhost localhost\r\n\r\n",
    "hang-up": b"POST /solve HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\nauthorization: Bearer "
    + KEY.encode()
    + b"\r\ncontent-type: application/json\r\n\r\n{",
    "upgrade": b"GET /ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
}


@pytest.mark.parametrize("data", NOISE.values(), ids=list(NOISE))
def test_noise_of_strangers_is_logged_rarely(attacked: Victim, data: bytes) -> None:
    lines = len(attacked.log)
    with attack(attacked):
        for _ in range(200):
            with attacked.connect() as client:
                client.sendall(data)
                client.settimeout(0.02 if data.endswith(b"{") else 5)
                try:
                    client.recv(4096)
                except OSError:
                    continue
    assert len(attacked.log) - lines < MAX_LINES, attacked.log[lines : lines + 30]


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BAD_TRACES = [
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    TRACE + "-extra",
    "a" * 5000,
    "javascript:alert(1)",
]


def test_only_a_valid_trace_context_is_passed_on(attacked: Victim) -> None:
    chat: Json = {"model": "model", "messages": [{"role": "user", "content": "hi"}]}

    def passed_on(trace: str) -> set[str | None]:
        attacked.upstream.requests.clear()
        headers = {"traceparent": trace}
        with attacked.client(headers=headers) as client:
            assert client.post("/v1/chat/completions", json=chat).status_code == 200
            assert client.post("/solve", json=INNOCENT).status_code == 200
        found = [h for path, h, _ in attacked.upstream.requests if path.endswith("completions")]
        assert len(found) == 2
        return {headers.get("traceparent") for headers in found}

    with attack(attacked):
        assert None not in passed_on(TRACE)
        for trace in BAD_TRACES:
            assert trace not in passed_on(trace)

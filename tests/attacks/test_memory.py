"""Ended requests leave no memory behind, however many there were."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.attacks.replies import answer_42
from tests.attacks.victim import Victim, attack, victim

pytestmark = pytest.mark.faults

REQUESTS = 60
TEXT = "x" * 2_000_000
BODIES: dict[str, tuple[str, bytes, int]] = {
    "not JSON": ("/solve", b'{"question": "' + TEXT.encode(), 400),
    "not UTF-8": ("/solve", b'{"question": "' + b"\xff" * 2_000_000 + b'"}', 400),
    "unknown field": ("/solve", json.dumps({"question": TEXT, "unknown": 1}).encode(), 422),
    "unknown model": (
        "/v1/chat/completions",
        json.dumps({"model": "unknown", "messages": [{"role": "user", "content": TEXT}]}).encode(),
        404,
    ),
    "rejected by the engine": (
        "/solve",
        json.dumps({"question": TEXT, "strategy": "single"}).encode(),
        422,
    ),
    "answered": (
        "/solve",
        json.dumps({"question": "x" * 900_000, "strategy": "single"}).encode(),
        200,
    ),
}


@pytest.fixture
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with victim(tmp_path_factory.mktemp("memory")) as started:
        started.upstream.chat = answer_42
        yield started


@pytest.mark.parametrize(("path", "body", "status"), BODIES.values(), ids=list(BODIES))
def test_ended_requests_leave_no_memory(
    attacked: Victim, path: str, body: bytes, status: int
) -> None:
    with attack(attacked), attacked.client() as client:
        headers = {"content-type": "application/json"}
        for _ in range(REQUESTS):
            reply = client.post(path, content=body, headers=headers)
            assert reply.status_code == status, reply.text

"""Malformed, compressed and oversized bodies get a 4xx, and no call starts."""

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from secondpass.service.common import uploads
from tests.http.serving import QUESTION, Served

JSON = {"content-type": "application/json"}
SMILE = b'{"question": "\\ud83d\\ude00", "strategy": 7}'


@pytest.fixture(scope="module", autouse=True)
def _no_call_starts(served: Served) -> Iterator[None]:
    yield
    assert served.engine.calls == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"question": "\xff"}', "UTF-8"),
        (b'{"question": "\\ud83d"}', "UTF-8"),
        (b'{"question": ', "not JSON"),
        (b'{"question": "a", "question": "b"}', "duplicate key 'question'"),
        (b'{"question": "a", "budget": {"max_cost": NaN}}', "NaN"),
        (b'{"question": "a", "budget": {"max_cost": 1' + b"0" * 5000 + b"}}", "digits"),
        (b"[" * 100_000, "nested"),
        (
            b'{"strategy": {"name": "single", "params": ' + b'{"a": ' * 300 + b"1" + b"}" * 302,
            "nested",
        ),
        (b'["question"]', "object"),
        (b"", "not JSON"),
    ],
)
def test_a_body_that_is_not_json_is_malformed(served: Served, body: bytes, expected: str) -> None:
    with served.client() as client:
        reply = client.post("/solve", content=body, headers=JSON)
    problem = reply.json()
    assert reply.status_code == 400
    assert problem["field"] == "body"
    assert expected in problem["detail"]


def test_text_beyond_the_basic_multilingual_plane_is_accepted(served: Served) -> None:
    with served.client() as client:
        reply = client.post("/solve", content=SMILE, headers=JSON)
    assert reply.json()["field"] == "strategy"


def test_a_compressed_body_is_rejected(served: Served) -> None:
    reply = served.post("/solve", QUESTION, headers={"content-encoding": "gzip"})
    assert reply.status_code == 400
    assert reply.json()["field"] == "content-encoding"


@pytest.mark.parametrize("path", ["/solve", "/v1/chat/completions"])
def test_a_body_without_a_content_type_is_rejected(served: Served, path: str) -> None:
    with served.client() as client:
        reply = client.post(path, content=b'{"question": "?", "model": "scripted"}')
    assert reply.status_code == 400
    assert "content-type" in reply.text
    assert "is missing; it must be application/json" in reply.text


def test_a_form_is_rejected(served: Served) -> None:
    with served.client() as client:
        reply = client.post("/solve", data={"question": "?"})
    assert reply.status_code == 400
    assert reply.json()["field"] == "content-type"


@pytest.mark.parametrize("path", ["/solve", "/v1/chat/completions"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_oversized_body_is_a_413(served: Served, path: str, is_chunked: bool) -> None:
    body = json.dumps(QUESTION | {"question": "x" * 10 * 2**20}).encode()
    chunks = (body[at : at + 65536] for at in range(0, len(body), 65536))
    with served.client() as client:
        reply = client.post(
            path,
            content=chunks if is_chunked else body,
            headers={"content-type": "application/json"},
        )
    error = reply.json().get("error", {})
    assert reply.status_code == 413
    assert "body" in (reply.json().get("field"), error.get("param"))
    assert str(4 * 2**20) in reply.text


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_client_that_sends_everything_before_it_reads_gets_the_413(
    served: Served, is_chunked: bool
) -> None:
    chunks = [b"x" * 2**20] * 40
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    client.request(
        "POST",
        "/solve",
        body=iter(chunks) if is_chunked else b"".join(chunks),
        headers={"content-type": "application/json", "connection": "close"},
        encode_chunked=is_chunked,
    )
    assert client.getresponse().status == 413
    client.close()


def test_a_client_that_expects_100_continue_gets_the_413_at_once(served: Served) -> None:
    head = "POST /solve HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 99999999\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=2) as client:
        client.sendall(f"{head}content-type: application/json\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_client_that_stops_sending_gets_the_413(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LINGER_SECONDS", 0.2)
    head = "POST /solve HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=2) as client:
        client.sendall(f"{head}content-length: 99999999\r\n\r\nxxx".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 413")

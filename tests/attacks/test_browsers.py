"""Web pages cannot use a service without API keys, and engines fetch no inner address."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import pytest

from tests.attacks.replies import answer_42
from tests.attacks.victim import INNOCENT, Json, Victim, attack, victim

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("browsers")
    with victim(folder, allow_image_hosts=["images.example.com"]) as started:
        started.upstream.chat = answer_42
        yield started


def paths(attacked: Victim, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """Send an ordinary request with these headers to each route."""
    chat: Json = {"model": "model", "messages": [{"role": "user", "content": "hi"}]}
    with attacked.client(headers=headers) as client:
        yield client.post("/solve", json=INNOCENT)
        yield client.post("/v1/chat/completions", json=chat)
        yield client.get("/v1/models")
        yield client.get("/strategies")
        yield client.get("/openapi.json")


ORIGINS = [
    "https://evil.example",
    "http://evil.example:8000",
    "null",
    "http://localhost.evil.example",
    "http://127.0.0.1:1",
]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_foreign_origin_is_refused(attacked: Victim, origin: str) -> None:
    with attack(attacked):
        for reply in paths(attacked, {"origin": origin}):
            assert reply.status_code == 403, (reply.request.url, reply.text)
            assert not [name for name in reply.headers if name.startswith("access-control")]


def test_the_own_origin_is_accepted(attacked: Victim) -> None:
    for reply in paths(attacked, {"origin": attacked.url}):
        assert reply.status_code == 200, (reply.request.url, reply.text)


HOSTS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "169.254.169.254",
    "10.0.0.1",
    "127.0.0.1.evil.example",
    "",
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_rebound_name_is_refused(attacked: Victim, host: str) -> None:
    with attack(attacked):
        for reply in paths(attacked, {"host": host}):
            assert reply.status_code in (400, 403, 421), (reply.request.url, reply.text)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.3.2.1:80", "[::1]:8000"]
)
def test_loopback_names_are_accepted(attacked: Victim, host: str) -> None:
    for reply in paths(attacked, {"host": host}):
        assert reply.status_code == 200, (reply.request.url, reply.text)


def test_a_form_of_a_web_page_is_refused(attacked: Victim) -> None:
    with attack(attacked), attacked.client() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            reply = client.post(
                "/solve", content=b'{"question": "a"}', headers={"content-type": kind}
            )
            assert reply.status_code == 400


def test_no_page_loads_code_from_elsewhere(attacked: Victim) -> None:
    with attacked.client() as client:
        for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
            reply = client.get(path)
            assert reply.status_code == 404 or "://" not in reply.text


URLS = [
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data",
    "https://169.254.169.254/latest/meta-data",
    "http://images.example.com/a.png",
    "https://images.example.com.evil.example/a.png",
    "https://images.example.com@evil.example/a.png",
    "https://evil.example/images.example.com",
    "https://images.example.com:8443/a.png",
    "https://localhost/a.png",
    "https://[::1]/a.png",
    "https://0x7f000001/a.png",
    "ftp://images.example.com/a.png",
    "//images.example.com/a.png",
    "data:text/html,hello",
    "",
]


def question_with(url: str) -> list[Json]:
    parts: list[Json] = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return [{"role": "user", "content": parts}]


@pytest.mark.parametrize("url", URLS)
def test_an_image_is_not_fetched_from_elsewhere(attacked: Victim, url: str) -> None:
    messages = question_with(url)
    with attack(attacked):
        attacked.upstream.requests.clear()
        bodies: tuple[tuple[str, Json], ...] = (
            ("/solve", {"messages": messages, "strategy": "single"}),
            ("/v1/chat/completions", {"messages": messages, "model": "model@single"}),
        )
        for path, body in bodies:
            reply = attacked.post(path, body)
            assert reply.status_code in (400, 422), reply.text
            assert "image_url" in reply.text
        assert not [path for path, _, _ in attacked.upstream.requests if "chat" in path]


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(64)).decode()


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{PNG}",
        "https://images.example.com/a.png",
        "https://IMAGES.example.com/a",
    ],
)
def test_an_allowed_image_reaches_the_engine(attacked: Victim, url: str) -> None:
    reply = attacked.post("/solve", {"messages": question_with(url), "strategy": "single"})
    assert reply.status_code == 200, reply.text

"""With a strategy, engines fetch images only from the hosts that the operator allows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.errors import InvalidRequest
from secondpass.service.common.image_urls import check_images
from secondpass.strategies.api.values import ImagePart, ImageURL, Message
from tests.http.serving import Json, Served, serving, settings_of

HOST = "images.example.com"
PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(allow_image_hosts=[HOST]) as running:
        yield running


def question(part: Json) -> list[Json]:
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]


def image(url: str) -> list[Json]:
    return question({"type": "image_url", "image_url": {"url": url}})


REFUSED = [
    "file:///etc/passwd",
    f"http://{HOST}/a.png",
    f"https://{HOST}./a.png",
    f"https://{HOST}.evil.example/a.png",
    f"https://user@{HOST}/a.png",
    f"https://{HOST}@evil.example/a.png",
    f"https://{HOST}:8443/a.png",
    f"https://{HOST}:/a.png",
    f"https://{HOST}\\@evil.example/a.png",
    f"https://evil.example\\{HOST}/",
    f"https://evil.example/{HOST}",
    f"https://evil.example#{HOST}",
    f"https:/{HOST}/a.png",
    f"https:{HOST}/a.png",
    f"//{HOST}/a.png",
    f" https://{HOST}/a.png",
    f"https://{HOST}/a.png\n",
    f"https://{HOST}\t/a.png",
    f"https://{HOST}/a b",
    f"https://{HOST}#a",
    f"https://{HOST}%2f@evil.example/",
    "https://%69mages.example.com/",
    "https://imáges.example.com/",
    "https://images\u3002example.com/",
    "https://sub.images.example.com/",
    "https://127.0.0.1/",
    "https://[::1]/",
    "https://169.254.169.254/latest/meta-data",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://localhost/",
    f"https://{HOST}/" + "a" * 9000,
    "data:text/html;base64,AAAA",
    "data:image/svg+xml;base64,AAAA",
    "data:image/png,AAAA",
    "data:image/png;base64,",
    "data:image/png;base64,AAA",
    "data:image/png;base64,A===",
    "data:image/png;base64,AA AA===",
    "data:image/png;base64,https://evil.example/",
    "",
]


@pytest.mark.parametrize("url", REFUSED)
def test_any_other_url_is_refused(served: Served, url: str) -> None:
    served.engine.calls.clear()
    reply = served.post("/solve", {"messages": image(url), "strategy": "single"})
    assert reply.status_code == 422
    assert reply.json()["field"] == "messages.0.content.1.image_url.url"
    if not url.startswith("data:image/png;base64"):
        assert "allow_image_hosts" in reply.json()["detail"]
    chat = served.post("/v1/chat/completions", {"messages": image(url), "model": "scripted@single"})
    assert chat.status_code == 400
    assert chat.json()["error"]["param"] == "messages.0.content.1.image_url.url"
    assert not served.engine.calls


ACCEPTED = [
    PNG,
    PNG.replace("data:image", "DATA:Image"),
    f"https://{HOST}/a.png?b=%20#c",
    f"https://{HOST}",
    f"HTTPS://{HOST.upper()}:443/a",
]


@pytest.mark.parametrize("url", ACCEPTED)
def test_data_and_urls_of_allowed_hosts_reach_the_engine(served: Served, url: str) -> None:
    reply = served.post("/solve", {"messages": image(url), "strategy": "single"})
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": "file:///etc/passwd"},
        {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
        {"type": "audio_url", "audio_url": {"url": "file:///etc/passwd"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "file:///etc/passwd"}},
        {"type": "image_pil", "image_pil": "x"},
    ],
)
def test_no_other_part_has_a_url(served: Served, part: Json) -> None:
    served.engine.calls.clear()
    reply = served.post("/solve", {"messages": question(part), "strategy": "single"})
    assert reply.status_code == 422
    assert not served.engine.calls


def test_a_forwarded_request_is_left_to_the_engine(served: Served) -> None:
    body = {"messages": image("https://elsewhere.example/a.png"), "model": "scripted"}
    assert served.post("/v1/chat/completions", body).status_code == 200


def test_every_turn_is_checked(served: Served) -> None:
    messages = [*image("file:///a"), *image(PNG)]
    reply = served.post("/solve", {"messages": messages, "strategy": "single"})
    assert reply.json()["field"] == "messages.0.content.1.image_url.url"


@given(
    st.text("htps:/.@\\#?%0127 aimge-\t", max_size=30).map(lambda t: f"https://{t}") | st.text(),
    st.sampled_from(["a.example", "example"]),
)
def test_an_accepted_url_starts_with_an_allowed_host(url: str, host: str) -> None:
    part = ImagePart(type="image_url", image_url=ImageURL(url=url))
    try:
        check_images([Message(role="user", content=(part,))], [host], field="messages")
    except InvalidRequest:
        return
    start = f"https://{host}"
    rest = url[len(start) :].removeprefix(":443")
    assert url[: len(start)].lower() == start
    assert rest[:1] in ("", "/", "?")


@pytest.mark.parametrize(
    "host", ["*", "*.example.com", "Example.com", "10.0.0.1", "a.0x7f", "::1", "localhost", "a.b:1"]
)
def test_a_setting_must_be_a_host_name(host: str) -> None:
    with pytest.raises(ValueError, match="not the name of a remote host"):
        settings_of(engine="scripted", allow_image_hosts=[host])

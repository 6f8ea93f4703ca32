"""Streams that break after their first chunks end with an error chunk, on all routes."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.engines.upstream import DONE, Upstream, breaking, chunk, event, refuses, streams
from tests.http.faults.breaking import CHAT, MESSAGES, breaks, chunks_of, in_front_of
from tests.http.serving import QUESTION, Served, events_of

REPETITIONS = 200


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def front(upstream: Upstream) -> Iterator[Served]:
    with in_front_of(upstream) as served:
        yield served


def stream(client: httpx.Client, model: str) -> httpx.Response:
    return client.post(CHAT, json={"model": model, "messages": MESSAGES, "stream": True})


@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.parametrize("how", ["reset", "close", "partial"])
def test_every_client_of_a_broken_forwarded_stream_receives_an_error_chunk(
    how: str, after: int, front: Served, upstream: Upstream
) -> None:
    upstream.chat = breaks(after, how)
    with front.client() as client:
        for _ in range(REPETITIONS):
            reply = stream(client, "model")
            assert reply.status_code == 200
            *chunks, last = chunks_of(reply.text)
            assert [each["choices"][0]["delta"]["content"] for each in chunks] == [
                f"word{number} " for number in range(after)
            ]
            assert (last["error"]["code"], last["error"]["type"]) == (
                "engine_failed",
                "server_error",
            )


@pytest.mark.parametrize("how", ["reset", "close", "garbage", "error chunk"])
def test_an_error_right_after_the_first_chunks_of_a_strategy_is_always_an_error_chunk(
    how: str, front: Served, upstream: Upstream
) -> None:
    with front.client() as client:
        for number in range(REPETITIONS):
            after = 1 + number % 3
            upstream.chat = breaks(after, how)
            reply = stream(client, "model@single")
            assert reply.status_code == 200
            *_, last = chunks_of(reply.text)
            assert last["error"]["code"] == "engine_failed", last
            assert last["error"]["secondpass"]["role"] == "actor"


def test_an_error_right_after_the_first_events_of_solve_is_always_an_error_event(
    front: Served, upstream: Upstream
) -> None:
    with front.client() as client:
        for number in range(REPETITIONS):
            upstream.chat = breaks(1 + number % 3, "close" if number % 2 else "reset")
            body = QUESTION | {"stream": True, "strategy": "single"}
            name, _, problem = events_of(client.post("/solve", json=body).text)[-1]
            assert name == "error"
            assert (problem["status"], problem["role"]) == (502, "actor")


@pytest.mark.parametrize("model", ["model", "model@single"])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_the_openai_sdk_raises_the_error_of_a_broken_stream(
    model: str, how: str, front: Served, upstream: Upstream
) -> None:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as sdk:
        for number in range(REPETITIONS):
            upstream.chat = breaks(1 + number % 3, how)
            with pytest.raises(openai.APIError) as raised:
                for _ in sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True):
                    pass
            assert not isinstance(raised.value, openai.APIConnectionError)
            assert raised.value.code == "engine_failed"


@pytest.mark.parametrize("how", ["reset", "close"])
def test_an_error_before_the_first_chunk_of_a_strategy_is_a_502(
    how: str, front: Served, upstream: Upstream
) -> None:
    upstream.chat = breaks(0, how)
    with front.client() as client:
        for _ in range(5):
            assert stream(client, "model@single").status_code == 502


@pytest.mark.parametrize(
    "parts",
    [
        (event(chunk("42")), event(chunk(finish="stop")), DONE),
        (event(chunk("42")), event(chunk(finish="stop"))),
        (event(chunk("42")), DONE),
        (event(chunk("42")), event({"error": {"message": "out of memory"}})),
        (event(chunk("42")), b'event: error\ndata: {"message": "overloaded"}\n\n'),
        (event(chunk("42"))[:9], event(chunk("42"))[9:], b"data: [DONE]"),
        (event(chunk("42")).replace(b"\n", b"\r\n"), b"data: [DONE]\r\n\r\n"),
        (
            b": comment\n\n",
            event(chunk("\N{PILE OF POO}"))[:40],
            event(chunk("\N{PILE OF POO}"))[40:],
            DONE,
        ),
    ],
)
def test_a_complete_stream_is_forwarded_byte_for_byte(
    parts: tuple[bytes, ...], front: Served, upstream: Upstream
) -> None:
    upstream.chat = streams(*parts, pause=0.01)
    with front.client() as client:
        assert stream(client, "model").content == b"".join(parts)


def test_an_error_after_the_finish_reason_of_a_forwarded_stream_adds_no_chunk(
    front: Served, upstream: Upstream
) -> None:
    parts = (event(chunk("42")), event(chunk(finish="stop")))
    upstream.chat = breaking(*parts)
    with front.client() as client:
        assert stream(client, "model").content == b"".join(parts)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_forwarded_request_whose_key_the_engine_refuses_is_a_502(
    status: int, is_stream: bool, front: Served, upstream: Upstream
) -> None:
    upstream.chat = refuses(status, {"error": {"message": "invalid key"}})
    body = {"model": "model", "messages": MESSAGES, "stream": is_stream}
    reply = front.post(CHAT, body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (502, "engine_failed")
    assert "engine 'default'" in error["message"]
    assert "refuses the API key" in error["message"]


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_other_error_replies_are_forwarded_unchanged(
    status: int, front: Served, upstream: Upstream
) -> None:
    upstream.chat = refuses(status, {"error": {"message": "no"}}, **{"Retry-After": "7"})
    reply = front.post(CHAT, {"model": "model", "messages": MESSAGES})
    assert (reply.status_code, reply.headers["retry-after"]) == (status, "7")
    assert reply.json() == {"error": {"message": "no"}}

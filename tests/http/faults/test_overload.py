"""An overloaded engine: 503 with its Retry-After, and a bound on the requests that it receives."""

import asyncio
from typing import Any

import openai
import pytest
from aiohttp import web

from tests.engines.upstream import DONE, Body, Upstream, chunk, event, in_turn, refuses, streams
from tests.http.faults.breaking import CHAT, MESSAGES, counted, in_front_of
from tests.http.serving import QUESTION, Json, events_of
from tests.http.upstreams import generations

BUSY: Json = {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
VOTE: Json = {"name": "self_consistency", "params": {"n": 8}}
SDK_ATTEMPTS = 3
SHORT: Json = {"max_tokens": 50}
plain = streams(counted(0), event(chunk(finish="stop")), DONE)
"""A server that counts tokens while it streams, so that drafts need not wait for the budget of others."""


def busy(status: int = 429, retry_after: str | None = None) -> Any:
    return refuses(status, BUSY, **({} if retry_after is None else {"Retry-After": retry_after}))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("sent", "expected"), [("1", "1"), ("45", "45"), (None, "1")])
def test_an_overloaded_engine_is_a_503_with_its_retry_after(
    status: int, sent: str | None, expected: str
) -> None:
    with in_front_of(upstream := Upstream(chat=plain)) as front:
        upstream.chat = busy(status, sent)
        reply = front.solve(strategy="single")
    problem = reply.json()
    assert (reply.status_code, problem["code"], problem["role"]) == (
        503,
        "engine_overloaded",
        "actor",
    )
    assert reply.headers["retry-after"] == expected
    assert "x-should-retry" not in reply.headers
    assert "Rate limit reached" in problem["detail"]
    assert problem["usage"]["actor"]["completion"] == 0
    assert len(generations(upstream)) == (1 if sent == "45" else 3)


def test_the_retry_after_of_a_run_is_the_longest_of_its_failed_calls() -> None:
    with in_front_of(upstream := Upstream(chat=plain)) as front:
        replies = in_turn([busy(429, "41"), busy(503, "52.4"), busy(429, "40")])

        async def reply_late(request: web.Request, body: Body) -> web.StreamResponse:
            await asyncio.sleep(0.3)
            return await replies(request, body)

        upstream.chat = reply_late
        reply = front.solve(strategy=VOTE | {"params": {"n": 3}}, sampling=SHORT)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "53")


def test_below_v1_an_overload_is_an_openai_error_with_the_role() -> None:
    with in_front_of(upstream := Upstream(chat=plain)) as front:
        upstream.chat = busy(429, "45")
        body = {"model": "model@single", "messages": MESSAGES}
        reply, streamed = front.post(CHAT, body), front.post(CHAT, body | {"stream": True})
    error = reply.json()["error"]
    assert (reply.status_code, streamed.status_code) == (503, 503)
    assert reply.headers["retry-after"] == streamed.headers["retry-after"] == "45"
    assert (error["code"], error["type"]) == ("engine_overloaded", "server_error")
    assert error["secondpass"]["role"] == "actor"


def test_an_overload_in_a_stream_of_solve_is_an_error_event_with_status_503() -> None:
    with in_front_of(upstream := Upstream(chat=plain)) as front:
        upstream.chat = busy(503, "45")
        events = events_of(front.post("/solve", QUESTION | {"stream": True}).text)
    name, _, problem = events[-1]
    assert (name, problem["status"], problem["code"]) == ("error", 503, "engine_overloaded")


@pytest.mark.parametrize(
    ("retry_after", "deadline_ms", "requests", "should_retry"),
    [
        ("1", 600_000, 3, None),  # retried, but the next attempt fits the deadline
        ("1", 1_500, 2, "false"),  # retried, and the next attempt does not fit
        ("5", 2_000, 1, None),  # not retried: the client may wait
        ("45", 600_000, 1, None),
    ],
)
def test_should_retry_is_false_only_after_a_retry_and_without_time_for_another(
    retry_after: str, deadline_ms: int, requests: int, should_retry: str | None
) -> None:
    with in_front_of(upstream := Upstream(chat=plain)) as front:
        upstream.chat = busy(429, retry_after)
        reply = front.solve(strategy="single", budget={"deadline_ms": deadline_ms})
        assert len(generations(upstream)) == requests
    assert (reply.status_code, reply.headers["retry-after"]) == (503, retry_after)
    assert reply.headers.get("x-should-retry") == should_retry


@pytest.mark.parametrize("retry_after", ["1", None])
def test_one_sdk_call_over_an_overloaded_engine_makes_few_requests(retry_after: str | None) -> None:
    """Without a shared waiting period it makes 72: 3 attempts of the SDK, 8 drafts, 3 attempts each."""
    with in_front_of(upstream := Upstream(chat=plain)) as front:
        upstream.chat = busy(429, retry_after)
        with (
            openai.OpenAI(base_url=f"{front.url}/v1", api_key="none") as sdk,
            pytest.raises(openai.InternalServerError) as raised,
        ):
            sdk.chat.completions.create(
                model="model@self_consistency",
                messages=MESSAGES,
                max_tokens=50,
                extra_body={"secondpass": {"params": {"n": 8}}},
            )
        made = len(generations(upstream))
    assert raised.value.status_code == 503
    # Drafts that start at once: one request each. Then one trial for all drafts that wait.
    assert made <= 8 + 2 + 2 * SDK_ATTEMPTS


@pytest.mark.parametrize(("replies", "degraded"), [(1, None), (2, None), (3, {"actor": 1})])
def test_an_engine_that_recovers_answers_the_drafts(replies: int, degraded: Json | None) -> None:
    with in_front_of(upstream := Upstream(chat=plain)) as front:
        upstream.chat = in_turn([*[busy(429, "0.3")] * replies, *[plain] * 50])
        reply = front.solve(
            strategy=VOTE | {"params": {"n": 3}}, task={"kind": "open"}, sampling=SHORT
        )
    assert reply.status_code == 200, reply.text
    assert reply.json()["degraded"] in (None, degraded)

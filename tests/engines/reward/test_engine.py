"""The reward engine with servers that score in different ways, or fail."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.engines.reward.engine import PoolingEngine
from secondpass.service.engines.reward.probe import label_values
from secondpass.strategies.api.engine import Call, PlainRequest, Routing
from secondpass.strategies.api.errors import (
    CallRejected,
    CapabilityMissing,
    EngineError,
    EngineUnavailable,
    StreamInterrupted,
)
from secondpass.strategies.api.values import ReportedUsage
from secondpass.testing import support
from secondpass.testing.support import call_records, make_run
from tests.engines.reward.support import ANSWER, CALL, QUESTION, score
from tests.engines.support import run, until_idle
from tests.engines.upstream import Body, Handler, Upstream, breaking, in_turn, refuses

pytestmark = pytest.mark.anyio


# -- scoring routes and formats -----------------------------------------------------------------------------


def classifies(*values: float) -> Handler:
    """Return a /classify handler that replies with `values`."""
    return replies({"data": [{"probs": list(values)}], "usage": {"prompt_tokens": 7}})


def replies(reply: object, pause: float = 0.0) -> Handler:
    async def handle(_: web.Request, __: Body) -> web.StreamResponse:
        await asyncio.sleep(pause)
        return web.json_response(reply)

    return handle


async def without_messages(_: web.Request, body: Body) -> web.StreamResponse:
    """A /classify of older servers, which accept no messages; the score is the sum of the token ids."""
    if "messages" in body:
        return web.json_response({"error": {"message": "input: Field required"}}, status=400)
    assert body["add_special_tokens"] is False
    return web.json_response({"data": [{"probs": [sum(body["input"])]}]})


async def tokenizes(_: web.Request, body: Body) -> web.StreamResponse:
    """A /tokenize with one token for each message: its length."""
    assert body["add_generation_prompt"] is False
    tokens = [len(message["content"]) for message in body["messages"]]
    return web.json_response({"tokens": tokens, "count": len(tokens)})


@asynccontextmanager
async def engine_of(
    routes: dict[str, Handler], **options: Any
) -> AsyncIterator[tuple[Upstream, PoolingEngine]]:
    """Yield a server with `routes` and an engine that has probed it."""
    async with Upstream(routes=routes).serving() as upstream:
        engine = PoolingEngine("rm", upstream.url, **options)
        try:
            await engine.start()
            yield upstream, engine
        finally:
            await engine.aclose()


async def test_one_label_is_scored_without_activation_and_two_with_activation() -> None:
    call = replace(
        CALL, cache_salt="salt", traceparent="trace", routing=Routing(session="run", tenant="a")
    )
    for values, expected, is_activated in (((-3.5,), -3.5, False), ((0.25, 0.75), 0.75, True)):
        async with engine_of({"/classify": classifies(*values)}) as (upstream, engine):
            assert engine.ready, engine.why_not_ready
            delta = await score(engine, call)
            assert delta.reward == expected
            assert delta.usage == ReportedUsage(prompt=7, completion=0)
            _, headers, raw = upstream.requests[-1]
            body = json.loads(raw)
            assert body["use_activation"] is is_activated
            assert body["cache_salt"] == "salt"
            assert (headers["traceparent"], headers["x-session-id"]) == ("trace", "run")
            assert body["messages"] == [
                {"role": "user", "content": QUESTION.content},
                {"role": "assistant", "content": ANSWER.content},
            ]


@pytest.mark.parametrize(
    ("classify", "status"), [(None, 404), (refuses(501, {"error": {"message": "no"}}), 501)]
)
async def test_the_score_of_the_last_token_counts_if_a_model_scores_every_token(
    classify: Handler | None, status: int
) -> None:
    routes = {"/pooling": replies({"data": [{"data": [[0.1], [0.2], [-0.7]]}]})}
    async with engine_of(routes | ({"/classify": classify} if classify else {})) as (_, engine):
        assert engine.ready, (status, engine.why_not_ready)
        assert (await score(engine)).reward == -0.7


async def test_messages_are_rendered_by_tokenize_if_the_route_accepts_only_token_ids() -> None:
    routes: dict[str, Handler] = {"/classify": without_messages, "/tokenize": tokenizes}
    call = replace(CALL, routing=Routing(session="run"))
    async with engine_of(routes) as (upstream, engine):
        assert engine.capabilities == {"reward", "tokenize"}
        upstream.requests.clear()
        expected = len(QUESTION.text) + len(ANSWER.text)
        assert (await score(engine, call)).reward == expected
        assert await engine.count_prompt(CALL) == 2
        sent = [(path, headers.get("x-session-id")) for path, headers, _ in upstream.requests]
        assert sent == [("/tokenize", "run"), ("/classify", "run")]


async def test_without_tokenize_prompts_cannot_be_counted() -> None:
    async with engine_of({"/classify": classifies(1.0)}) as (_, engine):
        assert engine.capabilities == {"reward"}
        with pytest.raises(CapabilityMissing, match="tokenize"):
            await engine.count_prompt(CALL)


@pytest.mark.parametrize(
    ("routes", "why"),
    [
        ({}, "neither /classify nor /pooling: start vLLM with --runner pooling"),
        ({"/classify": classifies(0.2, 0.3, 0.5)}, "the model has 3 labels"),
        ({"/classify": classifies(0.9, 0.9)}, "two labels whose probabilities do not sum to 1"),
        ({"/pooling": replies({"data": [{"data": [0.1] * 576}]})}, "576 labels"),
        ({"/classify": replies({"data": []})}, "unreadable reply"),
        ({"/classify": replies([])}, "expected a JSON object"),
        ({"/classify": without_messages}, "input: Field required"),
        ({"/classify": refuses(400, {"detail": "no chat template"})}, "no chat template"),
        ({"/classify": refuses(401, {"error": "who are you?"})}, "status 401: who are you?"),
        ({"/classify": refuses(503, {}), "/pooling": refuses(503, {})}, "status 503"),
        ({"/v1/models": replies({"data": [{"id": "a"}, {"id": "b"}]})}, "the server serves a, b"),
    ],
)
async def test_an_engine_whose_server_cannot_score_is_not_ready_and_has_the_reason(
    routes: dict[str, Handler], why: str
) -> None:
    async with engine_of(routes) as (_, engine):
        assert not engine.ready
        assert why in (engine.why_not_ready or "")
        assert engine.capabilities == frozenset()
        with pytest.raises(EngineUnavailable, match="not ready") as raised:
            await run(engine, CALL)
        assert raised.value.role == "reward"


async def test_calls_for_text_raise_capability_missing() -> None:
    async with engine_of({"/classify": classifies(1.0)}) as (upstream, engine):
        before = len(upstream.requests)
        text = Call(role="actor", purpose="solve", messages=(QUESTION,))
        for call in (text, replace(text, labels=("a", "b")), replace(text, prefix="It")):
            with pytest.raises(CapabilityMissing, match=r"'rm' lacks .*text"):
                await run(engine, call)
        with pytest.raises(CapabilityMissing, match="text"):
            async with engine.forward(PlainRequest("chat/completions", b"{}")):
                pass
        assert len(upstream.requests) == before


# -- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "kind", "why"),
    [
        (refuses(400, {"error": {"message": "too long"}}), CallRejected, "status 400: too long"),
        (refuses(500, {"error": {"message": "oom"}}), EngineUnavailable, "status 500: oom"),
        (refuses(429, {}, **{"retry-after": "3"}), EngineUnavailable, "status 429"),
        (breaking(), EngineError, "disconnect|reset|closed|not completed"),
        (replies({"data": [{"label": "good"}]}), StreamInterrupted, "unreadable reply"),
        (replies({"data": [{"probs": ["high"]}]}), StreamInterrupted, "unreadable reply"),
        (replies("good"), StreamInterrupted, "expected a JSON object"),
        (replies({"data": [{"probs": [math.nan]}]}), EngineError, "expected 1 finite value"),
        (replies({"data": [{"probs": [0.5, 0.5]}]}), EngineError, "expected 1 finite value"),
        (replies({"data": [{"probs": []}]}), StreamInterrupted, "unreadable reply"),
        (replies({}, pause=5.0), EngineUnavailable, "[Tt]imeout"),
    ],
)
async def test_an_error_has_the_role_and_the_engine_of_its_call(
    handler: Handler, kind: type[EngineError], why: str
) -> None:
    first = in_turn((classifies(1.0), handler))
    async with engine_of({"/classify": first}, idle_timeout=0.5) as (_, engine):
        with pytest.raises(kind, match=why) as raised:
            await run(engine, CALL)
        assert raised.value.engine == "rm"
        assert raised.value.role == "reward"


async def test_calls_are_unavailable_without_a_server_and_a_new_server_is_probed() -> None:
    async with Upstream().serving() as upstream:
        port = int(upstream.url.split(":")[2].split("/")[0])
    engine = PoolingEngine("rm", upstream.url)
    await engine.start()
    assert not engine.ready
    with pytest.raises(EngineUnavailable, match="not ready"):
        await run(engine, CALL)
    async with Upstream(routes={"/classify": classifies(2.0)}).serving(port):
        await engine.start()
        assert (await score(engine)).reward == 2.0
    with pytest.raises(EngineUnavailable):
        await run(engine, CALL)
    await engine.start()
    async with Upstream(routes={"/classify": classifies(0.1, 0.9)}).serving(port):
        await engine.start()
        assert (await score(engine)).reward == 0.9
    await engine.aclose()
    with pytest.raises(EngineUnavailable, match="closed"):
        await run(engine, CALL)


async def test_a_retried_score_is_charged_only_for_the_successful_attempt() -> None:
    routes = {
        "/classify": in_turn((classifies(1.0), refuses(503, {}), breaking(), classifies(2.5)))
    }
    async with engine_of(routes) as (_, engine):
        live = make_run(support.upstream(engine, attempts=3))
        assert await live.score("42") == 2.5
        assert live.budget.spent["calls"] == 3
        assert live.budget.spent["prompt_tokens"] == 7
        assert not live.budget.holdings


async def test_cancelling_a_call_aborts_the_request_at_once() -> None:
    routes = {"/classify": in_turn((classifies(1.0), replies({}, pause=30.0)))}
    async with engine_of(routes) as (upstream, engine):
        live = make_run(engine)
        with anyio.move_on_after(0.1):
            await live.score("42")
        await until_idle(upstream, 1.0)
        assert not live.budget.holdings
        (record,) = call_records(live)
        assert record.end == "cancelled"
        assert record.is_estimated  # the server returned no usage
        assert record.usage.completion == 0


async def test_every_request_has_the_api_key() -> None:
    async with engine_of({"/classify": classifies(1.0)}, key="sk-a-secret") as (upstream, engine):
        await run(engine, CALL)
    assert {headers["authorization"] for _, headers, _ in upstream.requests} == {
        "Bearer sk-a-secret"
    }


@settings(max_examples=100, derandomize=True)
@given(st.lists(st.lists(st.floats(), min_size=1, max_size=3), min_size=1, max_size=5))
def test_label_values_are_those_of_the_last_token(rows: list[list[float]]) -> None:
    for data in (rows, rows[-1]):
        read = label_values({"data": [{"data": data}]}, "pooling")
        assert [repr(value) for value in read] == [repr(value) for value in rows[-1]]

"""Reward models: the requests that may name one, and the errors when it is down."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from aiohttp import web

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api import registry
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.registry import Params, Strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate
from tests.engines.upstream import Body, Upstream
from tests.http.serving import Json, Served, events_of, serving
from tests.polling import wait_until

UNREACHABLE = "http://127.0.0.1:9/v1"


async def scored(run: Run, _: Params) -> Candidate:
    """Return one draft with its reward as the score."""
    draft = await run.ask(SOLVE)
    return run.candidate(draft, score=await run.score(draft), score_kind="reward")


@pytest.fixture(autouse=True)
def _strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Strategy(
        "scored",
        scored,
        Params,
        None,
        "reward",
        "select",
        {},
        streams=False,
        module=__name__,
    )
    monkeypatch.setitem(registry._registered, "scored", spec)


async def _classify(_: web.Request, body: Body) -> web.StreamResponse:
    right = "42" in body["messages"][-1]["content"]
    return web.json_response(
        {"data": [{"probs": [2.5 if right else -1.0]}], "usage": {"prompt_tokens": 50}}
    )


@contextmanager
def reward_server() -> Iterator[Upstream]:
    """A server with /classify on a real socket, in its own thread."""
    upstream = Upstream(models=[{"id": "rm"}], routes={"/classify": _classify})
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with upstream.serving():
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    wait_until(lambda: bool(upstream.url))
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


@contextmanager
def service_with(
    url: str, scripted: ScriptedEngine | None = None, **settings: Any
) -> Iterator[Served]:
    table = {"kind": "pooling", "url": url, "model": "rm"}
    roles = {"reward": "rm"} | settings.pop("roles", {})
    with serving(scripted, engines={"rm": table}, roles=roles, **settings) as served:
        yield served


@pytest.fixture(scope="module")
def ready() -> Iterator[Served]:
    with reward_server() as upstream, service_with(upstream.url) as served:
        wait_until(lambda: served.get("/readyz").status_code == 200)
        yield served


def test_a_reward_is_in_the_usage_the_candidates_and_the_trace(ready: Served) -> None:
    reply = ready.solve(strategy="scored", trace="summary").json()
    assert reply["usage"]["reward"] | {"cost": 0} == {
        "calls": 1,
        "prompt": 50,
        "cached": 0,
        "completion": 0,
        "wasted": 0,
        "cost": 0,
        "estimated": False,
    }
    assert reply["models"]["reward"] == "rm"
    assert reply["candidates"][0]["score"] == 2.5
    assert reply["confidence"] is None
    (verdict,) = (event for event in reply["trace"] if event["type"] == "verdict")
    assert (verdict["role"], verdict["reward"]) == ("reward", 2.5)


def test_a_reward_is_an_event_of_the_stream(ready: Served) -> None:
    reply = ready.solve(strategy="scored", stream=True)
    (verdict,) = (data for name, _, data in events_of(reply.text) if name == "verdict")
    assert (verdict["role"], verdict["purpose"], verdict["reward"]) == ("reward", "reward", 2.5)


def test_a_reward_is_reported_as_progress(ready: Served) -> None:
    body = chat("scripted@scored") | {"stream": True, "secondpass": {"progress": True}}
    assert "reward, reward: reward 2.5" in ready.post("/v1/chat/completions", body).text


def test_a_reward_model_is_listed_without_strategies(ready: Served) -> None:
    names = [model["id"] for model in ready.get("/v1/models").json()["data"]]
    assert "rm" in names
    assert "scripted@scored" in names
    assert not [name for name in names if name.startswith("rm@")]


@pytest.mark.parametrize("model", ["rm", "rm@single"])
def test_a_chat_request_for_a_reward_model_is_rejected(ready: Served, model: str) -> None:
    reply = ready.post("/v1/chat/completions", chat(model))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "model"
    assert "cannot generate" in reply.json()["error"]["message"]


@pytest.mark.parametrize("role", ["actor", "critic", "judge"])
def test_a_request_cannot_assign_a_reward_model_to_a_generating_role(
    ready: Served, role: str
) -> None:
    reply = ready.solve(models={role: "rm"})
    assert reply.status_code == 422
    assert reply.json()["field"] == f"models.{role}"
    assert ready.solve(models={"reward": "rm"}).status_code == 200


def test_a_reward_model_that_was_never_ready_is_a_502_that_names_the_role() -> None:
    with service_with(UNREACHABLE) as served:
        reply = served.solve(strategy="scored")
        assert reply.status_code == 502
        problem = reply.json()
        assert (problem["code"], problem["role"]) == ("engine_failed", "reward")
        assert "not ready" in problem["detail"]
        assert problem["usage"]["actor"]["calls"] == 1
        assert served.get("/readyz").json()["reasons"] == ["reward: not ready"]
        assert served.solve().status_code == 200


def test_a_reward_model_that_fails_is_a_502_that_names_the_role() -> None:
    with reward_server() as upstream, service_with(upstream.url) as served:
        wait_until(lambda: served.get("/readyz").status_code == 200)
        upstream.routes["/classify"] = _fail
        reply = served.solve(strategy="scored")
    assert reply.status_code == 502
    assert reply.json()["role"] == "reward"
    assert reply.json()["usage"]["reward"]["calls"] == 3


@contextmanager
def reviewing(url: str) -> Iterator[Served]:
    """A service whose reviews never agree, so that the reward model decides which of them count."""

    def script(call: Call, index: int) -> Reply:
        if call.purpose == "meta_rm":
            favourite = "Red" if index % 2 else "Blue"
            text = call.messages[-1].text
            first = re.search(r"^(Red|Blue)$", text, re.MULTILINE)
            is_first = first is not None and first[0] == favourite
            return Reply("Scores: \\boxed{%s}" % ("9, 2" if is_first else "2, 9"))
        return Reply(("Red", "Blue")[index % 2])

    with service_with(url, scripted=ScriptedEngine(script)) as served:
        yield served


META = {"name": "meta_rm", "params": {"meta": "reward_model"}}
FALLING_BACK = {"name": "meta_rm", "params": {"meta": "reward_model", "fallback": "agreement"}}


@contextmanager
def failing() -> Iterator[Served]:
    """A reward model that was ready and now fails every call."""
    with reward_server() as upstream, reviewing(upstream.url) as served:
        wait_until(lambda: served.get("/readyz").status_code == 200)
        upstream.routes["/classify"] = _fail
        yield served


@contextmanager
def never_ready() -> Iterator[Served]:
    with reviewing(UNREACHABLE) as served:
        yield served


@pytest.mark.parametrize("down", [failing, never_ready])
def test_meta_rm_without_its_required_reward_model_is_a_502_that_names_role_and_engine(
    down: Callable[[], AbstractContextManager[Served]],
) -> None:
    with down() as served:
        reply = served.solve(strategy=META, task={"kind": "open"})
        problem = reply.json()
        assert reply.status_code == 502, problem
        assert (problem["code"], problem["role"]) == ("engine_failed", "reward")
        assert "the role 'reward' (engine 'rm')" in problem["detail"]
        assert problem["usage"]["judge"]["calls"] == 4
        streamed = served.solve(strategy=META, task={"kind": "open"}, stream=True)
        (error,) = (data for name, _, data in events_of(streamed.text) if name == "error")
        assert (error["status"], error["role"]) == (502, "reward")


@pytest.mark.parametrize("down", [failing, never_ready])
@pytest.mark.parametrize("strategy", ["meta_rm", FALLING_BACK])
def test_meta_rm_with_a_fallback_uses_agreement_and_notes_it(
    down: Callable[[], AbstractContextManager[Served]], strategy: Any
) -> None:
    with down() as served:
        reply = served.solve(strategy=strategy, task={"kind": "open"}).json()
    assert reply["notes"]["meta"] == "agreement"
    assert reply["notes"]["meta failed"] == "reward_model: the reviews are selected by agreement"
    assert reply["degraded"]["reward"] >= 1


def test_meta_rm_calls_a_ready_reward_model() -> None:
    with reward_server() as upstream, reviewing(upstream.url) as served:
        wait_until(lambda: served.get("/readyz").status_code == 200)
        reply = served.solve(strategy=META, task={"kind": "open"}).json()
    assert reply["notes"]["meta"] == "reward_model"
    assert reply["usage"]["reward"]["calls"] == 4
    assert reply["degraded"] is None


def test_an_engine_without_the_reward_capability_is_named(ready: Served) -> None:
    ready.engine.lacking = frozenset({"reward"})
    try:
        reply = ready.solve(strategy="scored", models={"reward": "scripted"})
    finally:
        ready.engine.lacking = frozenset()
    assert reply.status_code == 422
    assert reply.json()["detail"] == "engine 'scripted' lacks the capability reward"


def test_a_role_without_an_engine_is_named(served: Served) -> None:
    reply = served.solve(strategy="scored")
    assert reply.status_code == 422
    assert "no engine plays the role 'reward'" in reply.json()["detail"]


async def _fail(_: web.Request, __: Body) -> web.StreamResponse:
    return web.json_response({"error": {"message": "out of memory"}}, status=500)


def chat(model: str) -> Json:
    return {"model": model, "messages": [{"role": "user", "content": "What is 6 times 7?"}]}

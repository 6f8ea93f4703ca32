import asyncio
import json
from dataclasses import replace
from typing import Any, cast

import pytest
from aiohttp import web

from secondpass.service.engines.openai import probe
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.strategies.api.errors import CallRejected, CapabilityMissing, EngineUnavailable
from secondpass.strategies.api.values import Sampling, Usage
from tests.engines.asking import CALL, is_ready, run, started, text
from tests.engines.upstream import (
    DONE,
    Body,
    Handler,
    Upstream,
    chunk,
    event,
    refuses,
    streams,
)

pytestmark = pytest.mark.anyio


# -- finding out what a server is ---------------------------------------------------------------------------


async def test_an_address_without_its_v1_is_what_a_server_of_other_paths_is_asked_for() -> None:
    upstream = Upstream()
    async with upstream.serving():
        engine = HttpEngine("e", upstream.url.removesuffix("/v1"))
        await engine.start()
    assert "404" in (engine.why_not_ready or "")
    assert (engine.why_not_ready or "").endswith("does its address end in /v1?")
    await engine.aclose()


async def test_an_engine_is_ready_once_its_server_is_there_and_not_before() -> None:
    upstream = Upstream()
    async with upstream.serving():
        port = int(upstream.url.split(":")[2].split("/")[0])
    engine = HttpEngine("e", upstream.url)
    await engine.start()
    assert not is_ready(engine)
    assert engine.why_not_ready
    assert engine.capabilities == frozenset()
    with pytest.raises(EngineUnavailable, match="not ready"):
        await run(engine)
    async with upstream.serving(port):
        await engine.start()
        assert is_ready(engine)
        assert engine.model == "model"
        await engine.start()
        assert is_ready(engine)
    await engine.start()
    assert not is_ready(engine)
    async with upstream.serving(port):
        await engine.start()
        assert is_ready(engine)
        assert text(await run(engine)) == "Hello"
    await engine.aclose()


async def test_a_server_that_falls_silent_is_not_ready_for_long(
    upstream: Upstream, engine: HttpEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mute(_: web.Request, __: Body) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    monkeypatch.setattr(probe, "HEALTH_SECONDS", 0.1)
    upstream.routes["/v1/models"] = mute
    await engine.start()
    assert not is_ready(engine)
    assert engine.why_not_ready == "silent for 0.1 s"
    del upstream.routes["/v1/models"]
    await engine.start()
    assert is_ready(engine)


@pytest.mark.parametrize(
    ("models", "wanted", "said"),
    [
        (["a", "b"], "c", "serves a, b; not 'c'"),
        (["a", "b"], None, "serves a, b; no model was named"),
        ([], None, "no model"),
    ],
)
async def test_a_model_that_is_not_served_is_named(
    models: list[str], wanted: str | None, said: str, upstream: Upstream
) -> None:
    upstream.models = [{"id": name} for name in models]
    async with started(upstream, model=wanted) as engine:
        assert not engine.ready
        assert said in (engine.why_not_ready or "")


@pytest.mark.parametrize("models", [None, 3, [3], [{}], "x"])
async def test_a_server_that_is_no_model_server_is_not_ready(
    models: object, upstream: Upstream
) -> None:
    upstream.models = cast("list[Body]", models)
    async with started(upstream) as engine:
        assert not engine.ready


async def test_a_server_that_refuses_the_key_is_not_ready(upstream: Upstream) -> None:
    upstream.chat = refuses(401, {"error": {"message": "bad key"}})
    async with started(upstream) as engine:
        assert not engine.ready
        assert "bad key" in (engine.why_not_ready or "")


async def test_a_server_that_streams_nothing_but_text_can_do_nothing_else(
    engine: HttpEngine,
) -> None:
    assert engine.capabilities <= {"seed", "schema"}  # which do not show in a reply
    deltas = await run(engine)
    assert text(deltas) == "Hello"
    assert all(delta.usage is None and delta.tokens == 0 for delta in deltas)
    for call in (
        replace(CALL, labels=("A", "B")),
        replace(CALL, prefix="So"),
        replace(CALL, prefix=(1, 2)),
        replace(CALL, logprobs=1),
    ):
        with pytest.raises(CapabilityMissing):
            await run(engine, call)
    with pytest.raises(CapabilityMissing, match="tokenize"):
        await engine.count_prompt(CALL)


def strict(*known: str) -> Handler:
    """Refuses every field but `known`, as OpenAI's own server does, and shows what it understands."""

    async def handle(request: web.Request, body: Body) -> web.StreamResponse:
        unknown = body.keys() - {"model", "messages", "stream", *known}
        unknown |= body.get("stream_options", {}).keys() - {"include_usage"}
        if unknown:
            return await refuses(400, {"error": {"message": f"unknown: {sorted(unknown)}"}})(
                request, body
            )
        more: dict[str, Any] = {}
        if "logprobs" in body:
            tops = [("A", -0.5), (" A", -1.5), ("B", -2.0), ("C", -3.0)]
            entries = [{"token": token, "logprob": logprob} for token, logprob in tops]
            more["logprobs"] = {"content": [entries[0] | {"top_logprobs": entries}]}
        if not body.get("stream"):
            usage = {"prompt_tokens": 5, "completion_tokens": 1}
            choice = {"index": 0, "message": {"content": "A"}, "finish_reason": "length"} | more
            return web.json_response({"choices": [choice], "usage": usage})
        parts = [event(chunk("A", "length", **more))]
        if "stream_options" in body:
            usage = {"prompt_tokens": 5, "completion_tokens": 1}
            parts.append(event({"choices": [], "usage": usage}))
        return await streams(*parts, DONE)(request, body)

    return handle


OPENAI = ("max_completion_tokens", "stream_options", "logprobs", "top_logprobs", "seed")
LABELS = ("temperature", "top_p")


async def test_a_strict_server_is_asked_only_for_what_it_knows(upstream: Upstream) -> None:
    upstream.chat = strict(*OPENAI, *LABELS)
    async with started(upstream) as engine:
        assert engine.capabilities == {"logprobs", "labels", "seed"}
        deltas = await run(engine, replace(CALL, sampling=Sampling(max_tokens=3, seed=1)))
        assert deltas[-1].usage == Usage(prompt=5, completion=1)
        with pytest.raises(CallRejected, match="top_k"):
            await run(engine, replace(CALL, sampling=Sampling(top_k=5)))


async def test_labels_elsewhere_are_read_from_the_most_probable_tokens(upstream: Upstream) -> None:
    upstream.chat = strict(*OPENAI, *LABELS)
    async with started(upstream) as engine:
        label_delta, usage_delta = await run(engine, replace(CALL, labels=("A", "B", "Z")))
    assert label_delta.labels == pytest.approx(
        {"A": 0.6065 + 0.2231, "B": 0.1353, "Z": 0}, abs=1e-3
    )
    assert (label_delta.tokens, label_delta.finish_reason) == (1, "stop")
    assert usage_delta.usage == Usage(prompt=5, completion=1)


async def test_llama_cpp_continues_text(upstream: Upstream) -> None:
    upstream.models = [{"id": "model", "owned_by": "llamacpp"}]
    async with started(upstream) as engine:
        assert "prefix" in engine.capabilities
        await run(engine, replace(CALL, prefix="So far"))
        body = json.loads(upstream.requests[-1][2])
        assert body["messages"][-1] == {"role": "assistant", "content": "So far"}
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
        with pytest.raises(CapabilityMissing, match="tokenize"):
            await run(engine, replace(CALL, prefix=(1, 2)))
        with pytest.raises(CallRejected, match="schema"):
            await run(engine, replace(CALL, prefix="So far", schema='{"type": "object"}'))


async def test_values_that_are_not_set_are_left_to_the_server(
    upstream: Upstream, engine: HttpEngine
) -> None:
    await run(engine)
    body = json.loads(upstream.requests[-1][2])
    assert body == {
        "model": "model",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }

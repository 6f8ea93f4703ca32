import asyncio
import json
from dataclasses import replace
from typing import Any, cast

import pytest
from aiohttp import web

from secondpass.service.engines.openai import probe
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.strategies.api.errors import CallRejected, CapabilityMissing, EngineUnavailable
from secondpass.strategies.api.values import ReportedUsage, Sampling
from tests.engines.support import CALL, is_ready, run, started, text
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


# -- probing a server ---------------------------------------------------------------------------------------


async def test_a_404_for_a_url_without_v1_adds_a_hint() -> None:
    upstream = Upstream()
    async with upstream.serving():
        engine = HttpEngine("e", upstream.url.removesuffix("/v1"))
        await engine.start()
    assert "404" in (engine.why_not_ready or "")
    assert (engine.why_not_ready or "").endswith("check that the engine's URL ends in /v1")
    await engine.aclose()


async def test_an_engine_is_ready_only_while_its_server_answers() -> None:
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


async def test_an_engine_is_not_ready_when_its_health_check_times_out(
    upstream: Upstream, engine: HttpEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mute(_: web.Request, __: Body) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    monkeypatch.setattr(probe, "HEALTH_SECONDS", 0.1)
    upstream.routes["/v1/models"] = mute
    await engine.start()
    assert not is_ready(engine)
    assert engine.why_not_ready == "no reply to the health check within 0.1 s"
    del upstream.routes["/v1/models"]
    await engine.start()
    assert is_ready(engine)


@pytest.mark.parametrize(
    ("models", "requested", "message"),
    [
        (["a", "b"], "c", "the server serves a, b, not 'c': set the engine's model to one of them"),
        (["a", "b"], None, "the server serves a, b: set the engine's model to one of them"),
        ([], None, "the server serves no model"),
    ],
)
async def test_an_error_for_a_model_that_is_not_served_lists_the_served_models(
    models: list[str], requested: str | None, message: str, upstream: Upstream
) -> None:
    upstream.models = [{"id": name} for name in models]
    async with started(upstream, model=requested) as engine:
        assert not engine.ready
        assert message == engine.why_not_ready


@pytest.mark.parametrize("models", [None, 3, [3], [{}], "x"])
async def test_an_engine_is_not_ready_if_its_server_returns_no_valid_model_list(
    models: object, upstream: Upstream
) -> None:
    upstream.models = cast("list[Body]", models)
    async with started(upstream) as engine:
        assert not engine.ready


async def test_an_engine_is_not_ready_if_its_server_rejects_the_api_key(upstream: Upstream) -> None:
    upstream.chat = refuses(401, {"error": {"message": "bad key"}})
    async with started(upstream) as engine:
        assert not engine.ready
        assert "bad key" in (engine.why_not_ready or "")


async def test_a_server_that_streams_only_text_lacks_the_other_capabilities(
    engine: HttpEngine,
) -> None:
    assert engine.capabilities <= {"seed", "schema", "n"}  # they have no visible effect on a reply
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
    """Return a handler that supports the fields `known` and rejects others, as OpenAI's server does."""

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


async def test_a_strict_server_gets_only_fields_that_it_supports(upstream: Upstream) -> None:
    upstream.chat = strict(*OPENAI, *LABELS)
    async with started(upstream) as engine:
        assert engine.capabilities == {"logprobs", "labels", "seed"}
        deltas = await run(engine, replace(CALL, sampling=Sampling(max_tokens=3, seed=1)))
        assert deltas[-1].usage == ReportedUsage(prompt=5, completion=1)
        with pytest.raises(CallRejected, match="top_k"):
            await run(engine, replace(CALL, sampling=Sampling(top_k=5)))


async def test_without_vllm_labels_are_read_from_the_most_probable_tokens(
    upstream: Upstream,
) -> None:
    upstream.chat = strict(*OPENAI, *LABELS)
    async with started(upstream) as engine:
        label_delta, usage_delta = await run(engine, replace(CALL, labels=("A", "B", "Z")))
    assert label_delta.labels == pytest.approx(
        {"A": 0.6065 + 0.2231, "B": 0.1353, "Z": 0}, abs=1e-3
    )
    assert (label_delta.tokens, label_delta.finish_reason) == (1, "stop")
    assert usage_delta.usage == ReportedUsage(prompt=5, completion=1)


async def test_llama_cpp_continues_completions_from_text(upstream: Upstream) -> None:
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


async def test_unset_sampling_values_are_left_to_the_server(
    upstream: Upstream, engine: HttpEngine
) -> None:
    await run(engine)
    body = json.loads(upstream.requests[-1][2])
    assert body == {
        "model": "model",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_server_without_a_list_of_models_serves_the_configured_model(
    status: int, upstream: Upstream
) -> None:
    upstream.routes["/v1/models"] = refuses(status, {"detail": "Not Found"})
    async with started(upstream, model="mine") as engine:
        assert is_ready(engine)
        assert engine.model == "mine"
        await engine.start()  # the health check
        assert is_ready(engine)
        upstream.routes["/v1/models"] = refuses(503, {})
        await engine.start()
        assert not is_ready(engine)
    async with started(upstream) as engine:
        assert not is_ready(engine)


async def test_a_stop_string_that_the_server_drops_is_rejected_in_a_resumable_call(
    upstream: Upstream, engine: HttpEngine
) -> None:
    call = replace(CALL, resumable=True, sampling=Sampling(stop=("END", "\n\n")))
    with pytest.raises(
        CallRejected, match="stop: the server does not return the stop string 'END'"
    ):
        await run(engine, call)
    assert text(await run(engine, replace(call, excluded_stop=("END", "\n\n")))) == "Hello"
    assert text(await run(engine, replace(call, resumable=False))) == "Hello"


async def test_a_call_for_several_completions_needs_n(upstream: Upstream) -> None:
    upstream.chat = streams(event(chunk("Hello")), event(chunk(finish="stop")), DONE)
    async with started(upstream) as engine:
        assert "n" not in engine.capabilities
        with pytest.raises(CapabilityMissing, match="lacks the capability n"):
            await run(engine, replace(CALL, n=2))


@pytest.mark.parametrize(("reported", "template"), [(300, 299), (None, None)])
async def test_the_tokens_of_the_chat_template_are_those_of_the_probe_but_one(
    reported: int | None, template: int | None, upstream: Upstream
) -> None:
    usage = {"prompt_tokens": reported, "completion_tokens": 1}
    upstream.chat = streams(
        event(chunk("Yes")), event(chunk("", "stop")), event({"choices": [], "usage": usage}), DONE
    )
    async with started(upstream) as engine:
        assert engine.template_tokens == template

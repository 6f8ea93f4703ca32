"""The engine in this process, as far as it promises more than every engine does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from secondpass.service.engines.openai.labels import label_body
from secondpass.service.engines.openai.wire import chat_body, completion_body
from secondpass.strategies.api.engine import Call, PlainRequest, Routing
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import ImagePart, Message, Sampling
from tests.engines.asking import ids, run, text
from tests.engines.contract_support import ENDLESS, finish_reasons
from tests.engines.in_process import in_process_engine, requests_in_core

if TYPE_CHECKING:
    from secondpass.service.engines.vllm.engine import VllmEngine

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vllm,
    # vLLM reads the field itself, and deprecates it for its clients.
    pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning"),
]

# What an operator may choose: the model's own sampling, and an order of service.
CHOSEN = (
    *("--scheduling-policy", "priority", "--override-generation-config"),
    '{"temperature": 0.7, "top_k": 20, "max_new_tokens": 300}',
)


def ask(question: str = "Tell me how to make tea.", **sampling: object) -> Call:
    return Call(
        role="actor",
        purpose="solve",
        messages=(Message(role="user", content=question),),
        sampling=Sampling.model_validate(sampling),
    )


GREEDY = ask(temperature=0, max_tokens=16)


@pytest.fixture(scope="module")
async def engine(anyio_backend: str) -> AsyncIterator[VllmEngine]:
    async with in_process_engine(*CHOSEN) as engine:
        yield engine


def client_of(engine: VllmEngine) -> Any:
    assert engine._client is not None
    return engine._client


async def until_core_is_idle(seconds: float = 1.0) -> None:
    with anyio.fail_after(seconds):
        while requests_in_core():
            await anyio.sleep(0.005)


# -- the same as over HTTP ---------------------------------------------------------------------------------


class Asked:
    """What the engine client was asked to generate: prompt, sampling, and further arguments that were given."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, Any, dict[str, Any]]] = []
        generate = client.generate

        def recorded(prompt: Any, sampling: Any, request: str, **options: Any) -> Any:
            given = {name: value for name, value in options.items() if value is not None}
            kept = {name: prompt.get(name) for name in ("prompt_token_ids", "cache_salt")}
            self.calls.append((kept, sampling, given))
            return generate(prompt, sampling, request, **options)

        monkeypatch.setattr(client, "generate", recorded)


@pytest.fixture
def asked(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(client_of(engine), monkeypatch)


SHORT = ask(max_tokens=3)


@pytest.mark.parametrize(
    "call",
    [
        SHORT,
        replace(ask(max_tokens=3, seed=7, top_p=0.9, min_p=0.1, stop=("tea", "cup")), n=3),
        ask(temperature=0, top_k=5, presence_penalty=0.5, repetition_penalty=1.1, max_tokens=2),
        replace(SHORT, logprobs=2, stream_interval=4, routing=Routing(session="s"), cache_salt="salt"),
        replace(SHORT, schema='{"type": "integer"}'),
        replace(SHORT, prefix="First, boil"),
        replace(SHORT, thinking=False),
        replace(ask(max_tokens=3, stop=("tea",)), resumable=True),
        replace(SHORT, labels=("Yes", "No"), routing=Routing(session="s")),
        replace(SHORT, messages=(Message(role="system", content="Be brief."), *SHORT.messages)),
        ask("Say hi."),
    ],
    ids=["defaults", "n", "penalties", "delivery", "schema", "prefix", "thinking", "stop", "labels", "system", "uncapped"],
)  # fmt: skip
async def test_a_call_asks_the_core_for_what_its_json_would_have_asked(
    call: Call, engine: VllmEngine, asked: Asked
) -> None:
    await run(engine, call)
    dialect = engine._renderer.dialect
    if call.labels:
        body = label_body(call, dialect, None, list(asked.calls[0][1].logprob_token_ids))
        body["priority"] = -1  # our own choice, which no JSON of ours makes
    else:
        body = chat_body(call, dialect) | {"stream": True, "stream_interval": call.stream_interval}
    await forwarded(engine, "chat/completions", body)
    ours, theirs = asked.calls
    assert ours == theirs


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_continuation_asks_for_what_a_prompt_of_tokens_would_have_asked(
    resumable: bool, engine: VllmEngine, asked: Asked
) -> None:
    call = replace(ask(max_tokens=3, seed=1, stop=("tea",)), prefix=(2068, 919), cache_salt="salt")
    call = replace(call, resumable=resumable)
    await run(engine, call)
    prompt = asked.calls[0][0]["prompt_token_ids"]
    dialect = replace(engine._renderer.dialect, max_tokens="max_tokens")
    body = completion_body(call, dialect, prompt) | {"stream": True, "stream_interval": 1}
    await forwarded(engine, "completions", body)
    ours, theirs = asked.calls
    assert ours == theirs
    assert ours[1].include_stop_str_in_output is resumable


async def forwarded(engine: VllmEngine, path: str, body: dict[str, Any]) -> bytes:
    headers = (("content-type", "application/json"),)
    request = PlainRequest(path, json.dumps(body).encode(), headers)
    async with engine.forward(request) as reply:
        said = b"".join([chunk async for chunk in reply.chunks])
        assert reply.status == 200, said
    return said


async def test_label_reads_go_first_and_drafts_by_their_index(
    engine: VllmEngine, asked: Asked
) -> None:
    await run(engine, replace(SHORT, index=5))
    await run(engine, replace(SHORT, index=5, labels=("Yes", "No")))
    assert [options["priority"] for _, _, options in asked.calls] == [5, -1]


async def test_the_operators_limit_ends_a_reply_that_has_none_of_its_own(
    engine: VllmEngine,
) -> None:
    deltas = await run(engine, replace(ENDLESS, sampling=Sampling(max_tokens=1900)))
    assert len(ids(deltas)) == 300
    assert finish_reasons(deltas) == {0: "length"}


# -- reasoning --------------------------------------------------------------------------------------------------


@pytest.fixture
def thinker(engine: VllmEngine) -> VllmEngine:
    """An engine whose model thinks until its first comma, as far as vLLM's parser can tell."""
    from vllm.reasoning import ReasoningParserManager  # noqa: PLC0415
    from vllm.reasoning.deepseek_r1_reasoning_parser import (  # noqa: PLC0415
        DeepSeekR1ReasoningParser,
    )
    from vllm.renderers.online_renderer import OnlineRenderer  # noqa: PLC0415

    from secondpass.service.engines.vllm.engine import VllmEngine  # noqa: PLC0415

    class UntilComma(DeepSeekR1ReasoningParser):  # type: ignore[misc]
        start_token = "<|im_start|>"
        end_token = ","

    ReasoningParserManager.register_module("until_comma", force=True, module=UntilComma)
    client = client_of(engine)
    online = OnlineRenderer(
        client.model_config,
        client.renderer,
        request_logger=None,
        chat_template=None,
        chat_template_content_format="auto",
        reasoning_parser="until_comma",
    )
    return VllmEngine("thinker", client, engine.model, online=online)


async def test_reasoning_is_split_from_text_by_vllms_own_parser(
    engine: VllmEngine, thinker: VllmEngine
) -> None:
    await thinker.start()
    whole = text(await run(engine, GREEDY))
    thought, _, said = whole.partition(",")
    assert thought
    assert said
    deltas = await run(thinker, GREEDY)
    assert "".join(delta.reasoning for delta in deltas) == thought
    assert text(deltas) == said
    assert sum(delta.tokens for delta in deltas) == 16


async def test_a_continuation_knows_whether_its_prefix_ended_the_reasoning(
    engine: VllmEngine, thinker: VllmEngine
) -> None:
    await thinker.start()
    deltas = await run(engine, GREEDY)
    comma = next(i for i, delta in enumerate(deltas) if delta.text == ",")
    for cut in (comma - 1, comma + 1):
        rest = await run(thinker, replace(GREEDY, prefix=ids(deltas)[:cut]))
        assert bool("".join(delta.reasoning for delta in rest)) == (cut < comma)
        assert text(rest)


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (ask("word " * 3000), r"2049 tokens or more, .* holds 2048 .* shorten .*--max-model-len"),
        (ask("word " * 60_000), r"characters or more, .* holds 2048 .* shorten"),
        (replace(GREEDY, prefix=(28,) * 2020), r"\d{4} tokens, .* holds 2048 .* shorten"),
        (replace(GREEDY, n=2), "n must be 1 when using greedy sampling"),
        (replace(SHORT, schema='{"type": "foo"}'), "foo"),
        (replace(SHORT, schema="{no json"), "Expecting"),
        (replace(SHORT, schema="{}", prefix="So"), "not continuations"),
        (replace(SHORT, logprobs=1000), "max allowed"),
        (replace(SHORT, labels=("1", "10")), "begin with the same token"),
        (replace(SHORT, prefix=(10**7,)), "vocab"),
    ],
    ids=["long", "endless", "prefix", "greedy", "schema", "json", "both", "logprobs", "labels", "token"],
)  # fmt: skip
async def test_what_vllm_refuses_is_a_call_rejected_that_says_why(
    call: Call, said: str, engine: VllmEngine
) -> None:
    with pytest.raises(CallRejected, match=said):
        await run(engine, call)
    assert client_of(engine).get_num_unfinished_requests() == 0


async def test_images_are_for_models_that_see(engine: VllmEngine) -> None:
    image = ImagePart.model_validate(
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    )
    call = replace(SHORT, messages=(Message(role="user", content=(image,)),))
    with pytest.raises(CallRejected, match="not a multimodal model"):
        await run(engine, call)
    with pytest.raises(CallRejected, match="not continued from token ids"):
        await run(engine, replace(call, prefix=(28,)))


# -- plain requests ------------------------------------------------------------------------------------------


async def test_a_plain_stream_that_is_left_early_frees_the_core(engine: VllmEngine) -> None:
    body = chat_body(ENDLESS, engine._renderer.dialect) | {"stream": True}
    request = PlainRequest(
        "chat/completions", json.dumps(body).encode(), (("content-type", "application/json"),)
    )
    async with engine.forward(request) as reply:
        async for chunk in reply.chunks:
            if b"content" in chunk:
                break
    assert client_of(engine).get_num_unfinished_requests() == 0
    await until_core_is_idle()


async def test_a_plain_reply_that_is_not_streamed_is_aborted_too(engine: VllmEngine) -> None:
    body = chat_body(ENDLESS, engine._renderer.dialect)
    request = PlainRequest(
        "chat/completions", json.dumps(body).encode(), (("content-type", "application/json"),)
    )
    with anyio.move_on_after(0.5):
        async with engine.forward(request):
            raise AssertionError("that was quick")
    assert client_of(engine).get_num_unfinished_requests() == 0
    await until_core_is_idle()


async def test_without_vllms_server_there_are_no_plain_replies(engine: VllmEngine) -> None:
    from secondpass.service.engines.vllm.engine import VllmEngine  # noqa: PLC0415

    alone = VllmEngine("alone", client_of(engine), engine.model)
    with pytest.raises(EngineUnavailable, match="no server"):
        alone.forward(PlainRequest("chat/completions", b"{}"))


# -- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
async def test_no_moment_of_cancelling_leaves_a_request_behind(n: int, engine: VllmEngine) -> None:
    client = client_of(engine)
    for pause in (0, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2):
        with anyio.move_on_after(pause):
            await run(engine, replace(ENDLESS, n=n))
        assert client.get_num_unfinished_requests() == 0
        assert not engine._running
    await until_core_is_idle()


async def test_a_closed_engine_ends_what_runs_and_leaves_its_client_alone(
    engine: VllmEngine,
) -> None:
    from secondpass.service.engines.vllm.engine import VllmEngine  # noqa: PLC0415

    other = VllmEngine("other", client_of(engine), engine.model)
    assert (other.ready, other.capabilities, other.context_window) == (False, frozenset(), None)
    with pytest.raises(EngineUnavailable, match="not asked yet"):
        await run(other, SHORT)
    await other.start()
    async with aclosing(other.stream(replace(ENDLESS, n=2))) as stream:
        await anext(stream)
        await other.aclose()
        with pytest.raises(StreamInterrupted, match="abort"):
            async for _ in stream:
                pass
    with pytest.raises(EngineUnavailable, match="closed"):
        await run(other, SHORT)
    await other.start()
    assert other.why_not_ready == "closed"
    assert await run(engine, SHORT)


async def test_seeds_and_prompts_longer_than_a_step_do_not_kill_the_core(
    engine: VllmEngine,
) -> None:
    async with anyio.create_task_group() as tasks:
        for index in range(3):  # the last two wait while the first is read, and meet in one step
            call = ask(f"{index} " + "word " * 1100, seed=index, max_tokens=2)
            tasks.start_soon(run, engine, call)
    assert engine.ready


# -- death: the last test of this file, for nothing comes after it ---------------------------------------------------


async def test_a_core_that_is_killed_fails_its_calls_at_once(engine: VllmEngine) -> None:
    (core,) = client_of(engine).engine_core.resources.engine_manager.processes
    failures: list[BaseException] = []

    async def fail(call: Call) -> None:
        with pytest.raises((EngineUnavailable, StreamInterrupted)) as failure:
            await run(engine, call)
        failures.append(failure.value)

    async with anyio.create_task_group() as tasks:
        for n in (1, 3):
            tasks.start_soon(fail, replace(ENDLESS, n=n))
        with anyio.fail_after(10):
            while requests_in_core() < 4:
                await anyio.sleep(0.01)
        os.kill(core.pid, signal.SIGKILL)
        with anyio.fail_after(2):
            while len(failures) < 2 or engine.ready:
                await anyio.sleep(0.01)
    await engine.start()
    assert not engine.ready
    assert "died" in (engine.why_not_ready or "")
    with pytest.raises(EngineUnavailable, match="died"):
        await run(engine, SHORT)

"""The in-process vLLM engine, beyond the contract of all engines."""

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
from secondpass.strategies.api.control_tokens import tokens_beyond_known
from secondpass.strategies.api.engine import Call, PlainRequest, Routing
from secondpass.strategies.api.errors import CallRejected, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.quoting import disarm
from secondpass.strategies.api.values import ImagePart, Message, Sampling
from tests.engines.contract_support import ENDLESS, finish_reasons
from tests.engines.in_process import in_process_engine, requests_in_core
from tests.engines.support import ids, run, text

if TYPE_CHECKING:
    from secondpass.service.engines.vllm.engine import VllmEngine

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vllm,
    # vLLM itself reads the field that it deprecates.
    pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning"),
]

# Flags that an operator may set: default sampling parameters, and priority scheduling.
OPERATOR_FLAGS = (
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
    async with in_process_engine(*OPERATOR_FLAGS) as engine:
        yield engine


def client_of(engine: VllmEngine) -> Any:
    assert engine._client is not None
    return engine._client


async def until_core_is_idle(seconds: float = 1.0) -> None:
    with anyio.fail_after(seconds):
        while requests_in_core():
            await anyio.sleep(0.005)


# -- equivalence with HTTP ---------------------------------------------------------------------------------


class Recorder:
    """Recorder of the arguments of `generate`: prompt, sampling parameters and options."""

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
def recorder(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(client_of(engine), monkeypatch)


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
async def test_a_call_generates_with_the_same_arguments_as_its_chat_request(
    call: Call, engine: VllmEngine, recorder: Recorder
) -> None:
    await run(engine, call)
    dialect = engine._renderer.dialect
    if call.labels:
        body = label_body(call, dialect, None, list(recorder.calls[0][1].logprob_token_ids))
        body["priority"] = -1  # set only by the in-process engine, not by `label_body`
    else:
        body = chat_body(call, dialect) | {"stream": True, "stream_interval": call.stream_interval}
    await post(engine, "chat/completions", body)
    from_call, from_request = recorder.calls
    assert from_call == from_request


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_continuation_generates_with_the_same_arguments_as_a_request_with_token_ids(
    resumable: bool, engine: VllmEngine, recorder: Recorder
) -> None:
    call = replace(ask(max_tokens=3, seed=1, stop=("tea",)), prefix=(2068, 919), cache_salt="salt")
    call = replace(call, resumable=resumable)
    await run(engine, call)
    prompt = recorder.calls[0][0]["prompt_token_ids"]
    dialect = replace(engine._renderer.dialect, max_tokens="max_tokens")
    body = completion_body(call, dialect, prompt) | {"stream": True, "stream_interval": 1}
    await post(engine, "completions", body)
    from_call, from_request = recorder.calls
    assert from_call == from_request
    assert from_call[1].include_stop_str_in_output is resumable


async def post(engine: VllmEngine, path: str, body: dict[str, Any]) -> bytes:
    headers = (("content-type", "application/json"),)
    request = PlainRequest(path, json.dumps(body).encode(), headers)
    async with engine.forward(request) as reply:
        content = b"".join([chunk async for chunk in reply.chunks])
        assert reply.status == 200, content
    return content


async def test_label_reads_have_the_highest_priority_and_drafts_that_of_their_index(
    engine: VllmEngine, recorder: Recorder
) -> None:
    await run(engine, replace(SHORT, index=5))
    await run(engine, replace(SHORT, index=5, labels=("Yes", "No")))
    assert [options["priority"] for _, _, options in recorder.calls] == [5, -1]


async def test_the_operators_token_limit_applies_when_it_is_below_that_of_the_call(
    engine: VllmEngine,
) -> None:
    deltas = await run(engine, replace(ENDLESS, sampling=Sampling(max_tokens=1900)))
    assert len(ids(deltas)) == 300
    assert finish_reasons(deltas) == {0: "length"}


# -- reasoning --------------------------------------------------------------------------------------------------


@pytest.fixture
def reasoner(engine: VllmEngine) -> VllmEngine:
    """An engine with a vLLM reasoning parser that treats all text before the first comma as reasoning."""
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
    return VllmEngine("reasoner", client, engine.model, online=online)


async def test_reasoning_is_split_from_text_by_vllms_own_parser(
    engine: VllmEngine, reasoner: VllmEngine
) -> None:
    await reasoner.start()
    whole = text(await run(engine, GREEDY))
    reasoning, _, answer = whole.partition(",")
    assert reasoning
    assert answer
    deltas = await run(reasoner, GREEDY)
    assert "".join(delta.reasoning for delta in deltas) == reasoning
    assert text(deltas) == answer
    assert sum(delta.tokens for delta in deltas) == 16


async def test_a_continuation_has_reasoning_only_if_its_prefix_did_not_end_it(
    engine: VllmEngine, reasoner: VllmEngine
) -> None:
    await reasoner.start()
    deltas = await run(engine, GREEDY)
    comma = next(i for i, delta in enumerate(deltas) if delta.text == ",")
    for length in (comma - 1, comma + 1):
        rest = await run(reasoner, replace(GREEDY, prefix=ids(deltas)[:length]))
        assert bool("".join(delta.reasoning for delta in rest)) == (length < comma)
        assert text(rest)


# -- rejected calls ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (ask("word " * 3000), r"2049 tokens or more, .* holds 2048 .* shorten .*--max-model-len"),
        (ask("word " * 60_000), r"characters or more, .* holds 2048 .* shorten"),
        (replace(GREEDY, prefix=(28,) * 2020), r"\d{4} tokens, .* holds 2048 .* shorten"),
        (replace(GREEDY, n=2), "n must be 1 when using greedy sampling"),
        (replace(SHORT, schema='{"type": "foo"}'), "foo"),
        (replace(SHORT, schema="{no json"), "Expecting"),
        (replace(SHORT, schema="{}", prefix="So"), "schema: not supported together with a prefix"),
        (replace(SHORT, logprobs=1000), "max allowed"),
        (replace(SHORT, labels=("1", "10")), "begin with the same token"),
        (replace(SHORT, prefix=(10**7,)), "vocab"),
    ],
    ids=["long", "endless", "prefix", "greedy", "schema", "json", "both", "logprobs", "labels", "token"],
)  # fmt: skip
async def test_a_call_that_vllm_rejects_raises_call_rejected_with_the_reason(
    call: Call, message: str, engine: VllmEngine
) -> None:
    with pytest.raises(CallRejected, match=message):
        await run(engine, call)
    assert client_of(engine).get_num_unfinished_requests() == 0


async def test_images_are_rejected_for_a_text_only_model(engine: VllmEngine) -> None:
    image = ImagePart.model_validate(
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    )
    call = replace(SHORT, messages=(Message(role="user", content=(image,)),))
    with pytest.raises(CallRejected, match="not a multimodal model"):
        await run(engine, call)
    with pytest.raises(CallRejected, match="token ids are not supported"):
        await run(engine, replace(call, prefix=(28,)))


# -- plain requests ------------------------------------------------------------------------------------------


async def test_leaving_a_plain_stream_early_aborts_its_request(engine: VllmEngine) -> None:
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


async def test_cancelling_a_plain_request_that_does_not_stream_aborts_it(
    engine: VllmEngine,
) -> None:
    body = chat_body(ENDLESS, engine._renderer.dialect)
    request = PlainRequest(
        "chat/completions", json.dumps(body).encode(), (("content-type", "application/json"),)
    )
    with anyio.move_on_after(0.5):
        async with engine.forward(request):
            raise AssertionError("the reply arrived before the request was cancelled")
    assert client_of(engine).get_num_unfinished_requests() == 0
    await until_core_is_idle()


async def test_plain_requests_are_unavailable_without_vllms_server(engine: VllmEngine) -> None:
    from secondpass.service.engines.vllm.engine import VllmEngine  # noqa: PLC0415

    alone = VllmEngine("alone", client_of(engine), engine.model)
    with pytest.raises(EngineUnavailable, match="no server"):
        alone.forward(PlainRequest("chat/completions", b"{}"))


# -- cancellation and shutdown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
async def test_cancelling_at_any_time_leaves_no_request_in_the_core(
    n: int, engine: VllmEngine
) -> None:
    client = client_of(engine)
    for pause in (0, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2):
        with anyio.move_on_after(pause):
            await run(engine, replace(ENDLESS, n=n))
        assert client.get_num_unfinished_requests() == 0
        assert not engine._running
    await until_core_is_idle()


async def test_closing_an_engine_aborts_its_calls_but_not_those_of_others_on_the_client(
    engine: VllmEngine,
) -> None:
    from secondpass.service.engines.vllm.engine import VllmEngine  # noqa: PLC0415

    other = VllmEngine("other", client_of(engine), engine.model)
    assert (other.ready, other.capabilities, other.context_window) == (False, frozenset(), None)
    with pytest.raises(EngineUnavailable, match="not probed yet"):
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


async def test_seeds_with_prompts_longer_than_a_step_do_not_crash_the_core(
    engine: VllmEngine,
) -> None:
    async with anyio.create_task_group() as tasks:
        for index in range(3):  # the last two wait for the first prefill, and share a step
            call = ask(f"{index} " + "word " * 1100, seed=index, max_tokens=2)
            tasks.start_soon(run, engine, call)
    assert engine.ready


# -- death of the core: must be the last test, because the engine is unusable afterwards ------------------------------


async def test_calls_fail_at_once_when_the_core_is_killed(engine: VllmEngine) -> None:
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


# -- control tokens ----------------------------------------------------------------------------------------


async def test_control_tokens_are_those_of_the_tokenizer_beyond_the_known_ones(
    engine: VllmEngine,
) -> None:
    tokenizer = client_of(engine).renderer.get_tokenizer()
    special = set(tokenizer.all_special_tokens)
    assert special
    assert engine.control_tokens == tokens_beyond_known(special)
    for token in special:
        assert token not in disarm(f"a{token}b", engine.control_tokens)

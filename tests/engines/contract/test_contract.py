"""Engine contract tests, run on the scripted engine and on vLLM over HTTP and in process."""

import math
import subprocess
import sys
import uuid
from dataclasses import replace

import anyio
import pytest

from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta, Engine, PlainRequest
from secondpass.strategies.api.errors import CallRejected
from secondpass.strategies.api.values import Message

# Imported into this module, so that the in-process engine starts only once.
from tests.engines.contract.accounting import *  # noqa: F403
from tests.engines.contract.stop_strings import *  # noqa: F403
from tests.engines.contract_support import (
    DRAFTS,
    ENDLESS,
    HTTP,
    IN_PROCESS,
    STORY,
    Subject,
    ask,
    becomes,
    finish_reasons,
    text,
    usage,
)
from tests.engines.support import ids, run
from tools.local_vllm import VllmServer

pytestmark = pytest.mark.anyio

EVERYTHING = {"prefix", "labels", "tokenize", "schema", "logprobs", "seed", "token_counts", "n"}

# -- text and tokens ------------------------------------------------------------------------------------


async def test_the_tokens_of_the_deltas_add_up_to_the_usage(engine: Engine) -> None:
    deltas = await run(engine, STORY)
    assert len([delta for delta in deltas if delta.text]) > 1
    assert sum(delta.tokens for delta in deltas) == usage(deltas).completion == len(ids(deltas))
    reported = [usage([delta]).completion for delta in deltas if delta.usage]
    assert reported == sorted(reported)


async def test_several_completions_have_their_own_deltas_and_share_one_prompt(
    engine: Engine,
) -> None:
    call = replace(ask("Tell me a story.", temperature=1.0, seed=7, max_tokens=8), n=3)
    deltas = await run(engine, call)
    assert finish_reasons(deltas).keys() == {0, 1, 2}
    assert all(text(deltas, index) for index in range(3))
    assert sum(delta.tokens for delta in deltas) == usage(deltas).completion
    assert usage(deltas).prompt == await engine.count_prompt(call)
    reported = [usage([delta]).completion for delta in deltas if delta.usage]
    assert reported == sorted(reported)


async def test_a_token_limit_truncates_a_completion_with_finish_reason_length(
    engine: Engine,
) -> None:
    deltas = await run(engine, ask("Count from one to a hundred.", max_tokens=5))
    assert usage(deltas).completion == 5
    assert finish_reasons(deltas) == {0: "length"}


async def test_a_stream_interval_loses_no_tokens(engine: Engine) -> None:
    deltas = await run(engine, replace(STORY, stream_interval=8))
    assert sum(delta.tokens for delta in deltas) == usage(deltas).completion
    assert text(deltas) == text(await run(engine, STORY))


async def test_a_stop_string_ends_a_completion_and_is_removed(engine: Engine) -> None:
    whole = text(await run(engine, STORY))
    stop = whole.split()[4]
    deltas = await run(engine, ask(STORY.messages[0].text, stop=(stop,)))
    assert text(deltas) == whole[: whole.index(stop)]
    assert finish_reasons(deltas) == {0: "stop"}
    assert sum(delta.tokens for delta in deltas) == usage(deltas).completion


async def test_the_same_seed_returns_the_same_text(engine: Engine) -> None:
    call = ask("Tell me a story.", temperature=1.0, seed=42)
    first, second = [text(await run(engine, call)) for _ in range(2)]
    assert first == second


async def test_completions_of_one_call_equal_those_of_single_calls_with_consecutive_seeds(
    engine: Engine,
) -> None:
    call = ask("Tell me a story.", temperature=1.0, seed=5, max_tokens=6)
    together = await run(engine, replace(call, n=2))
    for index in range(2):
        own = call.sampling.model_copy(update={"seed": 5 + index})
        if isinstance(engine, ScriptedEngine):  # its script reads the seed of the whole call
            own = call.sampling
        alone = await run(engine, replace(call, sampling=own, index=index))
        assert text(alone) == text(together, index)


async def test_generated_tokens_have_log_probabilities(engine: Engine) -> None:
    deltas = await run(engine, replace(STORY, logprobs=0))
    logprobs = [logprob for delta in deltas for logprob in delta.logprobs]
    assert len(logprobs) == usage(deltas).completion
    assert all(logprob <= 0 for logprob in logprobs)


async def test_generated_tokens_have_confidences_over_the_most_probable_tokens(
    engine: Engine,
) -> None:
    deltas = await run(engine, replace(STORY, logprobs=20))
    for delta in deltas:
        assert len(delta.confidences) == len(delta.logprobs) == delta.tokens
    confidences = [confidence for delta in deltas for confidence in delta.confidences]
    # Twenty probabilities sum to at most 1, so their mean is at most 1/20.
    assert min(confidences) >= math.log(20) - 1e-6


async def test_confidences_are_empty_without_alternatives(engine: Engine) -> None:
    for logprobs in (None, 0):
        deltas = await run(engine, replace(STORY, logprobs=logprobs))
        assert not any(delta.confidences for delta in deltas)


# -- labels -----------------------------------------------------------------------------------------------


async def test_labels_are_probabilities_and_the_correct_one_has_the_largest(
    engine: Engine,
) -> None:
    labels = ("Paris", "London")
    question = "What is the capital of France? Reply with one word."
    deltas = await run(engine, replace(ask(question), labels=labels))
    read = next(delta.labels for delta in deltas if delta.labels)
    assert read is not None
    assert tuple(read) == labels
    assert all(probability >= 0 for probability in read.values())
    assert sum(read.values()) <= 1
    assert max(labels, key=lambda label: read[label]) == "Paris"
    assert usage(deltas).completion == sum(delta.tokens for delta in deltas) == 1
    assert finish_reasons(deltas) == {0: "stop"}


async def test_label_probabilities_do_not_depend_on_sampling_parameters(engine: Engine) -> None:
    question = "Is water wet? Reply Yes or No."
    reads = []
    for sampling in ({"temperature": 0}, {"temperature": 1.9, "top_k": 1, "stop": ("Yes",)}):
        call = replace(ask(question, **sampling), labels=("Yes", "No"))
        reads.append(next(delta.labels for delta in await run(engine, call) if delta.labels))
    assert reads[0] == pytest.approx(reads[1], rel=0.02)


# -- continuations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", DRAFTS, ids=lambda draft: draft.messages[0].text[:12])
async def test_a_continuation_from_token_ids_equals_the_rest_of_the_completion(
    draft: Call, engine: Engine
) -> None:
    whole = await run(engine, draft)
    tokens = ids(whole)
    for length in (1, 6, 11):
        sampling = draft.sampling.model_copy(update={"max_tokens": len(tokens) - length})
        rest_call = replace(draft, prefix=tokens[:length], sampling=sampling)
        rest = await run(engine, rest_call)
        assert ids(rest) == tokens[length:]
        assert text(whole).endswith(text(rest))
        assert usage(rest).prompt == await engine.count_prompt(draft) + length
        assert usage(rest).prompt == await engine.count_prompt(rest_call)


async def test_a_completion_can_be_continued_from_text(engine: Engine) -> None:
    call = replace(ask("What is the capital of France?", max_tokens=6), prefix="The capital is")
    deltas = await run(engine, call)
    assert text(deltas)
    assert usage(deltas).prompt == await engine.count_prompt(call)


# -- concurrent and aborted calls -------------------------------------------------------------------------


async def test_closing_a_stream_early_aborts_the_request(subject: Subject) -> None:
    stream = subject.engine.stream(ENDLESS)
    await anext(stream)
    assert await becomes(subject, 1)
    await stream.aclose()
    assert await becomes(subject, 0)


async def test_cancelling_calls_aborts_their_requests(subject: Subject) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(run, subject.engine, ENDLESS)
        assert await becomes(subject, 4)
        tasks.cancel_scope.cancel()
    assert await becomes(subject, 0)


async def test_calls_run_concurrently(engine: Engine) -> None:
    replies: dict[int, list[Delta]] = {}

    async def call_once(index: int) -> None:
        replies[index] = await run(engine, replace(DRAFTS[index % 4], index=index))

    async with anyio.create_task_group() as tasks:
        for index in range(8):
            tasks.start_soon(call_once, index)
    for deltas in replies.values():
        assert sum(delta.tokens for delta in deltas) == usage(deltas).completion
        assert finish_reasons(deltas).keys() == {0}
    assert len(replies) == 8


# -- prompt counts, rejected calls and plain requests --------------------------------------------------------


async def test_the_prompt_count_equals_the_prompt_tokens_in_the_usage(engine: Engine) -> None:
    conversation = replace(
        ask("", max_tokens=1),
        messages=(
            Message(role="system", content="You are terse."),
            Message(role="user", content="Hällo 🦊"),
            Message(role="assistant", content="Hello."),
            Message(role="user", content="How are you?"),
        ),
    )
    for call in (conversation, *DRAFTS):
        assert await engine.count_prompt(replace(call, n=2)) == await engine.count_prompt(call)
        assert await engine.count_prompt(call) == usage(await run(engine, call)).prompt


async def test_a_prompt_longer_than_the_context_window_is_rejected(subject: Subject) -> None:
    assert subject.engine.context_window == 2048
    with pytest.raises(CallRejected):
        await run(subject.engine, ask("word " * 3000))
    assert await becomes(subject, 0)


async def test_an_engine_reports_its_capabilities(engine: Engine) -> None:
    assert engine.ready
    is_scripted = isinstance(engine, ScriptedEngine)  # it also scores, as a pooling model does
    assert engine.capabilities == EVERYTHING | ({"reward"} if is_scripted else set())
    await engine.start()
    assert engine.ready


# vLLM itself reads the field that it deprecates.
@pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning")
async def test_a_plain_request_is_forwarded_to_the_engine(engine: Engine) -> None:
    body = f'{{"model": "{engine.model}", "messages": [{{"role": "user", "content": "Hi"}}], "max_tokens": 3}}'
    headers = (("content-type", "application/json"),)
    request = PlainRequest("chat/completions", body.encode(), headers)
    async with engine.forward(request) as reply:
        assert reply.status == 200
        assert b'"chat.completion"' in b"".join([chunk async for chunk in reply.chunks])


@pytest.mark.vllm
@pytest.mark.parametrize(
    "kind_and_backend", [HTTP, IN_PROCESS], indirect=True, ids=["http", "in_process"]
)
class TestVllmOnly:
    """Contract tests that need a real model."""

    async def test_labels_with_the_same_first_token_are_rejected(self, engine: Engine) -> None:
        with pytest.raises(CallRejected, match="'1' and '10'"):
            await run(engine, replace(ask("A number?"), labels=("1", "10")))

    async def test_labels_can_be_read_after_a_prefix(self, engine: Engine) -> None:
        question = ask("What is the capital of France?")
        prefix = ids(await run(engine, question))[:4]
        call = replace(question, prefix=prefix, labels=("Paris", "London"))
        read = next(delta.labels for delta in await run(engine, call) if delta.labels)
        assert read is not None
        assert 0 < sum(read.values()) <= 1

    async def test_a_schema_constrains_the_reply(self, engine: Engine) -> None:
        schema = '{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}'
        call = replace(ask("Is water wet?", max_tokens=40), schema=schema)
        assert text(await run(engine, call)).strip().startswith("{")

    async def test_a_completion_can_be_continued_inside_a_character(self, engine: Engine) -> None:
        call = ask("Repeat: 🦊🎉💡🦊🎉💡", max_tokens=10)
        whole = await run(engine, call)
        parts = [(delta.text, delta.token_ids) for delta in whole if delta.token_ids]
        assert ("", parts[0][1]) == parts[0]  # the first token is a part of a character
        for position in range(1, len(parts)):
            before = "".join(part for part, _ in parts[:position])
            prefix = tuple(token for _, tokens in parts[:position] for token in tokens)
            sampling = call.sampling.model_copy(update={"max_tokens": 10 - len(prefix)})
            rest = await run(engine, replace(call, prefix=prefix, sampling=sampling))
            assert before + text(rest) == text(whole)

    async def test_stop_strings_are_rejected_after_a_prefix_inside_a_character(
        self, engine: Engine
    ) -> None:
        call = ask("Repeat: 🦊🎉💡🦊🎉💡", max_tokens=10)
        first = ids(await run(engine, call))[:1]
        stopped = call.sampling.model_copy(update={"stop": ("x",)})
        with pytest.raises(CallRejected, match="inside a character"):
            await run(engine, replace(call, prefix=first, sampling=stopped))

    async def test_a_second_draft_of_a_prompt_hits_the_prefix_cache(self, engine: Engine) -> None:
        call = ask("Once upon a time there was a fox. " * 20, max_tokens=2)
        await run(engine, call)
        again = usage(await run(engine, call))
        assert again.cached > again.prompt / 2
        salted = usage(await run(engine, replace(call, cache_salt=str(uuid.uuid4()))))
        assert salted.cached == 0


@pytest.mark.vllm
@pytest.mark.parametrize("kind_and_backend", [HTTP], indirect=True, ids=["http"])
async def test_an_engine_for_a_model_that_is_not_served_is_not_ready(
    engine: Engine, vllm_server: VllmServer
) -> None:
    other = HttpEngine("other", vllm_server.base_url, "no-such-model")
    await other.start()
    assert not other.ready
    assert engine.model in (other.why_not_ready or "")
    await other.aclose()


def test_the_service_does_not_import_vllm_for_other_engines() -> None:
    code = "import sys, secondpass.service.__main__; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

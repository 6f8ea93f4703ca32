"""The contract of engines: one suite over the fake, and a real vLLM over HTTP and in process."""

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
from tests.engines.asking import ids, run

# One module, so that the engine in this process is launched once.
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
from tools.local_vllm import VllmServer

pytestmark = pytest.mark.anyio

EVERYTHING = {"prefix", "labels", "tokenize", "schema", "logprobs", "seed", "token_counts"}

# -- text and tokens ------------------------------------------------------------------------------------


async def test_the_tokens_of_the_deltas_add_up_to_the_usage(engine: Engine) -> None:
    deltas = await run(engine, STORY)
    assert len([delta for delta in deltas if delta.text]) > 1
    assert sum(delta.tokens for delta in deltas) == usage(deltas).completion == len(ids(deltas))
    stated = [delta.usage.completion for delta in deltas if delta.usage]
    assert stated == sorted(stated)


async def test_several_completions_are_told_apart_and_billed_as_one_prompt(engine: Engine) -> None:
    call = replace(ask("Tell me a story.", temperature=1.0, seed=7, max_tokens=8), n=3)
    deltas = await run(engine, call)
    assert finish_reasons(deltas).keys() == {0, 1, 2}
    assert all(text(deltas, index) for index in range(3))
    assert sum(delta.tokens for delta in deltas) == usage(deltas).completion
    assert usage(deltas).prompt == await engine.count_prompt(call)
    stated = [delta.usage.completion for delta in deltas if delta.usage]
    assert stated == sorted(stated)


async def test_a_token_limit_is_kept_and_told(engine: Engine) -> None:
    deltas = await run(engine, ask("Count from one to a hundred.", max_tokens=5))
    assert usage(deltas).completion == 5
    assert finish_reasons(deltas) == {0: "length"}


async def test_tokens_may_be_gathered_without_losing_any(engine: Engine) -> None:
    deltas = await run(engine, replace(STORY, stream_interval=8))
    assert sum(delta.tokens for delta in deltas) == usage(deltas).completion
    assert text(deltas) == text(await run(engine, STORY))


async def test_a_stop_string_ends_a_completion_and_is_left_out(engine: Engine) -> None:
    whole = text(await run(engine, STORY))
    stop = whole.split()[4]
    deltas = await run(engine, ask(STORY.messages[0].text, stop=(stop,)))
    assert text(deltas) == whole[: whole.index(stop)]
    assert finish_reasons(deltas) == {0: "stop"}
    assert sum(delta.tokens for delta in deltas) == usage(deltas).completion


async def test_a_seed_gives_the_same_text_again(engine: Engine) -> None:
    call = ask("Tell me a story.", temperature=1.0, seed=42)
    first, second = [text(await run(engine, call)) for _ in range(2)]
    assert first == second


async def test_several_completions_equal_single_ones_with_their_own_seeds(engine: Engine) -> None:
    call = ask("Tell me a story.", temperature=1.0, seed=5, max_tokens=6)
    together = await run(engine, replace(call, n=2))
    for index in range(2):
        own = call.sampling.model_copy(update={"seed": 5 + index})
        if isinstance(engine, ScriptedEngine):  # its seed is a part of the script, not of a draw
            own = call.sampling
        alone = await run(engine, replace(call, sampling=own, index=index))
        assert text(alone) == text(together, index)


async def test_written_tokens_have_log_probabilities(engine: Engine) -> None:
    deltas = await run(engine, replace(STORY, logprobs=0))
    logprobs = [logprob for delta in deltas for logprob in delta.logprobs]
    assert len(logprobs) == usage(deltas).completion
    assert all(logprob <= 0 for logprob in logprobs)


async def test_written_tokens_have_confidences_over_the_most_probable_ones(engine: Engine) -> None:
    deltas = await run(engine, replace(STORY, logprobs=20))
    for delta in deltas:
        assert len(delta.confidences) == len(delta.logprobs) == delta.tokens
    confidences = [confidence for delta in deltas for confidence in delta.confidences]
    # Twenty probabilities sum to at most 1, so none of their means is above a twentieth.
    assert min(confidences) >= math.log(20) - 1e-6


async def test_no_confidences_where_no_alternatives_are_asked_for(engine: Engine) -> None:
    for logprobs in (None, 0):
        deltas = await run(engine, replace(STORY, logprobs=logprobs))
        assert not any(delta.confidences for delta in deltas)


# -- labels -----------------------------------------------------------------------------------------------


async def test_labels_are_probabilities_and_the_obvious_one_wins(engine: Engine) -> None:
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


async def test_labels_do_not_depend_on_how_a_call_would_be_sampled(engine: Engine) -> None:
    question = "Is water wet? Reply Yes or No."
    reads = []
    for sampling in ({"temperature": 0}, {"temperature": 1.9, "top_k": 1, "stop": ("Yes",)}):
        call = replace(ask(question, **sampling), labels=("Yes", "No"))
        reads.append(next(delta.labels for delta in await run(engine, call) if delta.labels))
    assert reads[0] == pytest.approx(reads[1], rel=0.02)


# -- continuing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", DRAFTS, ids=lambda draft: draft.messages[0].text[:12])
async def test_a_completion_continued_from_its_own_tokens_goes_on_as_it_was(
    draft: Call, engine: Engine
) -> None:
    whole = await run(engine, draft)
    written = ids(whole)
    for cut in (1, 6, 11):
        sampling = draft.sampling.model_copy(update={"max_tokens": len(written) - cut})
        rest_call = replace(draft, prefix=written[:cut], sampling=sampling)
        rest = await run(engine, rest_call)
        assert ids(rest) == written[cut:]
        assert text(whole).endswith(text(rest))
        assert usage(rest).prompt == await engine.count_prompt(draft) + cut
        assert usage(rest).prompt == await engine.count_prompt(rest_call)


async def test_a_completion_is_continued_from_text_too(engine: Engine) -> None:
    call = replace(ask("What is the capital of France?", max_tokens=6), prefix="The capital is")
    deltas = await run(engine, call)
    assert text(deltas)
    assert usage(deltas).prompt == await engine.count_prompt(call)


# -- many calls, and calls that end early -----------------------------------------------------------------


async def test_a_stream_that_is_closed_early_frees_the_engine(subject: Subject) -> None:
    stream = subject.engine.stream(ENDLESS)
    await anext(stream)
    assert await becomes(subject, 1)
    await stream.aclose()
    assert await becomes(subject, 0)


async def test_cancelled_calls_free_the_engine(subject: Subject) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(run, subject.engine, ENDLESS)
        assert await becomes(subject, 4)
        tasks.cancel_scope.cancel()
    assert await becomes(subject, 0)


async def test_calls_run_side_by_side(engine: Engine) -> None:
    replies: dict[int, list[Delta]] = {}

    async def write(index: int) -> None:
        replies[index] = await run(engine, replace(DRAFTS[index % 4], index=index))

    async with anyio.create_task_group() as tasks:
        for index in range(8):
            tasks.start_soon(write, index)
    for deltas in replies.values():
        assert sum(delta.tokens for delta in deltas) == usage(deltas).completion
        assert finish_reasons(deltas).keys() == {0}
    assert len(replies) == 8


# -- what is counted, refused and handed on -----------------------------------------------------------------


async def test_a_counted_prompt_is_what_is_billed(engine: Engine) -> None:
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


async def test_a_prompt_beyond_the_window_is_refused(subject: Subject) -> None:
    assert subject.engine.context_window == 2048
    with pytest.raises(CallRejected):
        await run(subject.engine, ask("word " * 3000))
    assert await becomes(subject, 0)


async def test_an_engine_says_what_it_can(engine: Engine) -> None:
    assert engine.ready
    is_fake = isinstance(engine, ScriptedEngine)  # which rewards too, as only pooling models do
    assert engine.capabilities == EVERYTHING | ({"reward"} if is_fake else set())
    await engine.start()
    assert engine.ready


# vLLM reads the field itself, and deprecates it for its clients.
@pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning")
async def test_a_plain_request_is_answered_by_the_engine_itself(engine: Engine) -> None:
    body = f'{{"model": "{engine.model}", "messages": [{{"role": "user", "content": "Hi"}}], "max_tokens": 3}}'
    headers = (("content-type", "application/json"),)
    request = PlainRequest("chat/completions", body.encode(), headers)
    async with engine.forward(request) as reply:
        assert reply.status == 200
        assert b'"chat.completion"' in b"".join([piece async for piece in reply.chunks])


@pytest.mark.vllm
@pytest.mark.parametrize(
    "kind_and_backend", [HTTP, IN_PROCESS], indirect=True, ids=["http", "in_process"]
)
class TestVllmAlone:
    """What only a real model can show."""

    async def test_labels_that_begin_alike_are_refused_by_name(self, engine: Engine) -> None:
        with pytest.raises(CallRejected, match="'1' and '10'"):
            await run(engine, replace(ask("A number?"), labels=("1", "10")))

    async def test_labels_are_read_after_a_prefix_too(self, engine: Engine) -> None:
        question = ask("What is the capital of France?")
        prefix = ids(await run(engine, question))[:4]
        call = replace(question, prefix=prefix, labels=("Paris", "London"))
        read = next(delta.labels for delta in await run(engine, call) if delta.labels)
        assert read is not None
        assert 0 < sum(read.values()) <= 1

    async def test_a_schema_shapes_the_reply(self, engine: Engine) -> None:
        schema = '{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}'
        call = replace(ask("Is water wet?", max_tokens=40), schema=schema)
        assert text(await run(engine, call)).strip().startswith("{")

    async def test_a_completion_may_be_continued_inside_a_character(self, engine: Engine) -> None:
        call = ask("Repeat: 🦊🎉💡🦊🎉💡", max_tokens=10)
        whole = await run(engine, call)
        pieces = [(delta.text, delta.token_ids) for delta in whole if delta.token_ids]
        assert ("", pieces[0][1]) == pieces[0]  # the first token is a part of a character
        for place in range(1, len(pieces)):
            before = "".join(piece for piece, _ in pieces[:place])
            prefix = tuple(token for _, tokens in pieces[:place] for token in tokens)
            sampling = call.sampling.model_copy(update={"max_tokens": 10 - len(prefix)})
            rest = await run(engine, replace(call, prefix=prefix, sampling=sampling))
            assert before + text(rest) == text(whole)

    async def test_no_stop_strings_inside_a_character(self, engine: Engine) -> None:
        call = ask("Repeat: 🦊🎉💡🦊🎉💡", max_tokens=10)
        first = ids(await run(engine, call))[:1]
        stopped = call.sampling.model_copy(update={"stop": ("x",)})
        with pytest.raises(CallRejected, match="inside a character"):
            await run(engine, replace(call, prefix=first, sampling=stopped))

    async def test_a_second_draft_of_one_prompt_finds_it_in_the_cache(self, engine: Engine) -> None:
        call = ask("Once upon a time there was a fox. " * 20, max_tokens=2)
        await run(engine, call)
        again = usage(await run(engine, call))
        assert again.cached > again.prompt / 2
        salted = usage(await run(engine, replace(call, cache_salt=str(uuid.uuid4()))))
        assert salted.cached == 0


@pytest.mark.vllm
@pytest.mark.parametrize("kind_and_backend", [HTTP], indirect=True, ids=["http"])
async def test_a_model_that_is_not_there_is_not_ready(
    engine: Engine, vllm_server: VllmServer
) -> None:
    other = HttpEngine("other", vllm_server.base_url, "no-such-model")
    await other.start()
    assert not other.ready
    assert engine.model in (other.why_not_ready or "")
    await other.aclose()


def test_who_serves_another_engine_never_imports_vllm() -> None:
    code = "import sys, secondpass.service.__main__; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

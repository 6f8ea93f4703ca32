"""Fallback answers: completions that a budget, a deadline or an error ended after their answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import anyio
import pytest

from secondpass.service.common.errors import DeadlineExceeded, Drained, NoAnswerWithinBudget
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.registry import Params
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import (
    SOLVE,
    Candidate,
    Completion,
    Draw,
    FunctionCall,
    Sampling,
    ToolCall,
)
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    constant_reply,
    make_run,
)
from tests.runs.run_variants import with_body

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]

TEXT = "First.\n\nIt is \\boxed{42}. Let me check." + " word" * 500
BEGIN_TOKENS = 3
"""Tokens of the beginning, which contains no answer."""


async def begin(run: Run) -> Completion:
    return await run.ask(SOLVE, resumable=True, draw=Draw(max_tokens=BEGIN_TOKENS))


async def extend(run: Run, _: Params) -> Candidate:
    return run.candidate(await run.extend(await begin(run)))


async def extend_steps(run: Run, _: Params) -> Candidate:
    async with run.extend_steps(await begin(run)) as stream:
        async for _step in stream:
            pass
    return run.candidate(stream)


async def sample_prefix(run: Run, _: Params) -> Candidate:
    async with run.sample(SOLVE, 1, prefix=await begin(run)) as longer:
        [candidate] = [run.candidate(each) async for each in longer]
        return candidate


async def steps(run: Run, _: Params) -> Candidate:
    async with run.steps(SOLVE) as stream:
        async for _step in stream:
            pass
    return run.candidate(stream)


Body = Callable[[Run, Params], Awaitable[Candidate]]
BODIES: list[Body] = [steps, extend, extend_steps, sample_prefix]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@ON_BOTH_BACKENDS
async def test_text_truncated_by_the_budget_is_the_answer_if_it_contains_one(
    body: Body,
) -> None:
    engine = ScriptedEngine(constant_reply(TEXT))
    run = with_body(make_run(engine, max_tokens=10), body, typical_tokens=5)
    outcome = await execute(run)
    assert outcome.candidate.text == "First.\n\nIt is \\boxed{42}. Let me check. word word word"
    assert (outcome.candidate.answer, outcome.stop_reason) == ("42", "budget_tokens")
    assert outcome.candidate.finish_reason == "length"
    assert outcome.usage["actor"].wasted == 0
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@ON_BOTH_BACKENDS
async def test_text_truncated_by_the_deadline_is_the_answer_if_it_contains_one(
    body: Body,
) -> None:
    engine = ScriptedEngine(constant_reply(TEXT), per_token=0.004)
    run = with_body(make_run(engine, deadline_ms=150), body)
    outcome = await execute(run)
    assert outcome.candidate.text.startswith("First.\n\nIt is \\boxed{42}.")
    assert (outcome.candidate.answer, outcome.stop_reason) == ("42", "deadline")
    assert outcome.usage["actor"].wasted == 0
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
async def test_text_truncated_before_its_answer_is_not_an_answer(
    body: Body,
) -> None:
    engine = ScriptedEngine(constant_reply("word " * 500))
    run = with_body(make_run(engine, max_tokens=10), body, typical_tokens=5)
    with pytest.raises(NoAnswerWithinBudget):
        await execute(run)
    assert run.wasted == {"actor": 10 if body is steps else 10 - BEGIN_TOKENS}
    slow = ScriptedEngine(constant_reply("word " * 500), per_token=0.01)
    with pytest.raises(DeadlineExceeded):
        await execute(with_body(make_run(slow, deadline_ms=60), body))


@ON_BOTH_BACKENDS
async def test_finished_stream_is_the_answer_if_the_budget_ends_its_judge() -> None:
    text = "First.\n\nSecond.\n\nIt is \\boxed{42}."

    async def body(run: Run, _: Params) -> Candidate:
        async with run.steps(SOLVE) as stream:
            async for _step in stream:
                await run.ask("is_right", role="critic")
        raise AssertionError

    def script(call: Call, _: int) -> Reply:
        return Reply(text if call.role == "actor" else "Yes. " * 3)

    engine = ScriptedEngine(script)
    run = with_body(make_run(engine, max_calls=2), body)
    outcome = await execute(run)
    assert (outcome.candidate.text, outcome.candidate.answer) == (text, "42")
    assert (outcome.stop_reason, outcome.candidate.finish_reason) == ("budget_calls", "stop")
    assert outcome.usage["actor"].wasted == 0
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
async def test_finished_continuation_is_the_answer_with_its_prefix() -> None:
    async def body(run: Run, _: Params) -> Candidate:
        async with run.extend_steps(await begin(run)) as stream:
            async for _step in stream:
                while not stream.is_finished:
                    await anyio.sleep(0.001)
                await run.ask("is_right", role="critic")
        raise AssertionError

    engine = ScriptedEngine(constant_reply("First.\n\nIt is \\boxed{42}.\n\nThat is all."))
    run = with_body(make_run(engine, max_calls=2), body)
    outcome = await execute(run)
    assert outcome.candidate.text == "First.\n\nIt is \\boxed{42}.\n\nThat is all."
    assert outcome.stop_reason == "budget_calls"


@pytest.mark.parametrize("stop", ["none", "esc"])
@ON_BOTH_BACKENDS
async def test_finished_sample_queued_behind_an_earlier_one_is_the_answer_at_the_deadline(
    stop: str,
) -> None:
    engine = ScriptedEngine(
        lambda _call, index: Reply("word " * 400 if index == 0 else "It is \\boxed{42}."),
        per_token=0.003,
    )
    run = make_run(
        engine,
        "self_consistency",
        {"n": 5, "stop": stop},
        sampling=Sampling(seed=7),
        deadline_ms=300,
    )
    outcome = await execute(run)
    candidate = outcome.candidate
    assert (candidate.answer, candidate.index, outcome.stop_reason) == ("42", 1, "deadline")
    assert (candidate.finish_reason, candidate.why) == (
        "stop",
        "finished, but not yet compared with other candidates",
    )
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
async def test_fallback_does_not_replace_an_elected_candidate() -> None:
    elected = Candidate(text="It is 41.", answer="41")

    async def body(run: Run, params: Params) -> Candidate:
        run.elect(elected)
        return await steps(run, params)

    run = with_body(
        make_run(ScriptedEngine(constant_reply(TEXT), per_token=0.002), deadline_ms=30), body
    )
    assert (await execute(run)).candidate == elected


async def test_critic_text_is_never_the_answer() -> None:
    async def body(run: Run, _: Params) -> Candidate:
        await run.ask(SOLVE, role="critic")
        raise AssertionError

    run = with_body(make_run(ScriptedEngine(constant_reply(TEXT)), max_tokens=10), body)
    with pytest.raises(NoAnswerWithinBudget):
        await execute(run)


async def test_critic_text_is_never_the_answer_after_a_streamed_draft() -> None:
    async def body(run: Run, _: Params) -> Candidate:
        draft = await run.ask(SOLVE, visible=True, draw=Draw(max_tokens=5))
        await run.ask("is_right", role="critic", after=draft)
        raise AssertionError

    engine = ScriptedEngine(constant_reply(TEXT), per_token=0.002)
    run = with_body(make_run(engine, is_streamed=True, deadline_ms=60), body)
    with pytest.raises(DeadlineExceeded):
        await execute(run)


# -- truncated drafts ---------------------------------------------------------------------------------------


def counted(words: int) -> str:
    """Return a text without an answer, of `words` different tokens."""
    return " ".join(f"n{i}" for i in range(words))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@ON_BOTH_BACKENDS
async def test_a_truncated_draft_is_the_answer_if_the_request_accepts_it(body: Body) -> None:
    engine = ScriptedEngine(constant_reply(counted(500)))
    run = with_body(make_run(engine, max_tokens=10, returns_partial=True), body, typical_tokens=5)
    outcome = await execute(run)
    assert outcome.candidate.text == counted(10)
    assert (outcome.candidate.answer, outcome.candidate.score) == (None, None)
    assert (outcome.finish_reason, outcome.stop_reason) == ("length", "budget_tokens")
    assert outcome.usage["actor"].wasted == 0
    assert_accounting_is_complete(run, engine)
    slow = ScriptedEngine(constant_reply(counted(500)), per_token=0.01)
    run = with_body(make_run(slow, deadline_ms=100, returns_partial=True), body)
    outcome = await execute(run)
    assert counted(500).startswith(outcome.candidate.text)
    assert (outcome.finish_reason, outcome.stop_reason) == ("length", "deadline")
    assert_accounting_is_complete(run, slow)


@ON_BOTH_BACKENDS
async def test_the_longest_truncated_draft_without_repetition_is_the_answer() -> None:
    texts = ["repeated " * 900, counted(900), counted(900).replace("n", "number"), counted(900)]
    engine = ScriptedEngine(lambda _, index: Reply(texts[index]), per_token=0.001)

    async def body(run: Run, _: Params) -> Candidate:
        async with run.sample(SOLVE, 4) as drafts:
            async for _draft in drafts:
                await anyio.sleep(10)
        raise AssertionError

    run = with_body(make_run(engine, deadline_ms=250, returns_partial=True), body)
    outcome = await execute(run)
    assert outcome.candidate.text.startswith("number0 number1")
    assert outcome.candidate.index == 2


@pytest.mark.parametrize("text", ["<think>" + counted(500), ""])
async def test_a_draft_that_consists_of_reasoning_is_not_an_answer(text: str) -> None:
    engine = ScriptedEngine(constant_reply(text), first_token=0.0 if text else 5, per_token=0.01)
    with pytest.raises(DeadlineExceeded):
        await execute(make_run(engine, deadline_ms=60, returns_partial=True))


async def test_a_critique_is_not_a_truncated_draft() -> None:
    async def body(run: Run, _: Params) -> Candidate:
        await run.ask("is_right", role="critic")
        await run.ask("is_right")
        raise AssertionError

    engine = ScriptedEngine(constant_reply(counted(20)), per_token=0.002)
    run = with_body(make_run(engine, deadline_ms=60, returns_partial=True), body)
    with pytest.raises(DeadlineExceeded):
        await execute(run)


async def test_an_interrupted_run_does_not_return_a_truncated_draft() -> None:
    run = make_run(
        ScriptedEngine(constant_reply(counted(500)), per_token=0.01), returns_partial=True
    )
    async with anyio.create_task_group() as group:

        async def interrupt() -> None:
            await anyio.sleep(0.1)
            run.interrupt()

        group.start_soon(interrupt)
        with pytest.raises(Drained):
            await execute(run)


# -- continuation of finished completions --------------------------------------------------------------------


async def test_stream_over_a_finished_completion_has_no_steps() -> None:
    engine = ScriptedEngine(constant_reply("First.\n\nSecond."))
    run = make_run(engine)
    whole = await run.ask(SOLVE, resumable=True)
    async with run.extend_steps(whole) as stream:
        assert [step async for step in stream] == []
        assert stream.is_finished
    assert stream.completion.text == whole.text
    assert not stream.completion.is_truncated
    assert not run.degraded
    assert sum(run.wasted.values()) == 0


# -- tool calls ---------------------------------------------------------------------------------------------

TOOL = ToolCall(id="call-1", function=FunctionCall(name="add", arguments='{"a": 1}'))


class ToolCallingEngine(ScriptedEngine):
    """An engine that ends every completion with a tool call."""

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        async with aclosing(super().stream(call)) as deltas:
            async for delta in deltas:
                if delta.finish_reason is None:
                    yield delta
                else:
                    yield Delta(
                        index=delta.index,
                        text=delta.text,
                        tokens=delta.tokens,
                        finish_reason="tool_calls",
                        tool_calls=(TOOL,),
                    )


@pytest.mark.parametrize("text", ["Let me add.", ""])
async def test_tool_calls_reach_the_completion_and_the_candidate(text: str) -> None:
    run: LiveRun = make_run(ToolCallingEngine(constant_reply(text)))
    completion = await run.ask(SOLVE)
    assert completion.tool_calls == (TOOL,)
    assert (completion.text, completion.finish_reason) == (text, "tool_calls")
    candidate = run.candidate(completion)
    assert (candidate.tool_calls, candidate.finish_reason) == ((TOOL,), "tool_calls")
    async with run.sample(SOLVE, 2, batch=2) as drafts:
        assert [draft.tool_calls async for draft in drafts] == [(TOOL,)] * 2
    async with run.steps(SOLVE) as stream:
        assert [step async for step in stream] == ([text] if text else [])
    assert stream.completion.tool_calls == (TOOL,)

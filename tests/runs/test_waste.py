"""Exact counts of wasted completion tokens, for text that is read, kept, continued or abandoned."""

from __future__ import annotations

import anyio
import pytest

from secondpass.service.common.errors import EngineFailed
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.registry import Params
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw
from secondpass.strategies.continuation.segments import truncated
from secondpass.testing.contract import faulty
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    call_records,
    constant_reply,
    make_run,
    upstream,
)
from tests.runs.run_variants import with_body

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]

STEPS = "One.\n\nTwo.\n\nThree.\n\nFour."
"""Four steps of one token each."""

LONG = STEPS + "\n\n" + "word " * 500


def spent(run: LiveRun) -> int:
    return int(run.budget.spent["tokens"])


async def read(run: LiveRun, steps: int) -> Completion:
    """Read and return the first `steps` steps of a stream, then abandon it."""
    async with run.steps(SOLVE) as stream:
        async for _ in stream:
            if stream.steps >= steps:
                break
        return stream.truncated(steps)


# -- step streams -------------------------------------------------------------------------------------------


@ON_BOTH_BACKENDS
async def test_abandoned_stream_is_waste() -> None:
    engine = ScriptedEngine(constant_reply(LONG), per_token=0.001)
    run = make_run(engine)
    await read(run, 2)
    assert run.wasted == {"actor": spent(run)}
    assert spent(run) == engine.delivered < 500
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
async def test_only_the_discarded_rest_of_a_continued_stream_is_waste() -> None:
    engine = ScriptedEngine(constant_reply(LONG), per_token=0.001)
    run = make_run(engine)
    kept = await read(run, 2)
    first = spent(run)
    assert len(kept.token_ids) == 2
    longer = await run.extend(kept)
    assert run.wasted == {"actor": first - 2}
    assert spent(run) == first + longer.usage.completion - 2
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
async def test_chain_of_streams_wastes_only_the_text_after_each_kept_step() -> None:
    engine = ScriptedEngine(constant_reply(LONG), per_token=0.001)
    run = make_run(engine)
    kept = await read(run, 1)
    for steps in (1, 2):
        async with run.extend_steps(kept) as stream:
            async for _ in stream:
                if stream.steps >= steps:
                    break
            kept = stream.truncated(steps)
    assert kept.text == STEPS
    assert run.wasted == {"actor": spent(run) - 2}  # the last stream is not continued yet
    run.candidate(kept)
    assert run.wasted == {"actor": spent(run) - 4}
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("kept_steps", [1, 2, 3, 4])
@ON_BOTH_BACKENDS
async def test_unread_finished_stream_is_used_as_far_as_it_is_continued(
    kept_steps: int,
) -> None:
    run = make_run(ScriptedEngine(constant_reply(STEPS)))
    async with run.steps(SOLVE) as stream:
        async for _ in stream:
            while not stream.is_finished:
                await anyio.sleep(0.001)
            break
        kept = stream.truncated(kept_steps)
    assert run.wasted == {"actor": 4}
    await run.extend(kept)
    assert run.wasted == {"actor": 4 - kept_steps}


async def test_unread_finished_stream_is_waste_if_not_continued() -> None:
    run = make_run(ScriptedEngine(constant_reply(STEPS)))
    async with run.steps(SOLVE) as stream:
        async for _ in stream:
            while not stream.is_finished:
                await anyio.sleep(0.001)
            break
    assert run.wasted == {"actor": 4}


async def test_stream_read_to_its_end_is_used() -> None:
    run = make_run(ScriptedEngine(constant_reply(STEPS)))
    async with run.steps(SOLVE) as stream:
        assert len([step async for step in stream]) == 4
    assert run.wasted == {"actor": 0}


@ON_BOTH_BACKENDS
async def test_candidate_of_a_partial_stream_counts_its_tokens_as_used() -> None:
    engine = ScriptedEngine(constant_reply(LONG), per_token=0.001)
    run = make_run(engine)
    async with run.steps(SOLVE) as stream:
        async for _ in stream:
            if stream.steps == 3:
                break
        candidate = run.candidate(stream.truncated(3))
    assert candidate.text == "One.\n\nTwo.\n\nThree."
    assert run.wasted == {"actor": spent(run) - 3}


@ON_BOTH_BACKENDS
async def test_abandoned_continuation_does_not_waste_its_prefix() -> None:
    engine = ScriptedEngine(constant_reply(LONG), per_token=0.0005)
    run = make_run(engine)
    whole = await run.ask(SOLVE, resumable=True, draw=Draw(max_tokens=4))
    prefix = truncated(whole, len("One."))
    assert prefix is not None
    async with run.extend_steps(prefix) as stream:
        async for _ in stream:
            break
    assert run.wasted == {"actor": spent(run) - 4}
    before = spent(run)
    async with run.sample(SOLVE, 2, prefix=prefix, draw=Draw(max_tokens=3)) as longer:
        async for _ in longer:
            while engine.running:
                await anyio.sleep(0.001)
            break
    assert spent(run) == before + 6
    assert run.wasted == {"actor": before - 4 + 3}


# -- samples ------------------------------------------------------------------------------------------------


@ON_BOTH_BACKENDS
async def test_finished_but_unread_samples_are_waste() -> None:
    engine = ScriptedEngine(lambda _, i: Reply("word " * (i + 1)))
    run = make_run(engine)
    async with run.sample(SOLVE, 4) as drafts:
        async for draft in drafts:
            while len(call_records(run)) < 4:
                await anyio.sleep(0.001)
            read = draft.usage.completion
            break
    assert [record.end for record in call_records(run)] == ["finished"] * 4
    assert run.wasted == {"actor": spent(run) - read}


@ON_BOTH_BACKENDS
async def test_prefix_counts_once_for_any_number_of_continuations() -> None:
    engine = ScriptedEngine(constant_reply(STEPS))
    run = make_run(engine)
    prefix = await read(run, 1)
    first = spent(run)
    async with run.sample(SOLVE, 3, prefix=prefix) as longer:
        assert len([each async for each in longer]) == 3
    assert spent(run) == first + 3 * 3
    assert run.wasted == {"actor": first - 1}


@ON_BOTH_BACKENDS
async def test_truncated_continuations_are_used_as_far_as_they_are_continued() -> None:
    engine = ScriptedEngine(constant_reply(LONG), per_token=0.0005)
    run = make_run(engine)
    prefix = await run.ask(SOLVE, resumable=True, draw=Draw(max_tokens=1))
    async with run.sample(SOLVE, 3, prefix=prefix, draw=Draw(max_tokens=3)) as longer:
        async for each in longer:
            while engine.running:
                await anyio.sleep(0.001)
            kept = truncated(each, len("One.\n\nTwo."))
            break
    assert kept is not None
    assert spent(run) == 1 + 9
    assert run.wasted == {"actor": 6}  # the two unread ones
    await run.extend(kept, draw=Draw(max_tokens=2))
    assert run.wasted == {"actor": 6}


# -- the outcome --------------------------------------------------------------------------------------------


def by_role(call: Call, _: int) -> Reply:
    return Reply("It is 42." if call.role == "actor" else "Yes, it is right.")


@ON_BOTH_BACKENDS
async def test_outcome_reports_waste_by_role() -> None:
    engine = ScriptedEngine(by_role, per_token=0.001)

    async def body(run: Run, _: Params) -> Candidate:
        draft = await run.ask(SOLVE)
        await run.ask("is_right", role="critic", after=draft)
        with anyio.move_on_after(0.003):
            await run.ask("is_right", role="critic", after=draft)
        return run.candidate(draft)

    run = with_body(make_run(engine), body)
    outcome = await execute(run)
    assert outcome.usage["actor"].wasted == 0
    cancelled = call_records(run)[-1]
    assert cancelled.end == "cancelled"
    assert outcome.usage["critic"].wasted == cancelled.usage.completion == cancelled.wasted
    assert outcome.usage["critic"].completion == 4 + cancelled.usage.completion


async def test_labels_and_scores_cause_no_waste() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    draft = await run.ask(SOLVE)
    await run.classify("is_right", ("yes", "no"), after=draft)
    await run.score(draft)
    assert sum(run.wasted.values()) == 0
    assert spent(run) == engine.delivered


async def test_unreadable_reply_is_not_waste() -> None:
    engine = ScriptedEngine(constant_reply("who knows"), lacking=frozenset({"labels", "schema"}))
    run = make_run(engine)
    results = await run.map(
        lambda _: run.classify("is_right", ("yes", "no")), range(1), min_results=0
    )
    assert results == [None]
    assert run.wasted == {"judge": 0}


async def test_without_running_token_counts_waste_is_estimated_from_characters() -> None:
    """The engine reports tokens only at the end; half of the characters counts as half of the tokens."""
    lacking = frozenset({"token_counts", "prefix", "tokenize"})
    engine = ScriptedEngine(constant_reply("aaaa bbbb cccc dddd"), lacking=lacking)  # type: ignore[arg-type]
    run = make_run(engine)
    async with run.sample(SOLVE, 2, batch=2) as drafts:
        async for _ in drafts:
            while not call_records(run):
                await anyio.sleep(0.001)
            break
    assert spent(run) == 8
    assert run.wasted == {"actor": 4}


@ON_BOTH_BACKENDS
async def test_samples_left_unread_by_an_error_are_waste() -> None:
    engine = ScriptedEngine(constant_reply("one two three"))
    run = make_run(engine)

    async def abandon() -> None:
        async with run.sample(SOLVE, 4, batch=4) as drafts:
            async for _ in drafts:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await abandon()
    assert run.wasted == {"actor": 9}
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
async def test_step_stream_with_only_interrupted_attempts_is_all_waste() -> None:
    engine = ScriptedEngine(faulty(1, "interrupt"))
    run = make_run(upstream(engine, attempts=2), "self_consistency", {"abort": True, "n": 6})
    with pytest.raises(EngineFailed):
        await execute(run)
    assert [record.attempt for record in call_records(run)].count(2) == 6
    assert run.wasted == {"actor": run.budget.spent["tokens"]}
    assert_accounting_is_complete(run, engine)

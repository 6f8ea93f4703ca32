"""The generating verbs `ask`, `sample` and `extend`."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import (
    UnusableCompletion,
)
from secondpass.strategies.api.values import SOLVE, Completion, Draw, Sampling
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    call_records,
    constant_reply,
    make_run,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]


async def test_solve_sends_the_clients_messages_verbatim() -> None:
    engine = ScriptedEngine()
    run = make_run(engine, question="{braces} and {question}")
    await run.ask(SOLVE)
    assert engine.calls[0].messages == run.messages


async def test_prompt_after_a_completion_is_a_further_turn_of_its_conversation() -> None:
    engine = ScriptedEngine(constant_reply("It is 42."))
    run = make_run(engine)
    draft = await run.ask(SOLVE)
    await run.ask("check", role="critic", after=draft, draft=draft.text)
    turns = [(message.role, message.text) for message in engine.calls[1].messages]
    assert turns == [
        ("user", run.question),
        ("assistant", "It is 42."),
        ("user", "Is It is 42. right?"),
    ]


async def test_client_sampling_applies_to_the_actor_only() -> None:
    engine = ScriptedEngine()
    run = make_run(engine, sampling=Sampling(stop=("END",), max_tokens=30, top_p=0.5))
    await run.ask(SOLVE)
    await run.ask("check", role="critic", draft="x")
    actor, critic = (call.sampling for call in engine.calls)
    assert (actor.stop, actor.max_tokens, actor.top_p) == (("END",), 30, 0.5)
    assert (critic.stop, critic.max_tokens, critic.top_p) == (None, 256, None)


@ON_BOTH_BACKENDS
async def test_samples_without_a_batch_are_separate_requests() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    async with run.sample(SOLVE, 6, width=2) as drafts:
        assert [draft.index async for draft in drafts] == [0, 1, 2, 3, 4, 5]
    assert [(call.n, call.index) for call in engine.calls] == [(1, i) for i in range(6)]


async def test_batched_samples_share_a_request() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    async with run.sample(SOLVE, 7, width=3, batch=3) as drafts:
        assert len([draft async for draft in drafts]) == 7
    assert [(call.n, call.index) for call in engine.calls] == [(3, 0), (3, 3), (1, 6)]


@ON_BOTH_BACKENDS
async def test_leaving_a_sample_block_cancels_unfinished_drafts() -> None:
    engine = ScriptedEngine(_slow_after(1), per_token=0.002)
    run = make_run(engine)
    async with run.sample(SOLVE, 4) as drafts:
        async for _ in drafts:
            break
    assert_accounting_is_complete(run, engine)
    ends = sorted(record.end for record in call_records(run))
    assert ends == ["cancelled"] * 3 + ["finished"]
    wasted = sum(record.wasted for record in call_records(run))
    assert wasted == sum(b.usage.completion for b in call_records(run) if b.end == "cancelled") > 0
    assert engine.delivered == run.budget.spent["tokens"]


def _slow_after(index: int) -> Callable[[Call, int], Reply]:
    return lambda _, i: Reply("word " * (3 if i < index else 300))


@ON_BOTH_BACKENDS
async def test_seeded_samples_come_in_index_order() -> None:
    engine = ScriptedEngine(lambda _, i: Reply("word " * (40 - 10 * i)), per_token=0.001)
    for seed, expected in ((7, [0, 1, 2, 3]), (None, [3, 2, 1, 0])):
        run = make_run(engine, sampling=Sampling(seed=seed))
        async with run.sample(SOLVE, 4) as drafts:
            assert [draft.index async for draft in drafts] == expected


@ON_BOTH_BACKENDS
async def test_seeded_samples_of_one_request_come_in_index_order() -> None:
    engine = ScriptedEngine(lambda _, i: Reply("word " * (40 - 10 * i)))
    for seed, expected in ((7, [0, 1, 2, 3]), (None, [3, 2, 1, 0])):
        run = make_run(engine, sampling=Sampling(seed=seed))
        async with run.sample(SOLVE, 4, batch=4) as drafts:
            assert [draft.index async for draft in drafts] == expected
        prefix = Completion(messages=run.messages)
        async with run.sample(SOLVE, 4, prefix=prefix) as drafts:
            assert [draft.index async for draft in drafts] == expected


async def test_seeded_samples_after_a_failed_one_are_not_lost() -> None:
    lengths = (30, 2, 1)
    engine = ScriptedEngine(
        lambda _, i: Reply("word " * lengths[i], fault=None if i else "interrupt")
    )
    run = make_run(engine, sampling=Sampling(seed=7))
    async with run.sample(SOLVE, 3, batch=3) as drafts:
        assert [draft.index async for draft in drafts] == [1, 2]
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
async def test_unread_samples_queued_behind_a_longer_one_are_waste() -> None:
    lengths = (1, 300, 2)
    engine = ScriptedEngine(lambda _, i: Reply("word " * lengths[i]), per_token=0.001)
    run = make_run(engine, sampling=Sampling(seed=7))
    async with run.sample(SOLVE, 3, batch=3) as drafts:
        assert (await anext(drafts)).index == 0
        await anyio.sleep(0.02)
    assert run.skipped_samples == 1
    assert run.wasted == {"actor": run.budget.spent["tokens"] - 2}  # "word" and a space
    assert_accounting_is_complete(run, engine)


async def test_sample_i_has_the_seed_plus_i() -> None:
    engine = ScriptedEngine()
    run = make_run(engine, sampling=Sampling(seed=100))
    async with run.sample(SOLVE, 3) as drafts:
        [draft async for draft in drafts]
    assert {call.index: call.sampling.seed for call in engine.calls} == {0: 100, 1: 101, 2: 102}


async def test_extend_continues_from_token_ids() -> None:
    engine = ScriptedEngine(constant_reply("one two three four five six"))
    run = make_run(engine)
    draft = await run.ask(SOLVE, draw=Draw(max_tokens=3))
    assert (draft.text, draft.is_truncated) == ("one two three", True)
    longer = await run.extend(draft)
    assert (longer.text, longer.is_truncated) == ("one two three four five six", False)
    assert engine.calls[1].prefix == draft.token_ids
    assert longer.token_ids[:3] == draft.token_ids


async def test_extend_continues_after_an_inserted_text() -> None:
    engine = ScriptedEngine(constant_reply("It is 42. Wait, it is 43."))
    run = make_run(engine)
    draft = await run.ask(SOLVE, draw=Draw(max_tokens=3))
    longer = await run.extend(draft, text=" Wait,")
    assert longer.text == "It is 42. Wait, it is 43."


@pytest.mark.parametrize("text", ["", " Wait,"])
async def test_extend_may_add_nothing_unless_a_text_was_inserted(
    text: str,
) -> None:
    run = make_run(ScriptedEngine(constant_reply(f"one two three{text} ")))
    draft = await run.ask(SOLVE, draw=Draw(max_tokens=3))
    assert draft.is_truncated
    if text:
        with pytest.raises(UnusableCompletion):
            await run.extend(draft, text=text)
        return
    longer = await run.extend(draft)
    assert (longer.text, longer.is_truncated) == ("one two three ", False)
    assert call_records(run)[-1].end == "finished"


@pytest.mark.parametrize("draw", [Draw(stop=("\n\n",)), Draw(max_tokens=3)])
async def test_partial_completions_do_not_count_towards_the_median_length(draw: Draw) -> None:
    run = make_run(ScriptedEngine(constant_reply("one two three\n\nfour five six seven")))
    for _ in range(2):
        for index in range(8):
            await run.ask(SOLVE, index=index, draw=draw, resumable=True)
        assert run.model().median_length is None
    for index in range(8):
        await run.ask(SOLVE, index=index, resumable=True)
    assert run.model().median_length == 7

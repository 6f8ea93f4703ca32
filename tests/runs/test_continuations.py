"""Samples that continue one prefix: n continuations in one request, which can be truncated and continued again."""

from __future__ import annotations

from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import UnusableCompletion
from secondpass.strategies.api.values import SOLVE, Completion, Draw, Sampling
from secondpass.strategies.continuation.segments import truncated
from secondpass.testing.support import ON_BOTH_BACKENDS, assert_books_are_closed, make_run, says

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]

BEGIN = "one two three"


def ends(_: Call, index: int) -> Reply:
    """One beginning and an end of its own for each index."""
    return Reply(f"{BEGIN} and {index} more words")


async def begun(run: LiveRun, index: int = 0) -> Completion:
    draw = Draw(max_tokens=3)
    return await run.ask(SOLVE, index=index, draw=draw, resumable=True)


async def continued(run: LiveRun, prefix: Completion, n: int, **rest: Any) -> list[Completion]:
    async with run.sample(SOLVE, n, prefix=prefix, **rest) as longer:
        return sorted([each async for each in longer], key=lambda each: each.index)


@ON_BOTH_BACKENDS
async def test_n_continuations_are_one_request_and_hold_their_prefix() -> None:
    engine = ScriptedEngine(ends)
    run = make_run(engine)
    prefix = await begun(run, index=7)
    found = await continued(run, prefix, 3)
    assert [each.text for each in found] == [f"{BEGIN} and {i} more words" for i in range(3)]
    assert [each.index for each in found] == [0, 1, 2]
    assert all(each.token_ids[:3] == prefix.token_ids for each in found)
    assert [each.usage.completion for each in found] == [7, 7, 7]
    (call,) = engine.calls[1:]
    assert (call.n, call.prefix, call.resumable) == (3, prefix.token_ids, True)
    assert (call.purpose, call.messages) == ("extend", prefix.messages)
    assert not any(each.is_truncated for each in found)
    assert_books_are_closed(run, engine)


@ON_BOTH_BACKENDS
async def test_a_continuation_can_be_truncated_and_continued_again() -> None:
    engine = ScriptedEngine(ends)
    run = make_run(engine)
    prefix = await begun(run)
    found = await continued(run, prefix, 2, draw=Draw(max_tokens=2))
    assert [each.text for each in found] == [f"{BEGIN} and {i}" for i in range(2)]
    assert all(each.is_truncated for each in found)
    shorter = truncated(found[1], len(f"{BEGIN} and"))
    assert shorter is not None
    assert shorter.text == f"{BEGIN} and"
    again = await continued(run, shorter, 2)
    assert [each.text for each in again] == [f"{BEGIN} and {i} more words" for i in range(2)]
    assert engine.calls[-1].prefix == shorter.token_ids
    assert len(shorter.token_ids) == 4
    assert_books_are_closed(run, engine)


async def test_the_prompt_names_the_purpose_and_the_prefix_gives_the_role() -> None:
    engine = ScriptedEngine(ends)
    run = make_run(engine)
    prefix = await run.ask(
        "is_right", role="critic", draw=Draw(max_tokens=3, temperature=0.5), resumable=True
    )
    async with run.sample("branch", 2, prefix=prefix, draw=Draw(temperature=0.9)) as longer:
        assert [each.role async for each in longer] == ["critic"] * 2
    call = engine.calls[-1]
    assert (call.role, call.purpose, call.messages) == ("critic", "branch", prefix.messages)
    assert call.sampling.temperature == 0.9


async def test_width_divides_the_request() -> None:
    engine = ScriptedEngine(ends)
    run = make_run(engine)
    prefix = await begun(run)
    assert len(await continued(run, prefix, 5, width=2)) == 5
    assert [(call.n, call.index) for call in engine.calls[1:]] == [(2, 0), (2, 2), (1, 4)]


async def test_under_a_seed_continuations_are_drawn_by_their_index() -> None:
    engine = ScriptedEngine(ends)
    run = make_run(engine, sampling=Sampling(seed=5))
    prefix = await begun(run)
    seeds = []
    for width in (None, 1):
        before = len(engine.calls)
        await continued(run, prefix, 3, width=width)
        calls = engine.calls[before:]
        seeds.append([(call.sampling.seed or 0) + i for call in calls for i in range(call.n)])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


async def test_a_text_without_tokens_is_continued_from_text() -> None:
    engine = ScriptedEngine(ends)
    run = make_run(engine)
    found = await continued(run, Completion.of(BEGIN, run.messages), 2)
    assert [each.text for each in found] == [f"{BEGIN} and {i} more words" for i in range(2)]
    assert engine.calls[0].prefix == BEGIN


async def test_a_finished_prefix_may_stay_as_it_is() -> None:
    engine = ScriptedEngine(says(BEGIN))
    run = make_run(engine)
    prefix = await run.ask(SOLVE, resumable=True)
    assert not prefix.is_truncated
    assert [each.text for each in await continued(run, prefix, 2)] == [BEGIN, BEGIN]
    assert not run.degraded


@pytest.mark.parametrize("field", ["n", "width", "batch"])
@pytest.mark.parametrize("value", [0, -1])
async def test_samples_are_at_least_one(field: str, value: int) -> None:
    run = make_run()
    for prefix in (None, Completion.of(BEGIN, run.messages)):
        how: dict[str, Any] = {"n": 2, "prefix": prefix, field: value}
        with pytest.raises(ValueError, match=f"^{field}: at least 1, not {value}$"):
            async with run.sample(SOLVE, **how):
                pass


async def test_a_prefix_leaves_no_place_for_another_prompt() -> None:
    engine = ScriptedEngine(ends)
    run = make_run(engine)
    prefix = await begun(run)
    with pytest.raises(ValueError, match="prefix"):
        async with run.sample("check", 2, prefix=prefix, draft="x"):
            pass
    with pytest.raises(ValueError, match="prefix"):
        async with run.sample(SOLVE, 2, prefix=prefix, after="question"):
            pass
    assert len(engine.calls) == 1
    assert not run.budget.holdings


async def test_a_text_that_nothing_follows_is_no_continuation() -> None:
    engine = ScriptedEngine(
        lambda call, _: Reply(engine.held_by(call) if call.prefix else "It is 42.")
    )
    run = make_run(engine)
    begun = await run.ask(SOLVE, resumable=True)
    assert (await run.extend(begun)).text == "It is 42."
    with pytest.raises(UnusableCompletion):
        await run.extend(begun, text=" Wait,")


async def test_a_finished_completion_is_continued_from_its_tokens() -> None:
    engine = ScriptedEngine(says("It is 42. Wait, it is 42."))
    run = make_run(engine)
    begun = await run.ask(SOLVE, resumable=True)
    await run.extend(begun, text=" So")
    prefix = engine.calls[1].prefix
    assert isinstance(prefix, tuple)
    assert prefix[:-1] == begun.token_ids
    assert engine.held_by(engine.calls[1]) == f"{begun.text} So"

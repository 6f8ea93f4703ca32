"""Lanes lease in item order, so that scheduling does not decide how a tight budget is spent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import anyio
import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import SharedResources
from secondpass.service.runs.verifiers import Sandboxes
from secondpass.service.sandbox.runner import SandboxResult
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.judgements import Preference
from secondpass.strategies.api.values import SOLVE, Candidate, Draw
from secondpass.testing.support import (
    MATH,
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    call_records,
    constant_reply,
    make_run,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]

REPETITIONS = 100
WORDS = "one two three four five"
FITS = 4
"""Number of calls, of 8, that fit into the budget."""

Work = Callable[[LiveRun, int], Awaitable[Any]]


@dataclass
class SlowTokenizer(ScriptedEngine):
    """An engine that counts the prompts of later calls faster than those of earlier ones."""

    async def count_prompt(self, call: Call) -> int:
        for _ in range(max(0, 40 - 5 * call.index)):
            await anyio.lowlevel.checkpoint()
        return await super().count_prompt(call)


class PassingSandboxes(Sandboxes):
    """Sandboxes in which tests pass after one checkpoint."""

    async def run(self, code: str, tests: str) -> SandboxResult:
        await anyio.lowlevel.checkpoint()
        return SandboxResult("passed", "")


async def ask(run: LiveRun, index: int) -> Any:
    return await run.ask(SOLVE, index=index)


async def step(run: LiveRun, index: int) -> Any:
    async with run.steps(SOLVE, index=index) as stream:
        return [step async for step in stream]


async def step_later(run: LiveRun, index: int) -> Any:
    await anyio.lowlevel.checkpoint()
    return await step(run, index)


async def critique(run: LiveRun, index: int) -> Any:
    return await run.ask("is_right", role="critic", index=index)


async def classify_first(run: LiveRun, index: int) -> Any:
    for answer in (str(index), f"{index}.0", str(index % 2)):
        await run.class_of(Candidate(text=answer, answer=answer))
    return await run.ask(SOLVE, index=index)


async def verify_first(run: LiveRun, index: int) -> Any:
    await run.verify(Candidate(text="", answer=f"print({index})"))
    return await run.ask(SOLVE, index=index)


async def optional_first(run: LiveRun, index: int) -> Any:
    [draft] = await run.map(lambda at: ask(run, at), [index], min_results=0)
    if draft is None:
        raise BudgetExhausted("tokens")
    return draft


async def ask_thrice(run: LiveRun, item: int, width: int | None) -> list[bool]:
    results = await run.map(partial(ask, run), range(3 * item, 3 * item + 3), width=width)
    return [each is not None for each in results]


async def sample_thrice(run: LiveRun, item: int) -> int:
    async with run.sample(SOLVE, 3, draw=Draw(max_tokens=10 + item)) as drafts:
        return len([draft async for draft in drafts])


def tight_run(engine: ScriptedEngine, calls: int = FITS, task: Task = MATH) -> LiveRun:
    """Return a run with a budget for `calls` calls of five tokens; a cost limit makes it count prompts."""
    shared = SharedResources(Equivalence(), PassingSandboxes(4))
    for role, purpose in (("actor", SOLVE), ("critic", "is_right")):
        shared.stats.lengths.add(("single", role, purpose, engine.model), 5)
    return make_run(engine, shared=shared, task=task, max_tokens=5 * calls, max_cost=1000.0)


async def assert_in_order(run: LiveRun, engine: ScriptedEngine, work: Work) -> None:
    results = await run.map(partial(work, run), range(8))
    assert [each is not None for each in results] == [True] * FITS + [False] * (8 - FITS)
    assert [call.index for call in engine.calls] == list(range(FITS))
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize(
    "work", [ask, step, critique, classify_first, optional_first], ids=lambda work: work.__name__
)
@ON_BOTH_BACKENDS
async def test_tight_budget_goes_to_the_first_items(work: Work) -> None:
    for _ in range(REPETITIONS):
        engine = SlowTokenizer(constant_reply(WORDS))
        await assert_in_order(tight_run(engine), engine, work)


@pytest.mark.parametrize("work", [verify_first, step_later], ids=lambda work: work.__name__)
@ON_BOTH_BACKENDS
async def test_items_with_equal_waits_before_their_first_call_keep_their_order(
    work: Work,
) -> None:
    for _ in range(REPETITIONS):
        engine = ScriptedEngine(constant_reply(WORDS))
        run = tight_run(engine, task=Task(kind="code", tests="assert True"))
        await assert_in_order(run, engine, work)


@pytest.mark.parametrize("width", [None, 1, 2])
@ON_BOTH_BACKENDS
async def test_nested_maps_serve_the_first_items_first(width: int | None) -> None:
    """All calls of an item lease before those of the next item, unless the inner width delays them."""
    for _ in range(REPETITIONS):
        engine = SlowTokenizer(constant_reply(WORDS))
        run = tight_run(engine, 5)
        outer = None if width is None else 1
        results = await run.map(partial(ask_thrice, run, width=width), range(3), width=outer)
        assert results == [[True] * 3, [True, True, False], None]
        assert [call.index for call in engine.calls] == list(range(5))


@ON_BOTH_BACKENDS
async def test_samples_within_lanes_lease_in_order() -> None:
    for _ in range(REPETITIONS):
        engine = SlowTokenizer(constant_reply(WORDS))
        run = tight_run(engine, 5)
        assert await run.map(partial(sample_thrice, run), range(3)) == [3, 2, None]


@dataclass
class SlowAtFirst(ScriptedEngine):
    """An engine that counts the prompt of the first call last."""

    async def count_prompt(self, call: Call) -> int:
        for _ in range(1 if call.index else 100):
            await anyio.lowlevel.checkpoint()
        return await super().count_prompt(call)


@ON_BOTH_BACKENDS
async def test_both_orders_of_a_pair_lease_before_the_next_pair() -> None:
    async def compare(index: int) -> Preference:
        a, b = (Candidate(text=f"{index}{name} is it", index=index) for name in "ab")
        return await run.compare(a, b, index=index)

    for _ in range(REPETITIONS):
        engine = SlowAtFirst(constant_reply("A"), lacking=frozenset({"labels", "schema"}))
        shared = SharedResources(Equivalence())
        shared.stats.lengths.add(("single", "judge", "prefer", engine.model), 1)
        run = make_run(engine, shared=shared, max_calls=4, max_cost=1000.0)
        results = await run.map(compare, range(4), min_results=0)
        assert [each is not None for each in results] == [True, True, False, False]
        assert [call.index for call in engine.calls] == list(range(4))


@ON_BOTH_BACKENDS
async def test_calls_that_wait_for_tokens_are_served_in_order() -> None:
    """The first call of a cold run leases all tokens; later calls wait for the rest that it releases."""
    for _ in range(REPETITIONS):
        engine = SlowTokenizer(constant_reply(WORDS))
        run = make_run(engine, max_tokens=5 * FITS, max_cost=1000.0)
        results = await run.map(partial(ask, run), range(8))
        assert [each is not None for each in results] == [True] * FITS + [False] * (8 - FITS)
        assert [call.index for call in engine.calls] == list(range(FITS))


@ON_BOTH_BACKENDS
async def test_lanes_run_concurrently_once_they_have_a_lease() -> None:
    running = []

    def script(_: Call, index: int) -> Reply:
        running.append(len(engine.running))
        return Reply(WORDS)

    engine = ScriptedEngine(script, per_token=0.005)
    run = make_run(engine)
    await run.map(partial(ask, run), range(6))
    assert max(running) == 6


@ON_BOTH_BACKENDS
async def test_lane_that_waits_for_other_work_does_not_block_later_lanes() -> None:
    engine = ScriptedEngine(constant_reply(WORDS))
    run = make_run(engine)
    second_is_done = anyio.Event()

    async def work(index: int) -> int:
        if index == 0:
            await second_is_done.wait()
        await ask(run, index)
        if index == 1:
            second_is_done.set()
        return index

    with anyio.fail_after(5):
        assert await run.map(work, range(3)) == [0, 1, 2]


@ON_BOTH_BACKENDS
async def test_stream_that_fails_before_its_lease_does_not_block_later_lanes() -> None:
    run = make_run(ScriptedEngine(constant_reply(WORDS), lacking=frozenset({"logprobs"})))
    second_is_done = anyio.Event()

    async def work(index: int) -> int:
        if index == 0:
            async with run.steps(SOLVE, draw=Draw(logprobs=1)):
                await second_is_done.wait()
        second_is_done.set()
        return index

    with anyio.fail_after(5):
        assert await run.map(work, range(2)) == [0, 1]


@ON_BOTH_BACKENDS
async def test_leaving_a_block_cancels_lanes_before_they_start() -> None:
    engine = ScriptedEngine(constant_reply(WORDS), per_token=0.005)
    run = make_run(engine, max_tokens=5)
    async with run.as_completed(partial(ask, run), range(4)):
        await anyio.sleep(0.01)  # the first call leases all tokens
    assert [record.end for record in call_records(run)] == ["cancelled"]
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("width", [0, -1])
async def test_width_below_1_raises(width: int) -> None:
    run = make_run()
    with pytest.raises(ValueError, match="width: must be at least 1"):
        await run.map(run.verify, [], width=width)


@ON_BOTH_BACKENDS
async def test_block_over_infinite_items_can_be_left() -> None:
    async def work(item: int) -> int:
        return item

    with anyio.fail_after(5):
        async with make_run().as_completed(work, count()) as finished:
            assert [await anext(finished) for _ in range(3)] == [0, 1, 2]

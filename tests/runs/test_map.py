"""The verbs `map` and `as_completed`, and how the outcome reports their failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.common.errors import EngineFailed, NoAnswerWithinBudget
from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine, arithmetic
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    CallRejected,
    EngineUnavailable,
    SecondpassError,
    UnusableCompletion,
    VerdictUnreadable,
)
from secondpass.strategies.api.registry import Params
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, BudgetKind, Candidate, Completion, Sampling
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

ANSWER = Candidate(text="It is 42.")
FAILURES: dict[str, SecondpassError] = {
    "critic": EngineUnavailable("gone", role="critic"),
    "judge": VerdictUnreadable("no verdict"),
    "actor": UnusableCompletion("nothing"),
}


def failing_at(*indices: int, fault: str = "refuse") -> Script:
    """Return a script of valid drafts that fails at these indices."""

    def script(call: Call, index: int) -> Reply:
        reply = arithmetic(call, index)
        return Reply(reply.text, fault=fault) if index in indices else reply  # type: ignore[arg-type]

    return script


# -- map ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [None, 0, "none"])
@pytest.mark.parametrize("width", [None, 1, 2])
@ON_BOTH_BACKENDS
async def test_map_keeps_positions_when_items_fail_or_finish_out_of_order(
    failed: object, width: int | None
) -> None:
    run = make_run()

    async def work(item: int) -> int:
        await anyio.sleep(0.002 * (4 - item))
        if item in (1, 2):
            raise EngineUnavailable("gone", role="actor")
        return item * 10

    results = await run.map(work, range(5), failed=failed, width=width)
    assert results == [0, failed, failed, 30, 40]
    assert run.degraded == {"actor": 2}


async def test_failed_item_is_none_by_default() -> None:
    run = make_run(ScriptedEngine(failing_at(1)))

    async def draw(index: int) -> Completion:
        return await run.ask(SOLVE, index=index)

    results = await run.map(draw, range(3))
    assert [each is None for each in results] == [False, True, False]
    assert [each.index for each in results if each] == [0, 2]


@pytest.mark.parametrize("succeed", [0, 1, 2, 3])
@pytest.mark.parametrize("min_results", [0, 1, 2])
@ON_BOTH_BACKENDS
async def test_map_raises_if_fewer_than_min_results_succeed(succeed: int, min_results: int) -> None:
    async def work(item: int) -> int:
        if item >= succeed:
            raise EngineUnavailable(f"gone: {item}")
        return item

    run = make_run()
    if succeed < min_results:
        with pytest.raises(EngineUnavailable, match="gone: 2"):
            await run.map(work, range(3), min_results=min_results)
    else:
        results = await run.map(work, range(3), min_results=min_results)
        assert results == [item if item < succeed else None for item in range(3)]
    assert run.degraded.total() == 3 - succeed


async def test_map_of_no_items_returns_an_empty_list() -> None:
    async def work(_: int) -> int:
        raise AssertionError

    assert await make_run().map(work, []) == []


@pytest.mark.parametrize("error", [*FAILURES.values(), BudgetExhausted("tokens")])
async def test_optional_item_that_fails_is_none(error: SecondpassError) -> None:
    async def work(_: int) -> int:
        raise error

    [grade] = await make_run().map(work, [0], min_results=0)
    assert grade is None


@ON_BOTH_BACKENDS
async def test_unexpected_error_ends_the_block() -> None:
    async def work(item: int) -> int:
        if item:
            raise ZeroDivisionError
        await anyio.sleep_forever()
        return item

    with pytest.raises(ZeroDivisionError):
        async with make_run().as_completed(work, range(2)) as finished:
            [result async for result in finished]
    with pytest.raises(ZeroDivisionError):
        await make_run().map(work, range(2), min_results=0)


@ON_BOTH_BACKENDS
async def test_items_can_wait_for_each_other() -> None:
    started = [anyio.Event() for _ in range(4)]

    async def work(item: int) -> int:
        started[item].set()
        await started[(item + 1) % 4].wait()
        return item

    with anyio.fail_after(5):
        assert await make_run().map(work, range(4)) == [0, 1, 2, 3]


@given(width=st.integers(1, 5), items=st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_at_most_width_items_run_concurrently(width: int, items: int) -> None:
    async def main() -> None:
        run, running, peak = make_run(), 0, 0

        async def work(item: int) -> int:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            await anyio.lowlevel.checkpoint()
            running -= 1
            return item

        async with run.as_completed(work, range(items), width=width) as finished:
            assert sorted([item async for item in finished]) == list(range(items))
        assert peak <= width

    anyio.run(main)


# -- as_completed -------------------------------------------------------------------------------------------


@ON_BOTH_BACKENDS
async def test_failed_items_are_skipped_and_counted() -> None:
    async def work(item: int) -> int:
        if item == 0:
            await anyio.wait_all_tasks_blocked()  # finishes last
        if item % 2:
            raise VerdictUnreadable("no verdict", role="critic")
        return item

    for seed, expected in ((None, [2, 0]), (7, [0, 2])):
        run = make_run(sampling=Sampling(seed=seed))
        async with run.as_completed(work, range(4)) as finished:
            assert [item async for item in finished] == expected
        assert run.degraded == {"critic": 2}


@pytest.mark.parametrize("error", [EngineUnavailable("gone"), BudgetExhausted("tokens")])
@ON_BOTH_BACKENDS
async def test_as_completed_raises_if_every_item_failed(error: SecondpassError) -> None:
    async def work(_: int) -> int:
        raise error

    run = make_run()
    with pytest.raises(type(error)):
        async with run.as_completed(work, range(3)) as finished:
            [item async for item in finished]


# -- failures in the outcome --------------------------------------------------------------------------------


async def outcome_of(
    work: Callable[[Run, int], Any], engine: Any = None, items: int = 3, **limits: Any
) -> Outcome:
    """Return the outcome of a strategy that maps `work` over optional items and then answers."""

    async def body(run: Run, _: Params) -> Candidate:
        await run.map(lambda item: work(run, item), range(items), min_results=0)
        return ANSWER

    return await execute(with_body(make_run(engine, **limits), body))


@pytest.mark.parametrize("role", list(FAILURES))
async def test_failure_raised_by_work_is_counted_under_its_role(role: str) -> None:
    async def work(_: Run, item: int) -> int:
        if item == 1:
            raise type(FAILURES[role])(str(FAILURES[role]), role=role)  # type: ignore[call-arg]
        return item

    outcome = await outcome_of(work)
    assert outcome.degraded == {role: 1}
    assert outcome.stop_reason == "finished"


@pytest.mark.parametrize(
    ("reply", "role"), [(Reply("x", fault="refuse"), "critic"), (Reply(" "), "critic")]
)
async def test_failed_call_in_nested_maps_is_counted_once(reply: Reply, role: str) -> None:
    engine = ScriptedEngine(lambda *_: reply)

    async def work(run: Run, item: int) -> Any:
        async def inner(index: int) -> Any:
            return await run.ask("is_right", role="critic", index=index)

        return await run.map(inner, range(2))

    outcome = await outcome_of(work, engine)
    assert outcome.degraded == {role: 6}  # 3 items of 2 calls; the maps add none
    assert len(engine.calls) == 6


@ON_BOTH_BACKENDS
async def test_failure_raised_by_the_strategy_is_counted_once() -> None:
    engine = ScriptedEngine(lambda *_: Reply("x", fault="refuse"))

    async def body(run: Run, _: Params) -> Candidate:
        run.propose(ANSWER)
        return run.candidate((await run.map(run.ask, [SOLVE]))[0] or await run.ask(SOLVE))

    outcome = await execute(with_body(make_run(engine), body))
    assert outcome.degraded == {"actor": 1}
    assert outcome.candidate == ANSWER


@ON_BOTH_BACKENDS
async def test_successful_retry_is_not_counted_as_a_failure() -> None:
    is_broken = iter([True, False, True, True])

    def script(call: Call, index: int) -> Reply:
        return Reply("It is 42.", fault="unavailable" if next(is_broken, False) else None)

    engine = ScriptedEngine(script)

    async def work(run: Run, index: int) -> Completion:
        return await run.ask(SOLVE, index=index)

    outcome = await outcome_of(work, upstream(engine, attempts=4))
    assert outcome.degraded is None
    assert len(engine.calls) == 6


async def test_unreadable_verdict_is_counted() -> None:
    engine = ScriptedEngine(constant_reply("who knows"), lacking=frozenset({"labels", "schema"}))

    async def work(run: Run, index: int) -> Any:
        return await run.classify("is_right", ("yes", "no"), index=index)

    outcome = await outcome_of(work, engine)
    assert outcome.degraded == {"judge": 3}
    assert len(engine.calls) == 6


async def test_run_without_an_answer_raises_the_last_failure() -> None:
    engine = ScriptedEngine(lambda *_: Reply("x", fault="unavailable"))

    async def body(run: Run, _: Params) -> Candidate:
        results = await run.map(run.ask, [SOLVE, SOLVE])
        raise AssertionError(results)

    with pytest.raises(EngineFailed, match="unavailable") as raised:
        await execute(with_body(make_run(engine), body))
    assert raised.value.role == "actor"


# -- the budget ---------------------------------------------------------------------------------------------

WORDS = "one two three four five"


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"max_calls": 2}, "calls"),
        ({"max_samples": 2}, "samples"),
        ({"max_tokens": 2 * 5}, "tokens"),
        ({"max_prompt_tokens": 2 * 9}, "prompt_tokens"),
    ],
)
@ON_BOTH_BACKENDS
async def test_item_over_the_budget_sets_the_stop_reason_and_no_later_item_starts(
    limits: dict[str, Any], kind: BudgetKind
) -> None:
    engine = ScriptedEngine(constant_reply(WORDS))
    started = []

    async def body(run: Run, _: Params) -> Candidate:
        async def draw(index: int) -> str:
            started.append(index)
            return (await run.ask(SOLVE, index=index)).text

        results = await run.map(draw, range(5), width=1)
        assert results == [WORDS, WORDS, None, None, None]
        return ANSWER

    run = with_body(make_run(engine, **limits), body)
    outcome = await execute(run)
    assert outcome.stop_reason == f"budget_{kind}"
    assert outcome.degraded is None
    assert started == [0, 1, 2]
    assert_accounting_is_complete(run, engine)


async def test_stop_reason_of_the_strategy_takes_precedence_over_the_budget() -> None:
    engine = ScriptedEngine(constant_reply(WORDS))

    async def body(run: Run, _: Params) -> Candidate:
        await run.map(lambda index: run.ask(SOLVE, index=index), range(3), width=1)
        run.stop_reason = "accepted"
        return ANSWER

    run = with_body(make_run(engine, max_calls=1), body)
    assert (await execute(run)).stop_reason == "accepted"


@ON_BOTH_BACKENDS
async def test_exhausted_limit_is_reported_from_nested_maps_and_after_failures() -> None:
    engine = ScriptedEngine(constant_reply(WORDS))

    async def work(run: Run, item: int) -> Any:
        return await run.map(lambda index: run.ask(SOLVE, index=index), range(2), min_results=0)

    outcome = await outcome_of(work, engine, max_calls=3)
    assert outcome.stop_reason == "budget_calls"
    assert len(engine.calls) == 3

    async def body(run: Run, _: Params) -> Candidate:
        await run.map(lambda index: run.ask(SOLVE, index=index), range(3), min_results=3)
        raise AssertionError

    run = with_body(make_run(ScriptedEngine(failing_at(0)), max_calls=2), body)
    with pytest.raises(NoAnswerWithinBudget) as raised:
        await execute(run)
    assert raised.value.kind == "calls"
    assert [record.end for record in call_records(run)] == ["failed", "finished"]


async def test_exhausted_sample_sets_the_stop_reason() -> None:
    async def body(run: Run, _: Params) -> Candidate:
        async with run.sample(SOLVE, 4, width=1) as drafts:
            async for draft in drafts:
                run.propose(run.candidate(draft))
        return run.best

    run = with_body(make_run(ScriptedEngine(constant_reply(WORDS)), max_samples=2), body)
    outcome = await execute(run)
    assert (outcome.stop_reason, outcome.candidate.index) == ("budget_samples", 0)


async def test_rejected_call_does_not_end_the_others() -> None:
    run = make_run(ScriptedEngine(failing_at(0, 1)))

    async def draw(index: int) -> int:
        return (await run.ask(SOLVE, index=index)).index

    assert await run.map(draw, range(4)) == [None, None, 2, 3]
    with pytest.raises(CallRejected):
        await run.map(draw, range(2))
    assert run.degraded == {"actor": 4}

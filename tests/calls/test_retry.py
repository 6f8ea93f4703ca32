"""Retries of calls: conditions, requests of later attempts, and resources released."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from secondpass.service.calls.retry import RetryPolicy
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    CallRejected,
    CapabilityMissing,
    EngineError,
    EngineUnavailable,
    RoleMissing,
    SecondpassError,
    StreamInterrupted,
    UnusableCompletion,
)
from secondpass.strategies.api.values import Sampling, Usage
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, VISIBLE, CallHarness, PlannedEngine, counting

pytestmark = pytest.mark.anyio


def faulty(*failing_after: int | None, **options: Any) -> CallHarness:
    return CallHarness(PlannedEngine(plan=counting(failing_after, **options)))


@pytest.mark.parametrize("after", [0, 1, 3])
@ON_BOTH_BACKENDS
async def test_each_attempt_of_an_invisible_call_restarts_and_has_its_own_record(
    after: int,
) -> None:
    harness = faulty(after, after)
    await harness.perform()

    assert harness.texts == ["one two three four"]
    assert harness.engine.calls == [CALL] * 3
    assert [(record.call, record.attempt, record.retried) for record in harness.records] == [
        (0, 1, True),
        (1, 2, True),
        (2, 3, False),
    ]
    assert [record.end for record in harness.records] == ["failed", "failed", "finished"]
    assert [record.usage.completion for record in harness.records] == [after, after, 4]
    assert harness.wasted == 2 * after == sum(record.wasted for record in harness.records)
    assert harness.budget.spent["samples"] == 1
    assert harness.failures == []
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_tokens_of_a_discarded_attempt_are_dropped() -> None:
    def plan(_: Call, number: int) -> Any:
        yield Delta(tokens=1, token_ids=(7,))  # e.g. the first byte of a character
        if not number:
            yield StreamInterrupted("interrupted")
        yield Delta(text="ä", tokens=1, token_ids=(8,))
        yield Delta(finish_reason="stop")

    harness = CallHarness(PlannedEngine(plan=plan))
    await harness.perform(replace(VISIBLE, resumable=True))

    (completion,) = harness.completions
    assert completion.token_ids == (7, 8)
    assert completion.usage.completion == 2
    assert [partial.tokens for _, partial in harness.deltas] == [1, 2, 2, 2]
    assert harness.wasted == 1
    harness.assert_consistent()


@pytest.mark.parametrize("after", [1, 3])
@ON_BOTH_BACKENDS
async def test_a_visible_call_continues_from_its_delivered_tokens(after: int) -> None:
    harness = faulty(after)
    await harness.perform(replace(VISIBLE, sampling=Sampling(max_tokens=4)))

    assert harness.texts == ["one two three four"]
    assert harness.engine.calls[1].prefix == tuple(range(after))
    assert harness.engine.calls[1].sampling.max_tokens == 4 - after
    assert harness.completions[0].finish_reason == "stop"
    assert harness.completions[0].usage.completion == 4
    assert len({id(partial) for _, partial in harness.deltas}) == 1
    assert [record.usage for record in harness.records] == [
        Usage(prompt=10, completion=after),
        Usage(prompt=10 + after, completion=4 - after),
    ]
    assert [record.wasted for record in harness.records] == [0, 0]
    assert "".join("".join(record.texts) for record in harness.records) == harness.texts[0]
    assert harness.budget.spent["samples"] == 1
    assert harness.wasted == 0
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_continued_call_can_be_continued_again() -> None:
    harness = faulty(1, 1)
    await harness.perform(replace(VISIBLE, prefix=()))

    assert harness.texts == ["one two three four"]
    assert [call.prefix for call in harness.engine.calls] == [(), (0,), (0, 1)]
    assert harness.budget.spent["prompt_tokens"] == 10 + 11 + 12
    assert harness.completions[0].token_ids == (0, 1, 2)
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_delivered_tokens_of_a_failed_call_are_wasted() -> None:
    harness = faulty(1, 1, 1)
    with pytest.raises(StreamInterrupted):
        await harness.perform(VISIBLE)
    assert harness.wasted == 3
    assert harness.completions == []
    assert len(harness.failures) == 1
    harness.assert_consistent()


@pytest.mark.parametrize("after", [2, None], ids=["interrupted", "no finish reason"])
@ON_BOTH_BACKENDS
async def test_a_visible_call_with_all_its_tokens_is_finished(after: int | None) -> None:
    harness = faulty(after, change=lambda delta: replace(delta, finish_reason=None))
    await harness.perform(replace(VISIBLE, sampling=Sampling(max_tokens=2)))

    assert harness.texts == ["one two"]
    assert harness.completions[0].finish_reason == "length"
    assert harness.deltas[-1][0].finish_reason == "length"
    (record,) = harness.records
    assert (record.end, record.usage) == ("finished", Usage(prompt=10, completion=2))
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_stream_interrupted_after_its_last_completion_is_finished() -> None:
    def plan(_call: Call, _number: int) -> Any:
        for index in range(2):
            yield Delta(index=index, text="yes", tokens=1, finish_reason="stop")
        yield StreamInterrupted("no usage")

    harness = CallHarness(PlannedEngine(plan=plan))
    await harness.perform(replace(CALL, n=2))
    assert harness.texts == ["yes", "yes"]
    assert [record.end for record in harness.records] == ["finished"]
    assert harness.records[0].is_estimated
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_visible_call_without_text_restarts() -> None:
    harness = faulty(0)
    await harness.perform(VISIBLE)
    assert harness.engine.calls == [VISIBLE] * 2
    assert harness.texts == ["one two three four"]


@pytest.mark.parametrize(
    ("call", "options"),
    [
        (replace(VISIBLE, n=2), {}),
        (replace(VISIBLE, prefix="so far: "), {}),
        (replace(VISIBLE, schema="{}"), {}),
        (replace(VISIBLE, sampling=Sampling(stop=("END",), max_tokens=20)), {}),
        (VISIBLE, {"lacking": frozenset(["prefix"])}),
        (VISIBLE, {"lacking": frozenset(["tokenize"])}),
        (VISIBLE, {"change": lambda delta: replace(delta, token_ids=())}),
        (VISIBLE, {"change": lambda delta: replace(delta, reasoning="hm")}),
    ],
    ids=["n", "text prefix", "schema", "stop", "no prefix", "no tokenizer", "no ids", "reasoning"],
)
@ON_BOTH_BACKENDS
async def test_a_visible_call_that_cannot_continue_is_not_retried(
    call: Call, options: dict[str, Any]
) -> None:
    plan = counting([1], change=options.get("change", lambda delta: delta))
    lacking = options.get("lacking", frozenset())
    harness = CallHarness(PlannedEngine(plan=plan, lacking=lacking))
    with pytest.raises(StreamInterrupted):
        await harness.perform(call)
    assert [delta.text for delta, _ in harness.deltas] == ["one"]
    assert [(record.end, record.retried) for record in harness.records] == [("failed", False)]
    assert len(harness.failures) == 1
    harness.assert_consistent()


@pytest.mark.parametrize(
    "failure",
    [
        lambda: CallRejected("no"),
        lambda: EngineUnavailable("dropped", may_retry=False),
        lambda: CapabilityMissing("x", ["seed"]),
        lambda: EngineError("x"),
    ],
)
@ON_BOTH_BACKENDS
async def test_permanent_errors_are_not_retried(
    failure: Callable[[], SecondpassError],
) -> None:
    harness = faulty(0, failure=failure)
    with pytest.raises(type(failure())):
        await harness.perform()
    assert len(harness.engine.calls) == 1
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_the_error_of_the_last_attempt_is_raised_with_its_role_and_counted_once() -> None:
    harness = faulty(0, 0, 0, failure=lambda: EngineUnavailable("down"))
    with pytest.raises(EngineUnavailable, match="down") as error:
        await harness.perform()
    assert [record.retried for record in harness.records] == [True, True, False]
    assert harness.failures == [error.value]
    assert error.value.role == "actor"
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_call_with_only_empty_completions_fails_without_a_retry() -> None:
    harness = CallHarness(
        PlannedEngine(plan=lambda *_: [Delta(text=" ", tokens=1, finish_reason="stop")])
    )
    with pytest.raises(UnusableCompletion) as error:
        await harness.perform()
    assert harness.failures == [error.value]
    assert [record.end for record in harness.records] == ["failed"]
    assert harness.wasted == 1
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_an_exhausted_budget_is_not_counted_as_a_failure() -> None:
    harness = CallHarness(PlannedEngine(plan=counting()), {"max_tokens": 2})
    with pytest.raises(BudgetExhausted):
        await harness.perform()
    assert harness.failures == []
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_retry_waits_for_retry_after() -> None:
    harness = faulty(0, failure=lambda: EngineUnavailable("busy", retry_after=0.2))
    start = anyio.current_time()
    await harness.perform()
    assert 0.2 <= anyio.current_time() - start < 2


@ON_BOTH_BACKENDS
async def test_a_retry_after_beyond_the_maximum_backoff_is_not_retried() -> None:
    harness = faulty(0, failure=lambda: EngineUnavailable("busy", retry_after=3600))
    with anyio.fail_after(1), pytest.raises(EngineUnavailable):
        await harness.perform()
    assert len(harness.engine.calls) == 1


@ON_BOTH_BACKENDS
async def test_backing_off_occupies_no_slot_and_no_lease() -> None:
    harness = CallHarness(
        PlannedEngine(
            plan=counting([1], failure=lambda: EngineUnavailable("busy", retry_after=0.2))
        ),
        slots=1,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.perform)
        await anyio.sleep(0.1)
        assert harness.upstream.admission.in_flight == 0
        assert not harness.budget.holdings
        assert harness.budget.spent["samples"] == 0
        assert len(harness.records) == 1
    assert len(harness.engine.calls) == 2
    assert all(record.seconds < 0.15 for record in harness.records)
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_cancelling_a_call_ends_its_backoff_and_salvages_usable_text() -> None:
    harness = CallHarness(
        PlannedEngine(
            plan=counting([2], failure=lambda: EngineUnavailable("busy", retry_after=20))
        ),
        is_usable=lambda completion: bool(completion.text),
    )
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(harness.perform)
            await anyio.sleep(0.05)
            scope.cancel()
    assert scope.cancelled_caught
    assert [completion.text for completion in harness.salvaged] == ["one two"]
    assert harness.wasted == 0
    assert len(harness.engine.calls) == 1
    harness.assert_consistent()


@pytest.mark.parametrize("failing_after", [(), (2,)])
@ON_BOTH_BACKENDS
async def test_a_cancelled_call_closes_its_stream_and_wastes_its_tokens(
    failing_after: tuple[int, ...],
) -> None:
    harness = faulty(*failing_after)
    with anyio.CancelScope() as scope:
        await harness.calls.perform(
            CALL,
            harness.completions.append,
            on_delta=lambda delta, _: scope.cancel() if delta.text == " two" else None,
        )
    assert scope.cancelled_caught
    assert harness.engine.closed == len(harness.engine.calls) == 1  # type: ignore[attr-defined]
    assert [(record.end, record.wasted) for record in harness.records] == [("cancelled", 2)]
    assert harness.wasted == 2
    harness.assert_consistent()


def test_roles_without_an_engine_have_no_capabilities() -> None:
    calls = CallHarness(ScriptedEngine(lacking=frozenset({"schema"}))).calls
    assert calls.can("actor", frozenset({"prefix"}))
    assert not calls.can("actor", frozenset({"prefix", "schema"}))
    assert not calls.can("critic", frozenset())
    assert calls.median_length("critic") is None
    with pytest.raises(RoleMissing):
        calls.engine("critic")
    with pytest.raises(RoleMissing):
        calls.require("critic", frozenset())
    with pytest.raises(CapabilityMissing, match="schema"):
        calls.require("actor", frozenset({"schema"}))


def test_a_policy_needs_at_least_one_attempt() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RetryPolicy(attempts=0)


def test_the_default_policy_makes_three_attempts() -> None:
    policy = RetryPolicy()
    assert (policy.attempts, policy.initial_backoff, policy.max_backoff) == (3, 0.2, 30.0)
    failure = StreamInterrupted("interrupted")
    assert [policy.may_retry(failure, number) for number in (1, 2, 3)] == [True, True, False]


class Resource:
    """An object that an attempt references while it runs."""


@pytest.mark.parametrize(
    "plan",
    [
        [None],
        [StreamInterrupted("interrupted"), None],
        [StreamInterrupted("interrupted"), StreamInterrupted("interrupted")],
        [CallRejected("no")],
        [ValueError("no")],
        [StreamInterrupted("interrupted"), 60.0],
    ],
    ids=["finished", "retried", "interrupted", "rejected", "bug", "cancelled"],
)
@ON_BOTH_BACKENDS
async def test_an_attempt_leaves_no_reference_cycles(
    plan: list[Exception | float | None],
) -> None:
    references: list[weakref.ref[Resource]] = []
    remaining = list(plan)

    async def attempt(_: int) -> None:
        resource = Resource()
        references.append(weakref.ref(resource))
        match remaining.pop(0):
            case float(seconds):
                await anyio.sleep(seconds)
            case Exception() as error:
                try:
                    raise error
                finally:
                    del error

    async def attempts() -> None:
        try:
            with anyio.move_on_after(0.05):
                await RetryPolicy(2, initial_backoff=0.001).run(attempt)
        except (SecondpassError, ValueError):
            pass

    gc.disable()
    try:
        await attempts()
        await (
            anyio.lowlevel.checkpoint()
        )  # the event loop references a cancellation until its next step
        for error in plan:
            if isinstance(error, Exception):
                error.__traceback__ = None  # the test itself references the errors
        assert [each() for each in references] == [None] * len(plan)
    finally:
        gc.enable()

"""Attempts of a call: which follow a failure, what they ask for, and what they leave behind."""

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
from tests.calls.calls_support import CALL, VISIBLE, Books, PlannedEngine, counting

pytestmark = pytest.mark.anyio


def faulty(*cuts: int | None, **how: Any) -> Books:
    return Books(PlannedEngine(plan=counting(cuts, **how)))


@pytest.mark.parametrize("cut", [0, 1, 3])
@ON_BOTH_BACKENDS
async def test_each_attempt_of_an_unseen_call_asks_for_all_of_it_and_has_its_own_bill(
    cut: int,
) -> None:
    books = faulty(cut, cut)
    await books.perform()

    assert books.texts == ["one two three four"]
    assert books.engine.calls == [CALL] * 3
    assert [(bill.call, bill.attempt, bill.retried) for bill in books.bills] == [
        (0, 1, True),
        (1, 2, True),
        (2, 3, False),
    ]
    assert [bill.end for bill in books.bills] == ["failed", "failed", "finished"]
    assert [bill.usage.completion for bill in books.bills] == [cut, cut, 4]
    assert books.wasted == 2 * cut == sum(bill.wasted for bill in books.bills)
    assert books.budget.spent["samples"] == 1
    assert books.failures == []
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_no_token_of_a_void_attempt_remains() -> None:
    def plan(_: Call, number: int) -> Any:
        yield Delta(tokens=1, token_ids=(7,))  # the first byte of a character, say
        if not number:
            yield StreamInterrupted("interrupted")
        yield Delta(text="ä", tokens=1, token_ids=(8,))
        yield Delta(finish_reason="stop")

    books = Books(PlannedEngine(plan=plan))
    await books.perform(replace(VISIBLE, resumable=True))

    (completion,) = books.done
    assert completion.token_ids == (7, 8)
    assert completion.usage.completion == 2
    assert [partial.tokens for _, partial in books.seen] == [1, 2, 2, 2]
    assert books.wasted == 1
    books.assert_closed()


@pytest.mark.parametrize("cut", [1, 3])
@ON_BOTH_BACKENDS
async def test_a_visible_call_is_continued_from_what_was_delivered(cut: int) -> None:
    books = faulty(cut)
    await books.perform(replace(VISIBLE, sampling=Sampling(max_tokens=4)))

    assert books.texts == ["one two three four"]
    assert books.engine.calls[1].prefix == tuple(range(cut))
    assert books.engine.calls[1].sampling.max_tokens == 4 - cut
    assert books.done[0].finish_reason == "stop"
    assert books.done[0].usage.completion == 4
    assert len({id(partial) for _, partial in books.seen}) == 1
    assert [bill.usage for bill in books.bills] == [
        Usage(prompt=10, completion=cut),
        Usage(prompt=10 + cut, completion=4 - cut),
    ]
    assert [bill.wasted for bill in books.bills] == [0, 0]
    assert "".join("".join(bill.texts) for bill in books.bills) == books.texts[0]
    assert books.budget.spent["samples"] == 1
    assert books.wasted == 0
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_continued_call_that_breaks_again_is_continued_again() -> None:
    books = faulty(1, 1)
    await books.perform(replace(VISIBLE, prefix=()))

    assert books.texts == ["one two three four"]
    assert [call.prefix for call in books.engine.calls] == [(), (0,), (0, 1)]
    assert books.budget.spent["prompt_tokens"] == 10 + 11 + 12
    assert books.done[0].token_ids == (0, 1, 2)
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_what_was_delivered_is_waste_once_nothing_continues_it() -> None:
    books = faulty(1, 1, 1)
    with pytest.raises(StreamInterrupted):
        await books.perform(VISIBLE)
    assert books.wasted == 3
    assert books.done == []
    assert len(books.failures) == 1
    books.assert_closed()


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "ended without a reason"])
@ON_BOTH_BACKENDS
async def test_a_visible_call_that_lacks_only_its_end_is_ended(*, is_cut: bool) -> None:
    books = faulty(2 if is_cut else None, change=lambda delta: replace(delta, finish_reason=None))
    await books.perform(replace(VISIBLE, sampling=Sampling(max_tokens=2)))

    assert books.texts == ["one two"]
    assert books.done[0].finish_reason == "length"
    assert books.seen[-1][0].finish_reason == "length"
    assert [(bill.end, bill.usage) for bill in books.bills] == [
        ("finished", Usage(prompt=10, completion=2))
    ]
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_stream_that_breaks_after_everything_was_finished_has_not_failed() -> None:
    def plan(_call: Call, _number: int) -> Any:
        for index in range(2):
            yield Delta(index=index, text="yes", tokens=1, finish_reason="stop")
        yield StreamInterrupted("no usage came")

    books = Books(PlannedEngine(plan=plan))
    await books.perform(replace(CALL, n=2))
    assert books.texts == ["yes", "yes"]
    assert [bill.end for bill in books.bills] == ["finished"]
    assert books.bills[0].is_estimated
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_visible_call_without_any_text_yet_starts_from_its_beginning() -> None:
    books = faulty(0)
    await books.perform(VISIBLE)
    assert books.engine.calls == [VISIBLE] * 2
    assert books.texts == ["one two three four"]


@pytest.mark.parametrize(
    ("call", "flaws"),
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
async def test_visible_text_is_never_written_twice(call: Call, flaws: dict[str, Any]) -> None:
    plan = counting([1], change=flaws.get("change", lambda delta: delta))
    lacking = flaws.get("lacking", frozenset())
    books = Books(PlannedEngine(plan=plan, lacking=lacking))
    with pytest.raises(StreamInterrupted):
        await books.perform(call)
    assert [delta.text for delta, _ in books.seen] == ["one"]
    assert [(bill.end, bill.retried) for bill in books.bills] == [("failed", False)]
    assert len(books.failures) == 1
    books.assert_closed()


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
async def test_what_would_fail_again_is_attempted_once(
    failure: Callable[[], SecondpassError],
) -> None:
    books = faulty(0, failure=failure)
    with pytest.raises(type(failure())):
        await books.perform()
    assert len(books.engine.calls) == 1
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_the_last_attempts_error_is_raised_and_counted_once_with_its_role() -> None:
    books = faulty(0, 0, 0, failure=lambda: EngineUnavailable("down"))
    with pytest.raises(EngineUnavailable, match="down") as error:
        await books.perform()
    assert [bill.retried for bill in books.bills] == [True, True, False]
    assert books.failures == [error.value]
    assert error.value.role == "actor"
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_call_whose_completions_are_all_empty_fails_without_another_attempt() -> None:
    books = Books(PlannedEngine(plan=lambda *_: [Delta(text=" ", tokens=1, finish_reason="stop")]))
    with pytest.raises(UnusableCompletion) as error:
        await books.perform()
    assert books.failures == [error.value]
    assert [bill.end for bill in books.bills] == ["failed"]
    assert books.wasted == 1
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_spent_budget_is_not_counted_as_a_failure() -> None:
    books = Books(PlannedEngine(plan=counting()), {"max_tokens": 2})
    with pytest.raises(BudgetExhausted):
        await books.perform()
    assert books.failures == []
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_an_engine_that_names_a_time_is_left_alone_until_then() -> None:
    books = faulty(0, failure=lambda: EngineUnavailable("busy", retry_after=0.2))
    start = anyio.current_time()
    await books.perform()
    assert 0.2 <= anyio.current_time() - start < 2


@ON_BOTH_BACKENDS
async def test_a_time_beyond_the_longest_pause_is_not_waited_for() -> None:
    books = faulty(0, failure=lambda: EngineUnavailable("busy", retry_after=3600))
    with anyio.fail_after(1), pytest.raises(EngineUnavailable):
        await books.perform()
    assert len(books.engine.calls) == 1


@ON_BOTH_BACKENDS
async def test_neither_a_slot_nor_a_lease_is_held_during_a_pause() -> None:
    books = Books(
        PlannedEngine(
            plan=counting([1], failure=lambda: EngineUnavailable("busy", retry_after=0.2))
        ),
        places=1,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(books.perform)
        await anyio.sleep(0.1)
        assert books.upstream.admission.in_flight == 0
        assert not books.budget.holdings
        assert books.budget.spent["samples"] == 0
        assert len(books.bills) == 1
    assert len(books.engine.calls) == 2
    assert all(bill.seconds < 0.15 for bill in books.bills)
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_cancelling_a_call_ends_its_pauses_and_salvages_what_is_usable() -> None:
    books = Books(
        PlannedEngine(
            plan=counting([2], failure=lambda: EngineUnavailable("busy", retry_after=20))
        ),
        usable=lambda completion: bool(completion.text),
    )
    with anyio.move_on_after(0.05) as scope:
        await books.perform()
    assert scope.cancelled_caught
    assert [completion.text for completion in books.salvaged] == ["one two"]
    assert books.wasted == 0
    assert len(books.engine.calls) == 1
    books.assert_closed()


@pytest.mark.parametrize("cuts", [(), (2,)])
@ON_BOTH_BACKENDS
async def test_an_abandoned_call_closes_its_stream_at_once_and_its_tokens_are_waste(
    cuts: tuple[int, ...],
) -> None:
    books = faulty(*cuts)
    with anyio.CancelScope() as scope:
        await books.calls.perform(
            CALL,
            books.done.append,
            on_delta=lambda delta, _: scope.cancel() if delta.text == " two" else None,
        )
    assert scope.cancelled_caught
    assert books.engine.closed == len(books.engine.calls) == 1  # type: ignore[attr-defined]
    assert [(bill.end, bill.wasted) for bill in books.bills] == [("cancelled", 2)]
    assert books.wasted == 2
    books.assert_closed()


def test_what_is_known_of_a_role_that_no_engine_plays() -> None:
    calls = Books(ScriptedEngine(lacking=frozenset({"schema"}))).calls
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


def test_no_policy_without_an_attempt() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RetryPolicy(attempts=0)


def test_a_call_is_attempted_three_times_unless_the_policy_says_otherwise() -> None:
    policy = RetryPolicy()
    assert (policy.attempts, policy.first_pause, policy.longest_pause) == (3, 0.2, 30.0)
    failure = StreamInterrupted("interrupted")
    assert [policy.may_retry(failure, number) for number in (1, 2, 3)] == [True, True, False]


class Text:
    """What an attempt holds while it runs."""


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
    ids=["done", "retried", "cut", "refused", "broken", "cancelled"],
)
@ON_BOTH_BACKENDS
async def test_what_an_attempt_holds_is_freed_at_its_end_without_a_collection(
    plan: list[Exception | float | None],
) -> None:
    held: list[weakref.ref[Text]] = []
    left = list(plan)

    async def attempt(_: int) -> None:
        text = Text()
        held.append(weakref.ref(text))
        match left.pop(0):
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
                await RetryPolicy(2, first_pause=0.001).run(attempt)
        except (SecondpassError, ValueError):
            pass

    gc.disable()
    try:
        await attempts()
        await anyio.lowlevel.checkpoint()  # the event loop holds a cancellation until its next step
        for error in plan:
            if isinstance(error, Exception):
                error.__traceback__ = None  # the test itself holds the errors
        assert [each() for each in held] == [None] * len(plan)
    finally:
        gc.enable()

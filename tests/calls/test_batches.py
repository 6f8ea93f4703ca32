"""A request for several completions whose stream breaks: what was finished stays, the rest is asked for again."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import BudgetExhausted, CallRejected, StreamInterrupted
from secondpass.strategies.api.values import Sampling, Usage
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, Books, PlannedEngine

pytestmark = pytest.mark.anyio
BATCH = replace(CALL, n=5, index=10)
SEEDED = replace(BATCH, sampling=Sampling(max_tokens=20, seed=100))


def drawn(call: Call, number: int, *, finished: Iterable[int], is_cut: bool) -> Iterable[Any]:
    """Two tokens of each completion, with the text of its seed or request; without their ends but for `finished`."""
    for position in range(call.n):
        seed = call.sampling.seed
        text = f"{number}-{position}" if seed is None else str(seed + position)
        usage = Usage(prompt=10, completion=2 * position + 2)
        yield Delta(index=position, text=text, tokens=1, token_ids=(1,))
        reason: Any = "stop" if position in finished or not is_cut else None
        yield Delta(position, ".", "", 1, (2,), reason, usage)
    if is_cut:
        yield StreamInterrupted("interrupted")


def breaking(**finished: Iterable[int]) -> Books:
    """Request i breaks with the positions `_i` finished; those that are not named are whole."""

    def plan(call: Call, number: int) -> Iterable[Any]:
        done = finished.get(f"_{number}")
        return drawn(call, number, finished=done or (), is_cut=done is not None)

    return Books(PlannedEngine(plan=plan))


def indices(books: Books) -> list[int]:
    return [completion.index for completion in books.done]


@pytest.mark.parametrize("finished", [[], [0], [1, 3], [0, 1, 2, 3]])
@ON_BOTH_BACKENDS
async def test_only_what_is_missing_is_asked_for_again(finished: list[int]) -> None:
    books = breaking(_0=finished)
    await books.perform(BATCH)

    missing = [10 + position for position in range(5) if position not in finished]
    assert Counter(indices(books)) == Counter(range(10, 15))
    assert indices(books)[len(finished) :] == missing
    assert [call.n for call in books.engine.calls] == [5, len(missing)]
    assert books.engine.calls[1].index == missing[0]
    assert [bill.usage.completion for bill in books.bills] == [10, 2 * len(missing)]
    assert books.budget.spent["tokens"] == books.engine.written  # type: ignore[attr-defined]
    assert books.budget.spent["samples"] == 5
    assert books.wasted == 2 * len(missing)
    assert books.failures == []
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_batch_that_breaks_twice_hands_nothing_over_twice() -> None:
    books = breaking(_0=[4, 0], _1=[1])
    await books.perform(BATCH)
    assert indices(books) == [10, 14, 12, 11, 13]
    assert [call.n for call in books.engine.calls] == [5, 3, 2]
    assert books.texts == ["0-0.", "0-4.", "1-1.", "2-0.", "2-1."]
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_batch_that_never_ends_keeps_what_was_finished() -> None:
    books = breaking(_0=[2], _1=[], _2=[0])
    with pytest.raises(StreamInterrupted):
        await books.perform(BATCH)
    assert indices(books) == [12, 10]
    assert len(books.failures) == 1
    assert books.wasted == books.budget.spent["tokens"] - 4
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_seeded_batch_that_broke_is_the_same_as_an_unbroken_one() -> None:
    whole, broken = breaking(), breaking(_0=[1, 3])
    await whole.perform(SEEDED)
    await broken.perform(SEEDED)

    by_index = {completion.index: completion.text for completion in broken.done}
    assert by_index == {completion.index: completion.text for completion in whole.done}
    assert len(broken.done) == 5
    later = [(call.n, call.index, call.sampling.seed) for call in broken.engine.calls[1:]]
    assert later == [(1, 10, 100), (1, 12, 102), (1, 14, 104)]
    assert [bill.attempt for bill in broken.bills] == [1, 2, 2, 2]
    assert broken.budget.spent["samples"] == 5
    assert broken.budget.spent["tokens"] == broken.engine.written  # type: ignore[attr-defined]
    broken.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_seeded_batch_of_which_nothing_was_finished_is_one_request_again() -> None:
    books = breaking(_0=[])
    await books.perform(SEEDED)
    assert [call.n for call in books.engine.calls] == [5, 5]
    assert len(books.done) == 5
    books.assert_closed()


@pytest.mark.parametrize("breaks", [1, 2])
@ON_BOTH_BACKENDS
async def test_each_missing_completion_has_the_attempts_that_are_left(breaks: int) -> None:
    seen: Counter[int] = Counter()

    def plan(call: Call, number: int) -> Iterable[Any]:
        seen[call.index] += call.n == 1
        is_cut = call.n > 1 or (call.index == 13 and seen[13] <= breaks)
        return drawn(call, number, finished=[0, 1, 2] if call.n > 1 else [], is_cut=is_cut)

    books = Books(PlannedEngine(plan=plan))
    if breaks == 1:
        await books.perform(SEEDED)
    else:
        with pytest.raises(StreamInterrupted):
            await books.perform(SEEDED)
    attempts = sorted((bill.index, bill.attempt, bill.retried) for bill in books.bills)
    assert attempts == [(10, 1, True), (13, 2, True), (13, 3, False), (14, 2, False)]
    assert sorted(indices(books)) == [10, 11, 12, *([13] if breaks == 1 else []), 14]
    assert len(books.failures) == breaks - 1
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_one_missing_completion_that_fails_keeps_the_others() -> None:
    def plan(call: Call, number: int) -> Iterable[Any]:
        if number and call.index == 10:
            return [CallRejected("no")]
        return drawn(call, number, finished=[1], is_cut=not number)

    books = Books(PlannedEngine(plan=plan))
    with pytest.raises(CallRejected) as error:
        await books.perform(SEEDED)
    assert indices(books) == [11, 12, 13, 14]
    assert books.failures == [error.value]
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_an_empty_completion_among_others_is_no_failure() -> None:
    def plan(call: Call, number: int) -> Iterable[Any]:
        if number and call.index == 10:
            return [Delta(tokens=1, finish_reason="stop")]
        return drawn(call, number, finished=[1], is_cut=not number)

    books = Books(PlannedEngine(plan=plan))
    await books.perform(SEEDED)
    assert indices(books) == [11, 12, 13, 14]
    assert books.failures == []
    books.assert_closed()


@pytest.mark.parametrize("call", [BATCH, SEEDED], ids=["unseeded", "seeded"])
@ON_BOTH_BACKENDS
async def test_a_second_attempt_within_the_limit_of_samples(call: Call) -> None:
    books = breaking(_0=[0, 2])
    books.budget.limit = {"samples": 5}
    await books.perform(call)
    assert books.budget.spent["samples"] == 5
    assert len(books.done) == 5
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_second_attempt_that_does_not_fit_leaves_what_was_finished() -> None:
    books = breaking(_0=[0, 2])
    books.budget.limit = {"calls": 1}
    with pytest.raises(BudgetExhausted) as error:
        await books.perform(BATCH)
    assert error.value.kind == "calls"
    assert indices(books) == [10, 12]
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_finished_completion_stays_finished_whatever_else_is_streamed() -> None:
    def plan(_call: Call, _number: int) -> Iterable[Any]:
        for _ in range(2):
            yield Delta(index=0, text="yes", tokens=1, finish_reason="stop")
        yield Delta(index=1, text="no", tokens=1, finish_reason="stop")

    books = Books(PlannedEngine(plan=plan))
    await books.perform(replace(CALL, n=2))
    assert books.texts == ["yes", "no"]
    assert books.budget.spent["tokens"] == 3
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_broken_batch_of_an_engine_that_counts_at_the_end() -> None:
    def plan(call: Call, number: int) -> Iterable[Any]:
        for position in range(call.n):
            is_finished = position == 0 or number
            yield Delta(position, "abcd", finish_reason="stop" if is_finished else None)
        yield (
            Delta(usage=Usage(prompt=3, completion=4 * call.n))
            if number
            else StreamInterrupted("interrupted")
        )

    books = Books(
        PlannedEngine(plan=plan, lacking=frozenset({"token_counts"})), {"max_tokens": 500}
    )
    await books.perform(BATCH)
    first, second = books.bills
    assert (first.usage.completion, first.is_estimated, first.wasted) == (100, True, 80)
    assert (second.usage.completion, second.is_estimated, second.wasted) == (16, False, 0)
    assert len(books.done) == 5
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_batch_that_is_left_while_its_parts_run_closes_all_of_them() -> None:
    books = breaking(_0=[1])
    books.engine.first_token = 1
    with anyio.CancelScope() as scope:
        await books.calls.perform(
            SEEDED,
            books.done.append,
            on_delta=lambda *_: scope.cancel() if len(books.engine.calls) > 2 else None,
        )
    assert scope.cancelled_caught
    assert books.engine.closed == len(books.engine.calls)  # type: ignore[attr-defined]
    assert len(set(indices(books))) == len(books.done)
    books.assert_closed()

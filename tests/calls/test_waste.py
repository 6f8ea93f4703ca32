"""Which tokens count as used: what is handed over, continued or made a candidate of."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from secondpass.service.calls.in_flight import shares
from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.calls.waste import Waste
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import BudgetExhausted, StreamInterrupted
from secondpass.strategies.api.values import Completion, Segment, Usage
from secondpass.strategies.continuation.segments import truncated
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, WORDS, Books, PlannedEngine, counting, need

pytestmark = pytest.mark.anyio
RESUMABLE = replace(CALL, resumable=True, visible=True)


def books_of(**how: Any) -> Books:
    return Books(PlannedEngine(plan=counting(**how)))


async def abandon(books: Books, after: int) -> Completion:
    """Leave a resumable call after so many deltas; returns what had arrived."""

    def look(delta: Delta, partial: PartialCompletion) -> None:
        books.seen.append((delta, partial))
        if len(books.seen) == after:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await books.calls.perform(RESUMABLE, books.done.append, on_delta=look)
    return books.seen[-1][1].completion


@ON_BOTH_BACKENDS
async def test_what_is_abandoned_is_waste() -> None:
    books = books_of()
    await abandon(books, 3)
    assert books.wasted == 3 == books.bills[0].wasted


@ON_BOTH_BACKENDS
async def test_what_is_truncated_and_continued_is_used() -> None:
    books = books_of()
    completion = await abandon(books, 3)
    for kept in ("one", "one two", "one"):
        part = truncated(completion, len(kept))
        assert part is not None
        books.calls.waste.keep(part)
    assert books.wasted == 1


@ON_BOTH_BACKENDS
async def test_tokens_that_are_kept_before_their_call_ends_are_never_billed_as_waste() -> None:
    books = books_of()

    def keep(_: Delta, partial: Any) -> None:
        books.calls.waste.keep(partial.completion)
        if partial.tokens == 3:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await books.calls.perform(RESUMABLE, books.done.append, on_delta=keep)
    assert books.bills[0].wasted == books.wasted == 0


@ON_BOTH_BACKENDS
async def test_a_finished_completion_is_used_unless_it_is_dropped() -> None:
    books = books_of()
    await books.perform()
    assert books.wasted == 0
    books.calls.waste.drop(books.done[0])
    assert books.wasted == 4
    books.calls.waste.keep(books.done[0])
    assert books.wasted == 0


@ON_BOTH_BACKENDS
async def test_of_a_dropped_completion_what_was_kept_of_it_is_used() -> None:
    books = books_of()
    await books.perform(RESUMABLE)
    books.calls.waste.drop(books.done[0])
    part = truncated(books.done[0], len("one two"))
    assert part is not None
    books.calls.waste.keep(part)
    assert books.wasted == 2


@ON_BOTH_BACKENDS
async def test_a_completion_over_two_attempts_is_used_or_dropped_as_one() -> None:
    books = books_of(cuts=[2])
    await books.perform(RESUMABLE)
    assert len(books.bills) == 2
    assert books.wasted == 0
    books.calls.waste.drop(books.done[0])
    assert books.wasted == 4
    part = truncated(books.done[0], len("one two three"))
    assert part is not None
    books.calls.waste.keep(part)
    assert books.wasted == 1


@ON_BOTH_BACKENDS
async def test_without_ids_a_kept_part_counts_by_its_characters() -> None:
    books = books_of(change=lambda delta: replace(delta, token_ids=()))
    await books.perform(RESUMABLE)
    books.calls.waste.drop(books.done[0])
    (part,) = [replace(books.done[0], segments=books.done[0].segments[:2])]
    books.calls.waste.keep(part)
    assert len("one two") / len("".join(WORDS)) * 4 == pytest.approx(1.56, abs=0.01)
    assert books.wasted == 2


@ON_BOTH_BACKENDS
async def test_tokens_counted_at_the_end_are_shared_by_characters() -> None:
    def plan(_: Call, __: int) -> Any:
        yield Delta(0, "a" * 30, finish_reason="stop")
        yield Delta(1, " " * 10, finish_reason="stop")
        yield Delta(usage=Usage(prompt=1, completion=8))

    books = Books(PlannedEngine(plan=plan, lacking=frozenset({"token_counts"})))
    await books.perform(replace(CALL, n=2))
    assert books.bills[0].wasted == books.wasted == 2  # the second one is empty


@ON_BOTH_BACKENDS
async def test_what_does_not_fit_into_the_budget_is_neither_spent_nor_wasted() -> None:
    books = Books(PlannedEngine(plan=counting()), {"max_tokens": 2}, usable=lambda _: True)

    def plan(_: Call, __: int) -> Any:
        yield Delta(text="one two", tokens=2)
        yield Delta(text=" three", tokens=1)

    books.engine.plan = plan  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="spent"):
        await books.perform()
    assert books.texts == ["one two"]
    assert books.bills[0].wasted == books.wasted == 0


@ON_BOTH_BACKENDS
@pytest.mark.parametrize(("held", "spent"), [(0, 2), (4, 7)])
async def test_no_more_is_waste_than_was_spent_where_the_engine_counts_what_does_not_fit(
    held: int, spent: int
) -> None:
    """Also where they do fit by the end of the stream, since a sibling returned the tokens that it `held`."""
    books = Books(PlannedEngine(), {"max_tokens": 4 + held})
    books.lengths.add(("test", "actor", "solve", books.engine.model), 2)
    sibling = await books.budget.lease(need(held)) if held else None

    def plan(*_: Any) -> Any:
        try:
            yield Delta(text="one", tokens=2, usage=Usage(prompt=10, completion=2))
            yield Delta(text=" two", tokens=5, usage=Usage(prompt=10, completion=7))
        finally:
            if sibling is not None:
                sibling.settle(Usage())

    books.engine.plan = plan  # type: ignore[attr-defined]
    with pytest.raises(BudgetExhausted):
        await books.perform()
    assert books.budget.spent["tokens"] == spent
    assert books.wasted == spent == books.bills[0].wasted


def test_text_that_a_strategy_inserted_is_of_no_source() -> None:
    waste = Waste()
    source = waste.open("actor")
    waste.deliver(source, 2, 6)
    waste.keep(Completion(messages=(), segments=(Segment("long inserted text"),)))
    assert waste.wasted() == {"actor": 2}
    waste.keep(Completion(messages=(), segments=(Segment("abc", (1,), source=source),)))
    assert waste.wasted() == {"actor": 1}


def test_roles_are_counted_apart() -> None:
    waste = Waste()
    for role in ("actor", "judge"):
        waste.deliver(waste.open(role), 3)
    waste.use([1])
    assert waste.wasted() == {"actor": 3, "judge": 0}


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [(7, [1, 1, 1], [2, 2, 3]), (5, [0, 0], [5, 0]), (5, [0, 2], [0, 5]), (0, [3], [0])],
)
def test_shares_add_up_to_the_total(total: int, weights: list[int], expected: list[int]) -> None:
    assert shares(total, weights) == expected


def test_a_part_of_each_of_two_sources_is_kept() -> None:
    waste = Waste()
    first, second = waste.open("actor"), waste.open("actor")
    waste.deliver(first, 4, 4)
    waste.deliver(second, 5, 5)
    kept = (
        Segment("a", (1,), source=first),
        Segment("b", (2,), source=first),
        Segment("Wait."),
        Segment("c", (3,), source=second),
    )
    waste.keep(Completion(messages=(), segments=kept))
    assert (waste.of([first]), waste.of([second])) == (2, 4)
    assert waste.wasted() == {"actor": 6}


def test_a_kept_text_is_kept_with_the_tokens_that_hold_none_of_it() -> None:
    waste = Waste()
    source = waste.open("actor")
    waste.deliver(source, 3, 2)  # the third one ended the text
    kept = (Segment("a", (1,), source=source), Segment("b", (2,), source=source))
    waste.keep(Completion(messages=(), segments=kept[:1]))
    assert waste.of([source]) == 2
    waste.keep(Completion(messages=(), segments=kept))
    assert waste.of([source]) == 0


@ON_BOTH_BACKENDS
@pytest.mark.parametrize("is_finished", [True, False])
async def test_tokens_that_only_the_last_usage_reports_are_waste_of_what_did_not_finish(
    is_finished: bool,
) -> None:
    def plan(*_: Any) -> Any:
        yield Delta(text="one two", tokens=2, usage=Usage(prompt=10, completion=2))
        yield Delta(finish_reason="stop" if is_finished else None)
        yield Delta(usage=Usage(prompt=10, completion=5))

    books = Books(PlannedEngine(plan=plan), attempts=1)
    if is_finished:
        await books.perform()
    else:
        with pytest.raises(StreamInterrupted):
            await books.perform()
    assert books.budget.spent["tokens"] == 5
    assert books.wasted == (0 if is_finished else 5)
    books.calls.waste.keep(books.seen[0][1].completion)
    assert books.wasted == (0 if is_finished else 3)

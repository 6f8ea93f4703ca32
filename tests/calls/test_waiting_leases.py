"""Calls that wait for a lease, and the leases of further attempts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import anyio
import pytest

from secondpass.service.calls.budget import Budget, Lease
from secondpass.service.common.limits import Limits
from secondpass.strategies.api.errors import BudgetExhausted, EngineUnavailable
from secondpass.strategies.api.values import Usage
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
)
from tests.calls.calls_support import CALL, Books, PlannedEngine, counting, need


@dataclass
class Queue:
    """Calls that ask for a lease one after the other; `served` are the names of those that got one, or the limit."""

    budget: Budget
    served: list[str] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)

    async def ask(self, name: str, tokens: int) -> None:
        try:
            self.leases[name] = await self.budget.lease(need(expected=tokens))
        except BudgetExhausted as error:
            name = f"{name}: {error.kind}"
        self.served.append(name)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_waiting_calls_are_served_in_order_of_arrival() -> None:
    queue = Queue(Budget(Limits(max_tokens=100)))
    first = await queue.budget.lease(need(expected=100))
    async with anyio.create_task_group() as group:
        for name, tokens in [("a", 30), ("b", 60), ("c", 30), ("d", 10)]:
            group.start_soon(queue.ask, name, tokens)
            await anyio.wait_all_tasks_blocked()
        first.settle(Usage())
        held = sum(each.holds("tokens") for each in queue.budget.holdings)
        assert held == 30 + 60 + 10  # at once: no later call can come in between
        await anyio.wait_all_tasks_blocked()
        assert sorted(queue.served) == ["a", "b", "d"]
        queue.leases["b"].settle(Usage(completion=60))
        queue.leases["a"].settle(Usage(completion=5))
        await anyio.wait_all_tasks_blocked()
        assert queue.served[3:] == []
        queue.leases["d"].settle(Usage(completion=10))
    assert queue.served[3:] == ["c: tokens"]


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_waiting_call_that_is_cancelled_as_its_lease_is_granted_returns_it() -> None:
    budget = Budget(Limits(max_tokens=100, max_calls=3, max_samples=3))
    queue = Queue(budget)
    first = await budget.lease(need(expected=100))
    scope = anyio.CancelScope()

    async def ask() -> None:
        with scope:
            await queue.ask("cancelled", 80)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(queue.ask, "next", 90)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()  # it has not seen that yet when its lease is granted
        first.settle(Usage())
        assert budget.spent["calls"] == 2
    assert queue.served == ["next"]
    assert (budget.spent["calls"], budget.spent["samples"]) == (2, 2)
    queue.leases["next"].settle(Usage())
    assert not budget.holdings


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_waiting_call_that_is_cancelled_leaves_the_queue() -> None:
    budget = Budget(Limits(max_tokens=100))
    first = await budget.lease(need(expected=100))
    with anyio.move_on_after(0.01) as scope:
        await budget.lease(need(expected=50))
    assert scope.cancelled_caught
    first.settle(Usage())
    assert (budget.spent["calls"], budget.holdings) == (1, set())


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_the_first_call_takes_what_there_is_in_its_second_attempt_too() -> None:
    books = Books(PlannedEngine(plan=counting([2])), {"max_tokens": 10})
    await books.perform()  # it would take 20 tokens
    assert [call.sampling.max_tokens for call in books.engine.calls] == [10, 8]
    assert books.texts == ["one two three four"]
    books.assert_closed()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_later_call_starts_another_attempt_only_with_its_expected_length() -> None:
    books = Books(PlannedEngine(plan=counting([None, 2])), {"max_tokens": 25})
    await books.perform()
    books.lengths.add(("test", "actor", "solve", "scripted"), 22)
    with pytest.raises(BudgetExhausted):
        await books.perform()
    assert len(books.engine.calls) == 2
    books.assert_closed()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_what_is_reserved_is_kept_for_the_next_attempt_of_its_call() -> None:
    books = Books(
        PlannedEngine(
            plan=counting([1], failure=lambda: EngineUnavailable("busy", retry_after=0.1))
        ),
        {"max_tokens": 40},
    )
    reserved = books.budget.reserve(30)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: books.perform(reserved=reserved))
        await anyio.sleep(0.05)
        assert books.budget.held("tokens") == 30
        with pytest.raises(BudgetExhausted):
            await books.budget.lease(need(expected=20))
    reserved.release()
    assert books.texts == ["one two three four"]
    books.assert_closed()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_continued_answer_goes_as_far_as_the_budget_does() -> None:
    books = Books(
        PlannedEngine(plan=counting([2])), {"max_tokens": 3}, usable=lambda found: bool(found.text)
    )
    with pytest.raises(BudgetExhausted):
        await books.perform(replace(CALL, visible=True))
    assert books.texts == ["one two three"]
    assert books.budget.spent["samples"] == 1
    assert [bill.usage.completion for bill in books.bills] == [2, 1]
    assert books.wasted == 0
    books.assert_closed()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
@pytest.mark.parametrize("limit", ["max_calls", "max_prompt_tokens"])
async def test_an_answer_that_cannot_be_continued_is_handed_over_as_it_is(limit: str) -> None:
    books = Books(
        PlannedEngine(plan=counting([2])),
        {limit: 1 if limit == "max_calls" else 15},
        usable=lambda found: bool(found.text),
    )
    with pytest.raises(BudgetExhausted):
        await books.perform(replace(CALL, visible=True))
    assert books.texts == ["one two"]
    assert books.budget.spent["samples"] == 1
    assert books.wasted == 0
    assert books.failures == []
    books.assert_closed()

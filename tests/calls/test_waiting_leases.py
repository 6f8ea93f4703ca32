"""Calls that wait for a lease, and leases of retries."""

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
from tests.calls.calls_support import CALL, CallHarness, PlannedEngine, counting, lease_request


@dataclass
class Queue:
    """Calls that request leases in order.

    `served` contains the names of the served calls, with the limit that was exhausted, if any.
    """

    budget: Budget
    served: list[str] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)

    async def lease(self, name: str, tokens: int) -> None:
        try:
            self.leases[name] = await self.budget.lease(lease_request(tokens, cap=tokens))
        except BudgetExhausted as error:
            name = f"{name}: {error.kind}"
        self.served.append(name)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_waiting_calls_are_served_in_order_of_arrival() -> None:
    queue = Queue(Budget(Limits(max_tokens=100)))
    first = await queue.budget.lease(lease_request(expected=100))
    async with anyio.create_task_group() as group:
        for name, tokens in [("a", 30), ("b", 60), ("c", 30), ("d", 10)]:
            group.start_soon(queue.lease, name, tokens)
            await anyio.wait_all_tasks_blocked()
        first.settle(Usage())
        assert queue.budget.committed("tokens") == 30 + 60 + 10  # before any waiter runs
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
async def test_a_call_cancelled_while_its_lease_is_granted_releases_it() -> None:
    budget = Budget(Limits(max_tokens=100, max_calls=3, max_samples=3))
    queue = Queue(budget)
    first = await budget.lease(lease_request(expected=100))
    scope = anyio.CancelScope()

    async def lease() -> None:
        with scope:
            await queue.lease("cancelled", 80)

    async with anyio.create_task_group() as group:
        group.start_soon(lease)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(queue.lease, "next", 90)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()  # not delivered yet when the lease is granted
        first.settle(Usage())
        assert budget.spent["calls"] == 2
    assert queue.served == ["next"]
    assert (budget.spent["calls"], budget.spent["samples"]) == (2, 2)
    queue.leases["next"].settle(Usage())
    assert not budget.holdings


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_cancelled_call_is_removed_from_the_queue() -> None:
    budget = Budget(Limits(max_tokens=100))
    first = await budget.lease(lease_request(expected=100))
    with anyio.move_on_after(0.01) as scope:
        await budget.lease(lease_request(expected=50))
    assert scope.cancelled_caught
    first.settle(Usage())
    assert (budget.spent["calls"], budget.holdings) == (1, set())


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_retry_of_the_first_call_takes_whatever_budget_is_left() -> None:
    harness = CallHarness(PlannedEngine(plan=counting([2])), {"max_tokens": 10})
    await harness.perform()  # asks for 20 tokens
    assert [call.sampling.max_tokens for call in harness.engine.calls] == [10, 8]
    assert harness.texts == ["one two three four"]
    harness.assert_consistent()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_retry_of_a_later_call_needs_its_expected_length() -> None:
    harness = CallHarness(PlannedEngine(plan=counting([None, 2])), {"max_tokens": 25})
    await harness.perform()
    harness.stats.lengths.add(("test", "actor", "solve", "scripted"), 22)
    with pytest.raises(BudgetExhausted):
        await harness.perform()
    assert len(harness.engine.calls) == 2
    harness.assert_consistent()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_reserve_is_kept_for_the_retry_of_its_call() -> None:
    harness = CallHarness(
        PlannedEngine(
            plan=counting([1], failure=lambda: EngineUnavailable("busy", retry_after=0.1))
        ),
        {"max_tokens": 40},
    )
    reserved = harness.budget.reserve(30)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: harness.perform(reserved=reserved))
        await anyio.sleep(0.05)
        assert harness.budget.committed("tokens") == 30
        with pytest.raises(BudgetExhausted):
            await harness.budget.lease(lease_request(expected=20))
    reserved.release()
    assert harness.texts == ["one two three four"]
    harness.assert_consistent()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_continued_answer_uses_the_remaining_budget() -> None:
    harness = CallHarness(
        PlannedEngine(plan=counting([2])),
        {"max_tokens": 3},
        is_usable=lambda completion: bool(completion.text),
    )
    with pytest.raises(BudgetExhausted):
        await harness.perform(replace(CALL, visible=True))
    assert harness.texts == ["one two three"]
    assert harness.budget.spent["samples"] == 1
    assert [record.usage.completion for record in harness.records] == [2, 1]
    assert harness.wasted == 0
    harness.assert_consistent()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
@pytest.mark.parametrize("limit", ["max_calls", "max_prompt_tokens"])
async def test_an_answer_without_budget_to_continue_is_handed_over_truncated(limit: str) -> None:
    harness = CallHarness(
        PlannedEngine(plan=counting([2])),
        {limit: 1 if limit == "max_calls" else 15},
        is_usable=lambda completion: bool(completion.text),
    )
    with pytest.raises(BudgetExhausted):
        await harness.perform(replace(CALL, visible=True))
    assert harness.texts == ["one two"]
    assert harness.budget.spent["samples"] == 1
    assert harness.wasted == 0
    assert harness.failures == []
    harness.assert_consistent()

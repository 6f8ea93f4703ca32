"""Reserves: budget set aside for a later call, its price, and its release."""

from __future__ import annotations

import pytest

from secondpass.service.calls.budget import Budget
from secondpass.service.common.limits import Limits, Price
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.values import Usage
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
)
from tests.calls.calls_support import lease_request

pytestmark = pytest.mark.anyio


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_reserve_is_not_available_to_other_calls() -> None:
    budget = Budget(Limits(max_tokens=100, max_calls=2))
    reserved = budget.reserve(40)
    lease = await budget.lease(lease_request(expected=200))
    assert lease.cap == 60
    lease.settle(Usage(completion=60))
    with pytest.raises(BudgetExhausted):
        await budget.lease(lease_request(expected=1))
    last = await budget.lease(lease_request(expected=40), reserved)
    last.settle(Usage(completion=40))
    assert (last.overrun, budget.left("tokens")) == (0, 0)
    assert not budget.holdings


@pytest.mark.anyio
async def test_an_exhausted_reserve_is_not_restored() -> None:
    budget = Budget(Limits(max_tokens=5))
    reserved = budget.reserve(5)
    lease = await budget.lease(lease_request(expected=5, cap=5), reserved)
    lease.settle(Usage(prompt=0, completion=5), void=1, is_retried=True)
    assert not budget.holdings
    assert budget.left("tokens") == 0


@pytest.mark.anyio
async def test_a_reserve_released_while_its_call_runs_is_not_restored() -> None:
    budget = Budget(Limits(max_tokens=30))
    reserved = budget.reserve(20)
    lease = await budget.lease(lease_request(expected=5, cap=5), reserved)
    reserved.release()
    lease.settle(Usage(), is_retried=True)
    assert not budget.holdings
    assert budget.left("tokens") == 30


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ((0, 0), "tokens: must be at least 1, not 0"),
        ((-5, 0), "tokens: must be at least 1, not -5"),
        ((5, -1), "prompt_tokens: must be at least 0, not -1"),
    ],
)
async def test_a_reserve_rejects_invalid_token_counts(
    amounts: tuple[int, int], message: str
) -> None:
    budget = Budget(Limits(max_tokens=30))
    with pytest.raises(ValueError, match=f"^{message}$"):
        budget.reserve(*amounts)
    assert not budget.holdings


@pytest.mark.anyio
async def test_a_reserve_is_priced_by_prompt_and_completion_tokens() -> None:
    budget = Budget(Limits(max_cost=80.0))
    price = Price(prompt=1_000_000, completion=10_000_000)
    reserved = budget.reserve(5, 3, price)
    assert budget.left("cost") == 80 - (3 * 1 + 5 * 10)
    with pytest.raises(BudgetExhausted, match="cost"):
        budget.reserve(3, 1, price)
    reserved.release()
    budget.reserve(3, 50, price)
    assert budget.left("cost") == 0


@pytest.mark.anyio
async def test_a_released_reserve_is_available_to_other_calls() -> None:
    budget = Budget(Limits(max_tokens=50, max_calls=2, max_samples=2))
    reserved = budget.reserve(20)
    assert (budget.left("tokens"), budget.left("calls"), budget.left("samples")) == (30, 1, 1)
    reserved.release()
    reserved.release()
    assert not budget.holdings
    assert (budget.left("tokens"), budget.left("calls"), budget.left("samples")) == (50, 2, 2)

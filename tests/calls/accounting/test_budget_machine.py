"""Stateful property test of the budget: leases, reserves and settlements in any order, of any engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from secondpass.service.calls.budget import Budget, BudgetReserve, Lease
from secondpass.service.calls.lease_request import LeaseRequest
from secondpass.service.common.limits import FREE, KINDS, Limits, Price
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.values import Usage

PRICES = (FREE, Price(prompt=0.1, completion=0.3), Price(completion=7.0), Price(prompt=2.0))


@dataclass
class Running:
    """An attempt in an engine, and the tokens that the engine has generated for it by its own count."""

    lease: Lease
    request: LeaseRequest
    generated: int = 0

    @property
    def cap(self) -> int:
        """Tokens that the attempt requested."""
        return self.lease.cap * self.request.n


class BudgetMachine(RuleBasedStateMachine):
    """Attempts take leases, generate tokens, and settle with a count, without one, or without a request."""

    running = Bundle("running")
    reserves = Bundle("reserves")

    @initialize(
        tokens=st.none() | st.integers(1, 100),
        prompts=st.none() | st.integers(1, 100),
        cost=st.none() | st.integers(1, 300).map(lambda millionths: millionths / 1e6),
        calls=st.none() | st.integers(1, 12),
        samples=st.none() | st.integers(1, 20),
    )
    def open(
        self,
        tokens: int | None,
        prompts: int | None,
        cost: float | None,
        calls: int | None,
        samples: int | None,
    ) -> None:
        self.budget = Budget(
            Limits(
                max_tokens=tokens,
                max_prompt_tokens=prompts,
                max_cost=cost,
                max_calls=calls,
                max_samples=samples,
            )
        )
        self.is_capped = True
        self.generated = self.prompts = 0
        self.unknown = 0
        self.overrun = 0

    @rule(
        target=running,
        prompt=st.integers(0, 40),
        cap=st.integers(1, 60),
        expected=st.integers(1, 80),
        n=st.integers(0, 4),
        price=st.sampled_from(PRICES),
        takes_remainder=st.booleans(),
        is_continuation=st.sampled_from([False, False, True]),
        reserve=st.none() | reserves,
    )
    def lease(
        self,
        prompt: int,
        cap: int,
        expected: int,
        n: int,
        price: Price,
        *,
        takes_remainder: bool,
        is_continuation: bool,
        reserve: BudgetReserve | None,
    ) -> object:
        request = LeaseRequest(
            prompt_tokens=prompt,
            cap=cap if n else 0,
            expected=lambda: expected,
            n=n,
            price=price,
            takes_remainder=takes_remainder,
            is_continuation=is_continuation,
        )
        left, was_exceeded = self.budget.left("tokens"), self.budget.exceeded is not None
        result = self.budget._try_lease(request, reserve)
        if not isinstance(result, Lease):
            assert result in KINDS
            return multiple()
        assert not was_exceeded
        assert result.cap >= 1 or not n
        assert result.reserved is not None or result.cap * n <= left
        return Running(result, request)

    @rule(target=reserves, tokens=st.integers(1, 40), prompt=st.integers(0, 20))
    def reserve(self, tokens: int, prompt: int) -> object:
        try:
            return self.budget.reserve(tokens, prompt)
        except BudgetExhausted:
            return multiple()

    @rule(reserve=consumes(reserves))
    def release(self, reserve: BudgetReserve) -> None:
        reserve.release()

    @rule(running=running, tokens=st.integers(1, 30), obeys=st.sampled_from([True, True, False]))
    def generate(self, running: Running, tokens: int, *, obeys: bool) -> None:
        """Generate tokens that the engine reports at once."""
        if obeys:
            tokens = min(tokens, running.cap - running.generated)
        if tokens:
            self.add(running, tokens)
            running.lease.take(tokens)

    @rule(
        running=consumes(running),
        tokens=st.integers(0, 60),
        prompt=st.integers(0, 60),
        obeys=st.sampled_from([True, True, True, False]),
        void=st.integers(0, 4),
        is_retried=st.booleans(),
    )
    def report(
        self,
        running: Running,
        tokens: int,
        prompt: int,
        void: int,
        *,
        obeys: bool,
        is_retried: bool,
    ) -> None:
        """Generate the last tokens and settle with the engine's count."""
        if obeys:
            tokens = min(tokens, max(0, running.cap - running.generated))
            prompt = min(prompt, running.request.prompt_tokens)
        self.is_capped &= prompt <= running.request.prompt_tokens
        self.add(running, tokens)
        self.prompts += prompt
        running.lease.settle(Usage(prompt, 0, running.generated), void=void, is_retried=is_retried)
        self.overrun += running.lease.overrun
        assert running.lease.spent == Usage(prompt, 0, running.generated)

    @rule(
        running=consumes(running),
        tokens=st.integers(0, 60),
        estimate=st.integers(0, 90),
        is_silent=st.booleans(),
        is_retried=st.booleans(),
    )
    def interrupt(
        self, running: Running, tokens: int, estimate: int, *, is_silent: bool, is_retried: bool
    ) -> None:
        """Generate tokens that the engine never reports, within its cap, and settle with an estimate."""
        self.add(running, min(tokens, max(0, running.cap - running.generated)))
        prompt = 0 if is_silent else running.request.prompt_tokens
        self.prompts += prompt
        charged = running.lease.spent.completion
        usage = Usage(prompt, 0, charged + estimate)
        running.lease.settle(usage, is_known=False, is_retried=is_retried)
        self.overrun += running.lease.overrun
        self.unknown += running.lease.spent.completion + running.lease.withheld - running.generated
        assert running.lease.spent.completion + running.lease.withheld >= running.generated

    @rule(running=consumes(running))
    def withdraw(self, running: Running) -> None:
        """End an attempt that never reached the engine."""
        if not running.generated:
            running.lease.cancel()

    def add(self, running: Running, tokens: int) -> None:
        running.generated += tokens
        self.generated += tokens
        self.is_capped &= running.generated <= running.cap

    @invariant()
    def no_limit_is_exceeded_by_more_than_the_overruns(self) -> None:
        budget = self.budget
        for kind, limit in budget.limit.items():
            assert budget.spent[kind] <= limit + budget.overrun(kind)
            if self.is_capped:
                held = budget.withheld[kind] + budget.committed(kind)
                assert budget.spent[kind] + held <= limit, kind
                assert budget.overrun(kind) == 0
        assert not (self.is_capped and budget.exceeded)

    @invariant()
    def generated_tokens_are_spent_withheld_or_leased(self) -> None:
        budget = self.budget
        held = budget.withheld["tokens"] + budget.committed("tokens")
        assert self.generated <= budget.spent["tokens"] + held or not self.is_capped
        assert budget.spent["tokens"] + budget.withheld["tokens"] == self.generated + self.unknown

    @invariant()
    def amounts_are_exact(self) -> None:
        budget = self.budget
        assert budget.spent["prompt_tokens"] == self.prompts
        for kind in KINDS:
            assert isinstance(budget.spent[kind], int | Fraction)
            assert budget.spent[kind] >= 0
            assert budget.withheld[kind] >= 0
            assert kind in budget.limit or budget.left(kind) == math.inf
        assert budget.withheld["calls"] == budget.withheld["samples"] == 0

    def teardown(self) -> None:
        if not hasattr(self, "budget"):
            return
        for holding in [*self.budget.holdings]:
            if isinstance(holding, Lease):
                holding.settle(holding.spent)
            else:
                holding.release()
        assert not self.budget.holdings


@pytest.mark.parametrize("examples", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_spent_withheld_and_leased_amounts_exceed_no_limit_in_any_order(examples: int) -> None:
    run_state_machine_as_test(
        BudgetMachine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, report_multiple_bugs=False
        ),
    )

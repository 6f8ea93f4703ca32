"""Budget of one run, enforced through leases.

Each attempt of a call takes a lease before it starts. A lease covers the prompt and every completion token that the attempt
requests. A call that cannot lease its *expected* length waits until siblings release enough, or does not start. Waiters are
served in order of arrival. Concurrent calls of engines that honour `max_tokens` can therefore never exceed a limit together.

Tokens that an engine reports are charged, also those beyond the lease. If no limit has room for them, they are an overrun,
and no further call starts. If the engine reports nothing, an estimate is charged and the rest of the lease is withheld: it
counts towards the limit until the run ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

import anyio

from secondpass.service.calls.lease_request import LeaseRequest, amounts_of
from secondpass.service.common.limits import FREE, KINDS, Amount, Amounts, Limits, Price, exact
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.handles import Reserve
from secondpass.strategies.api.values import BudgetKind, Usage


@dataclass(slots=True)
class _Waiter:
    """A queued lease request.

    `result` is its lease or the exhausted limit, and final once `is_served` is set.
    """

    request: LeaseRequest
    reserved: Reserve | None
    result: Lease | BudgetKind
    is_served: anyio.Event = field(default_factory=anyio.Event)


class Budget:
    """Token accounting of one run.

    Spent, withheld and committed amounts together never exceed a limit, except by overruns.
    With `counts_prompts`, engines that can count the tokens of a prompt do so for every call.

    Attributes:
        limit: The limited kinds.
        spent: Amounts charged.
        withheld: Amounts that attempts without a token count may have used beyond the charged estimate.
        exceeded: The first limit that an engine exceeded, or None. No call starts afterwards.
    """

    def __init__(self, limits: Limits, *, counts_prompts: bool = False) -> None:
        self.limits = limits
        self.counts_prompts = counts_prompts
        self.limit: Amounts = {
            kind: exact(value) if kind == "cost" else value
            for kind in KINDS
            if (value := getattr(limits, f"max_{kind}")) is not None
        }
        self.spent: dict[BudgetKind, Amount] = dict.fromkeys(KINDS, 0)
        self.withheld: dict[BudgetKind, Amount] = dict.fromkeys(KINDS, 0)
        self.exceeded: BudgetKind | None = None
        self.holdings: set[Lease | BudgetReserve] = set()
        self._deficit: dict[BudgetKind, Amount | float] = dict.fromkeys(KINDS, 0)
        self._waiters: list[_Waiter] = []

    def committed(self, kind: BudgetKind) -> Amount:
        """Return the amount committed to leases and reserves but not spent."""
        return sum([each.committed(kind) for each in self.holdings])

    def left(self, kind: BudgetKind) -> Amount | float:
        """Return the amount that is neither spent, withheld nor committed; infinite without a limit.

        It is negative after an overrun.
        """
        if kind not in self.limit:
            return math.inf
        return self.limit[kind] - self.spent[kind] - self.withheld[kind] - self.committed(kind)

    def overrun(self, kind: BudgetKind) -> Amount:
        """Return the amount by which the spent amount exceeds the limit."""
        return max(0, self.spent[kind] - self.limit[kind]) if kind in self.limit else 0

    def charge(self, price: Price, *, prompt: int = 0, completion: int = 0) -> None:
        """Charge tokens that are no longer committed."""
        for kind, amount in amounts_of(price, prompt, completion).items():
            self.spent[kind] += amount

    def withhold(self, price: Price, prompt: int, completion: int) -> None:
        """Count tokens that are no longer committed towards the limits, without charging them."""
        for kind, amount in amounts_of(price, prompt, completion).items():
            self.withheld[kind] += amount

    def take_excess(self, price: Price, *, prompt: int = 0, completion: int = 0) -> int:
        """Return how many of some tokens, just charged beyond their lease, no limit had room for.

        They are either prompt or completion tokens.
        """
        tokens, beyond = prompt + completion, 0
        for kind, amount in amounts_of(price, prompt, completion).items():
            deficit = -self.left(kind)
            if amount and deficit > self._deficit[kind]:
                new = Fraction(deficit - self._deficit[kind]) * tokens / amount
                beyond = max(beyond, min(tokens, math.ceil(new)))
                self._deficit[kind] = deficit
                self.exceeded = self.exceeded or kind
        return beyond

    async def lease(self, request: LeaseRequest, reserved: Reserve | None = None) -> Lease:
        """Lease the requested budget, waiting while siblings can still release enough.

        With `reserved`, lease from that reserve and get no more than it contains. Raises BudgetExhausted with the
        exhausted limit; nothing is committed then.
        """
        result = self._try_lease(request, reserved)
        if not self._is_final(result, request):
            result = await self._wait(_Waiter(request, reserved, result))
        if isinstance(result, Lease):
            return result
        raise BudgetExhausted(result)

    async def _wait(self, waiter: _Waiter) -> Lease | BudgetKind:
        self._waiters.append(waiter)
        is_served = False
        try:
            await waiter.is_served.wait()
            is_served = True
        finally:
            if not is_served:  # cancelled, possibly just as the lease was granted
                if isinstance(waiter.result, Lease):
                    waiter.result.cancel()
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)
        return waiter.result

    def _try_lease(self, request: LeaseRequest, reserved: Reserve | None) -> Lease | BudgetKind:
        """Return a lease or the exhausted limit. The call's reserve is used if it is still set aside."""
        reserve = next((each for each in self.holdings if each is reserved), None)
        return reserve.lease(request) if isinstance(reserve, BudgetReserve) else self.grant(request)

    def _is_final(self, result: Lease | BudgetKind, request: LeaseRequest) -> bool:
        """Return False while running calls could still release enough for a lease."""
        return isinstance(result, Lease) or not self._can_be_released(result, request)

    def take_sample(self) -> bool:
        """Charge one sample outside a lease. Return False, charging nothing, if none is left."""
        if self.left("samples") < 1:
            return False
        self.spent["samples"] += 1
        return True

    def reserve(self, tokens: int, prompt_tokens: int = 0, price: Price = FREE) -> BudgetReserve:
        """Set aside one call, one sample and `tokens` completion tokens.

        Raises BudgetExhausted if that exceeds what is left, and ValueError for fewer than 1 token.
        """
        if tokens < 1:
            raise ValueError(f"tokens: must be at least 1, not {tokens}")
        if prompt_tokens < 0:
            raise ValueError(f"prompt_tokens: must be at least 0, not {prompt_tokens}")
        amounts = amounts_of(price, prompt_tokens, tokens) | {"calls": 1, "samples": 1}
        for kind, amount in amounts.items():
            if self.left(kind) < amount:
                raise BudgetExhausted(kind)
        return BudgetReserve(self, tokens, amounts)

    def grant(self, request: LeaseRequest) -> Lease | BudgetKind:
        """Return a lease for `request`, or the limit that does not allow it now."""
        if (exhausted := self._exhausted(request)) is not None:
            return exhausted
        room, limit = self.room(request.price, request.prompt_tokens)
        takes_remainder = (
            request.takes_remainder or request.is_continuation or not self.spent["calls"]
        )
        if room < (request.n if takes_remainder else request.expected_tokens):
            return limit
        cap = int(min(request.cap, room // max(1, request.n)))
        self.spent["calls"] += 1
        self.spent["samples"] += request.samples
        return Lease(self, request, cap, limit, takes_remainder=takes_remainder)

    def _exhausted(self, request: LeaseRequest) -> BudgetKind | None:
        """Return a limit that does not allow the request even without completion tokens, or None."""
        needed: dict[BudgetKind, Amount] = {"calls": 1, "samples": request.samples}
        needed |= amounts_of(request.price, request.prompt_tokens, 0)
        exhausted = (kind for kind, amount in needed.items() if self.left(kind) < amount)
        return self.exceeded or next(exhausted, None)

    def room(self, price: Price, prompt_tokens: int) -> tuple[Amount | float, BudgetKind]:
        """Return the completion tokens that could be leased with such a prompt, and the binding limit."""
        tokens, money = self.left("tokens"), self.left("cost")
        if not isinstance(money, float):
            affordable = price.affords(money - price.of(prompt_tokens, 0))
            if affordable < tokens:
                return affordable, "cost"
        return tokens, "tokens"

    def _can_be_released(self, kind: BudgetKind, request: LeaseRequest) -> bool:
        """Return whether the running calls could release enough of `kind` for the smallest lease."""
        if self.exceeded is not None:
            return False
        leased = sum([each.committed(kind) for each in self.holdings if isinstance(each, Lease)])
        return leased > 0 and self.left(kind) + leased >= request.minimum.get(kind, math.inf)

    def release(self, holding: Lease | BudgetReserve) -> None:
        """Remove a lease or reserve, then serve the waiters in order of arrival."""
        self.holdings.discard(holding)
        for waiter in list(self._waiters):
            waiter.result = self._try_lease(waiter.request, waiter.reserved)
            if self._is_final(waiter.result, waiter.request):
                self._waiters.remove(waiter)
                waiter.is_served.set()


class BudgetReserve:
    """Budget set aside for one later call with `tokens` completion tokens."""

    def __init__(self, budget: Budget, tokens: int, amounts: Amounts) -> None:
        self.tokens = tokens
        self._amounts = amounts
        self._budget = budget
        self._is_released = False
        budget.holdings.add(self)

    def committed(self, kind: BudgetKind) -> Amount:
        """Return the amount of a limit that is set aside."""
        return self._amounts.get(kind, 0)

    def release(self) -> None:
        """Release the reserve permanently. Idempotent."""
        self._is_released = True
        if self in self._budget.holdings:
            self._budget.release(self)

    def lease(self, request: LeaseRequest) -> Lease | BudgetKind:
        """Return a lease from the reserve, or the exhausted limit, in which case the reserve stays set aside."""
        if self.tokens < request.n:
            return "tokens"
        self._budget.holdings.discard(self)
        cap = min(request.cap, self.tokens // max(1, request.n))
        result = self._budget.grant(replace(request, cap=cap))
        if isinstance(result, Lease):
            result.reserved = self
        else:
            self._budget.holdings.add(self)
        return result

    def restore(self) -> None:
        """Set the rest of the reserve aside again for the next attempt, unless it was released."""
        if self._is_released:
            return
        amounts = {
            kind: _at_most(self._budget.left(kind), amount)
            for kind, amount in self._amounts.items()
        }
        if amounts["tokens"] > 0:
            self._amounts = amounts
            self._budget.holdings.add(self)


class Lease:
    """Budget leased to one attempt of a call.

    Attributes:
        cap: Maximum tokens to request for each completion.
        binding_limit: The limit that allows the fewest tokens.
        overrun: Tokens charged for which no limit had room.
        withheld: Completion tokens withheld when the lease was settled.
        takes_remainder: The lease may be smaller than expected; see `LeaseRequest`.
        reserved: The reserve that the lease was taken from.
    """

    def __init__(
        self,
        budget: Budget,
        request: LeaseRequest,
        cap: int,
        binding_limit: BudgetKind,
        *,
        takes_remainder: bool,
    ) -> None:
        self._budget = budget
        self._request = request
        self._prompt = request.prompt_tokens
        self._tokens = cap * request.n
        self._spent_prompt = self._spent_completion = 0
        self.cap = cap
        self.binding_limit = binding_limit
        self.overrun = self.withheld = 0
        self.takes_remainder = takes_remainder
        self.reserved: BudgetReserve | None = None
        budget.holdings.add(self)

    def committed(self, kind: BudgetKind) -> Amount:
        """Return the amount of a limit that is leased but not spent."""
        return amounts_of(self._request.price, self._prompt, self._tokens).get(kind, 0)

    @property
    def is_reduced(self) -> bool:
        """True if the budget allows fewer tokens than the call asked for."""
        return self.cap < self._request.cap

    @property
    def exceeded(self) -> BudgetKind | None:
        """A limit that the charged tokens exceed, or None."""
        return self._budget.exceeded if self.overrun else None

    @property
    def prompt(self) -> int:
        """Prompt tokens leased; 0 once the lease is settled."""
        return self._prompt

    @property
    def spent(self) -> Usage:
        """Usage charged so far."""
        return Usage(prompt=self._spent_prompt, completion=self._spent_completion)

    def take(self, tokens: int) -> None:
        """Charge completion tokens that the engine reported, also beyond the lease."""
        price, excess = self._request.price, tokens - self._tokens
        self._tokens = max(0, -excess)
        self._spent_completion += tokens
        self._budget.charge(price, completion=tokens)
        if excess > 0:
            self.overrun += self._budget.take_excess(price, completion=excess)

    def settle(
        self, usage: Usage, *, is_known: bool = True, void: int = 0, is_retried: bool = False
    ) -> None:
        """Charge the attempt's usage and release the rest of the lease.

        Args:
            usage: Tokens that the attempt used.
            is_known: False if the completion tokens are an estimate. At most the lease is charged then, and its rest
                is withheld; also the prompt if none was charged.
            void: Number of completions whose samples are returned.
            is_retried: Set aside the rest of the call's reserve again, for the next attempt.
        """
        price, prompt = self._request.price, usage.prompt
        completion = max(0, usage.completion - self._spent_completion)
        if not is_known:
            completion = min(completion, self._tokens)
            self.withheld = self._tokens - completion
            self._budget.withhold(price, 0 if prompt else self._prompt, self.withheld)
        beyond = max(0, prompt - self._prompt), max(0, completion - self._tokens)
        self._prompt = self._tokens = 0
        self._spent_prompt += prompt
        self._spent_completion += completion
        self._budget.charge(price, prompt=prompt, completion=completion)
        self.overrun += self._budget.take_excess(price, prompt=beyond[0])
        self.overrun += self._budget.take_excess(price, completion=beyond[1])
        self._end(samples=min(void, self._request.samples), is_restored=is_retried)

    def cancel(self) -> None:
        """Release everything, including the call and its samples: the attempt never reached the engine."""
        self._budget.spent["calls"] -= 1
        self._end(samples=self._request.samples, is_restored=True)

    def _end(self, *, samples: int, is_restored: bool) -> None:
        self._prompt = self._tokens = 0
        self._budget.spent["samples"] -= samples
        if is_restored and self.reserved is not None:
            self.reserved.restore()
        self._budget.release(self)


def _at_most(left: Amount | float, amount: Amount) -> Amount:
    """Return the smaller of `left` and `amount`; a float `left` is infinite."""
    return amount if isinstance(left, float) or amount <= left else max(0, left)

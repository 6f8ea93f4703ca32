"""Budget of one run, enforced through leases.

Each attempt of a call takes a lease before it starts. A lease covers the prompt and the *expected* completion length, and
grows in blocks while tokens are delivered. A call that cannot lease its expected length waits until siblings release
enough, or does not start. Waiters are served in order of arrival. Tokens are charged as they are delivered, and the rest
of a lease is released when it is settled. Concurrent calls can therefore never exceed a limit together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import anyio

from secondpass.service.common.limits import FREE, KINDS, Amount, Amounts, Limits, Price, exact
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.handles import Reserve
from secondpass.strategies.api.values import BudgetKind, Usage

BLOCK = 32
"""Tokens by which a lease grows beyond its expected length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """Budget that one attempt of a call asks for.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        cap: Maximum completion tokens of each of the `n` completions; 0 for a call that generates nothing.
        expected: Returns the expected tokens of one completion. Evaluated again while the request waits.
        n: Number of completions; 0 for a call that generates nothing.
        price: Price of the tokens.
        is_upfront: Lease all `n * cap` tokens at once, for engines that report token counts only at the end.
        takes_remainder: Accept fewer tokens than expected, as the first call of a run does.
        is_continuation: The attempt continues completions of an earlier one. It accepts fewer tokens than expected and
            is not charged for further samples.
    """

    prompt_tokens: int
    cap: int
    expected: Callable[[], int]
    n: int = 1
    price: Price = FREE
    is_upfront: bool = False
    takes_remainder: bool = False
    is_continuation: bool = False

    @property
    def samples(self) -> int:
        """Samples to charge."""
        return 0 if self.is_continuation else self.n

    @property
    def expected_tokens(self) -> int:
        """Expected completion tokens over all completions."""
        return max(1, min(self.expected(), self.cap)) * self.n


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
    """Token accounting of one run. Spent and committed amounts together never exceed a limit.

    With `counts_prompts`, engines that can count the tokens of a prompt do so for every call.
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
        self.holdings: set[Lease | BudgetReserve] = set()
        self._waiters: list[_Waiter] = []

    def committed(self, kind: BudgetKind) -> Amount:
        """Return the amount committed to leases and reserves but not spent."""
        return sum([each.committed(kind) for each in self.holdings])

    def left(self, kind: BudgetKind) -> Amount | float:
        """Return the amount that is neither spent nor committed; infinite without a limit."""
        if kind not in self.limit:
            return math.inf
        return self.limit[kind] - self.spent[kind] - self.committed(kind)

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
        amounts = _amounts(price, prompt_tokens, tokens) | {"calls": 1, "samples": 1}
        for kind, amount in amounts.items():
            if self.left(kind) < amount:
                raise BudgetExhausted(kind)
        return BudgetReserve(self, tokens, amounts)

    def grant(self, request: LeaseRequest) -> Lease | BudgetKind:
        """Return a lease for `request`, or the limit that does not allow it now."""
        if self.left("calls") < 1:
            return "calls"
        if self.left("samples") < request.samples:
            return "samples"
        if self.left("prompt_tokens") < request.prompt_tokens:
            return "prompt_tokens"
        if self.left("cost") < request.price.of(request.prompt_tokens, 0):
            return "cost"
        room, limit = self.room(request.price, request.prompt_tokens)
        tokens = request.expected_tokens
        takes_remainder = (
            request.takes_remainder or request.is_continuation or not self.spent["calls"]
        )
        if tokens > room and takes_remainder:
            tokens = int(room)
        if not request.n <= tokens <= room:
            return limit
        if request.is_upfront:
            tokens = request.n * int(min(request.cap, room // request.n))
        self.spent["calls"] += 1
        self.spent["samples"] += request.samples
        return Lease(self, request, tokens, takes_remainder=takes_remainder)

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
        minimum = _amounts(request.price, request.prompt_tokens, request.n)
        leased = sum([each.committed(kind) for each in self.holdings if isinstance(each, Lease)])
        return leased > 0 and self.left(kind) + leased >= minimum.get(kind, math.inf)

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
        self._budget.holdings.discard(self)
        cap = min(request.cap, self.tokens // request.n)
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
        takes_remainder: The lease may be smaller than expected; see `LeaseRequest`.
        reserved: The reserve that the lease was taken from.
    """

    def __init__(
        self, budget: Budget, request: LeaseRequest, tokens: int, *, takes_remainder: bool
    ) -> None:
        self._budget = budget
        self._request = request
        self._prompt = request.prompt_tokens
        self._tokens = tokens
        self._spent_prompt = self._spent_completion = 0
        self.takes_remainder = takes_remainder
        self.reserved: BudgetReserve | None = None
        if request.is_upfront:
            self.cap = tokens // request.n
        else:
            self.cap = int(min(request.cap, self._ceiling()))
        budget.holdings.add(self)

    def committed(self, kind: BudgetKind) -> Amount:
        """Return the amount of a limit that is leased but not spent."""
        if kind == "tokens":
            return self._tokens
        if kind == "prompt_tokens":
            return self._prompt
        return self._request.price.of(self._prompt, self._tokens) if kind == "cost" else 0

    @property
    def is_counted(self) -> bool:
        """True if the engine reports token counts while it streams."""
        return not self._request.is_upfront

    @property
    def is_reduced(self) -> bool:
        """True if the budget allows fewer tokens than the call asked for."""
        return self.cap < self._request.cap

    @property
    def prompt(self) -> int:
        """Prompt tokens leased; 0 once the lease is settled."""
        return self._prompt

    @property
    def spent(self) -> Usage:
        """Usage charged so far."""
        return Usage(prompt=self._spent_prompt, completion=self._spent_completion)

    @property
    def estimate(self) -> Usage:
        """Usage to charge if the engine never reports it.

        The prompt, plus the delivered tokens where the engine counts them while it streams. Otherwise the prompt plus
        the whole lease.
        """
        uncounted = self._tokens if self._request.is_upfront else 0
        return Usage(prompt=self._prompt, completion=self._spent_completion + uncounted)

    @property
    def binding_limit(self) -> BudgetKind:
        """The limit that prevents the lease from growing."""
        room, kind = self._budget.room(self._request.price, 0)
        return kind if room < math.inf else "tokens"

    def take(self, tokens: int) -> bool:
        """Charge delivered completion tokens. Return False, charging nothing, if they exceed the budget."""
        if tokens > self._tokens and not self._grow(tokens - self._tokens):
            return False
        self._tokens -= tokens
        self._spend(completion=tokens)
        return True

    def settle(self, usage: Usage, *, void: int = 0, is_retried: bool = False) -> None:
        """Charge the attempt's usage and release the rest of the lease.

        Args:
            usage: Tokens that the attempt used. Completion tokens beyond the limit were not delivered and are not charged.
            void: Number of completions whose samples are returned.
            is_retried: Set aside the rest of the call's reserve again, for the next attempt.
        """
        self.take(max(0, usage.completion - self._spent_completion))
        self._spend(prompt=usage.prompt)
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

    def _spend(self, prompt: int = 0, completion: int = 0) -> None:
        self._spent_prompt += prompt
        self._spent_completion += completion
        spent = self._budget.spent
        spent["prompt_tokens"] += prompt
        spent["tokens"] += completion
        spent["cost"] += self._request.price.of(prompt, completion)

    def _ceiling(self) -> Amount | float:
        """Return the completion tokens available if every sibling released its whole lease."""
        budget, price = self._budget, self._request.price
        tokens = math.inf
        if "tokens" in budget.limit:
            tokens = int(budget.limit["tokens"] - budget.spent["tokens"])
        if "cost" not in budget.limit:
            return tokens
        money = budget.limit["cost"] - budget.spent["cost"] - price.of(self._prompt, 0)
        return min(tokens, price.affords(money))

    def _grow(self, missing: int, block: int = BLOCK) -> bool:
        room, _ = self._budget.room(self._request.price, 0)
        if room < missing:
            return False
        self._tokens += int(min(max(missing, block), room))
        return True


def _amounts(price: Price, prompt: int, tokens: int) -> dict[BudgetKind, Amount]:
    return {"prompt_tokens": prompt, "tokens": tokens, "cost": price.of(prompt, tokens)}


def _at_most(left: Amount | float, amount: Amount) -> Amount:
    """Return the smaller of `left` and `amount`; a float `left` is infinite."""
    return amount if isinstance(left, float) or amount <= left else max(0, left)

"""What a run may spend: no limit is ever passed, and siblings cannot overdraw together.

Each attempt of a call takes a lease before it starts. The lease holds the prompt and the *expected* length, and grows
in blocks while tokens are delivered; a call that cannot get what it expects waits for siblings to return enough, or
does not start. Waiting calls are served in order of arrival. Spend is counted as it is delivered, and what a lease held
and did not spend is returned when it is settled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import anyio

from secondpass.service.common.limits import FREE, KINDS, Amount, Amounts, Limits, Price, exact
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.run import Reserve
from secondpass.strategies.api.values import BudgetKind, Usage

BLOCK = 32
"""Tokens by which a lease grows past what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a call would like to lease.

    `cap` is the most completion tokens of each of its `n` completions, and `expected` their usual number, asked
    again whenever the lease waits. `is_whole` holds all `n * cap` at once: for engines that count only at the end.
    A call that writes nothing has an `n` and a `cap` of 0: it needs room for its prompt alone. One that `takes_rest` may
    start with fewer tokens than expected, as the first call of a run does. One that `continues` the completions of an
    earlier attempt does so too, and they are no further samples.
    """

    prompt_tokens: int
    cap: int
    expected: Callable[[], int]
    n: int = 1
    price: Price = FREE
    is_whole: bool = False
    takes_rest: bool = False
    continues: bool = False

    @property
    def samples(self) -> int:
        """Completions that are not counted yet."""
        return 0 if self.continues else self.n

    @property
    def usual(self) -> int:
        """Completion tokens that all completions of the call are expected to take."""
        return max(1, min(self.expected(), self.cap)) * self.n


@dataclass(slots=True)
class _Waiter:
    """A call that waits: `result` is its lease, or the limit that leaves no room for one; final once it is served."""

    need: Need
    reserved: Reserve | None
    result: Lease | BudgetKind
    is_served: anyio.Event = field(default_factory=anyio.Event)


class Budget:
    """The books of one run. What is spent and what is held never pass a limit together."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.limit: Amounts = {
            kind: exact(value) if kind == "cost" else value
            for kind in KINDS
            if (value := getattr(limits, f"max_{kind}")) is not None
        }
        self.spent: dict[BudgetKind, Amount] = dict.fromkeys(KINDS, 0)
        self.holdings: set[Lease | Reserved] = set()
        self._waiters: list[_Waiter] = []

    def held(self, kind: BudgetKind) -> Amount:
        """What running calls and reserves hold."""
        return sum([each.holds(kind) for each in self.holdings])

    def left(self, kind: BudgetKind) -> Amount | float:
        """What is neither spent nor held; infinite without a limit."""
        if kind not in self.limit:
            return math.inf
        return self.limit[kind] - self.spent[kind] - self.held(kind)

    async def lease(self, need: Need, reserved: Reserve | None = None) -> Lease:
        """Hold what the call needs, waiting for siblings if they may yet return it.

        `reserved` was set aside for this very call, which gets no more than that. Raises BudgetExhausted for the
        limit that leaves no room; nothing more is held then.
        """
        result = self._granted(need, reserved)
        if not self._is_final(result, need):
            result = await self._wait(_Waiter(need, reserved, result))
        if isinstance(result, Lease):
            return result
        raise BudgetExhausted(result)

    async def _wait(self, waiter: _Waiter) -> Lease | BudgetKind:
        self._waiters.append(waiter)
        is_over = False
        try:
            await waiter.is_served.wait()
            is_over = True
        finally:
            if not is_over:  # cancelled, perhaps at the moment in which the lease was granted
                if isinstance(waiter.result, Lease):
                    waiter.result.withdraw()
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)
        return waiter.result

    def _granted(self, need: Need, reserved: Reserve | None) -> Lease | BudgetKind:
        """A lease, out of what was reserved for the call where that is still held, or the limit that has no room."""
        held = next((each for each in self.holdings if each is reserved), None)
        return held.spend(need) if isinstance(held, Reserved) else self.grant(need)

    def _is_final(self, result: Lease | BudgetKind, need: Need) -> bool:
        """False where running calls may yet return enough for a lease."""
        return isinstance(result, Lease) or not self._may_come_back(result, need)

    def take_sample(self) -> bool:
        """Spend a sample outside of a lease. False, and nothing is spent, when none is left."""
        if self.left("samples") < 1:
            return False
        self.spent["samples"] += 1
        return True

    def reserve(self, tokens: int, prompt_tokens: int = 0, price: Price = FREE) -> Reserved:
        """Set aside one call with so many tokens. Raises BudgetExhausted when they are not there, ValueError for less than 1 token."""
        if tokens < 1:
            raise ValueError(f"tokens: at least 1, not {tokens}")
        if prompt_tokens < 0:
            raise ValueError(f"prompt_tokens: at least 0, not {prompt_tokens}")
        held = _amounts(price, prompt_tokens, tokens) | {"calls": 1, "samples": 1}
        for kind, amount in held.items():
            if self.left(kind) < amount:
                raise BudgetExhausted(kind)
        return Reserved(self, tokens, held)

    def grant(self, need: Need) -> Lease | BudgetKind:
        """A lease for `need`, or the limit that has no room for it now."""
        if self.left("calls") < 1:
            return "calls"
        if self.left("samples") < need.samples:
            return "samples"
        if self.left("prompt_tokens") < need.prompt_tokens:
            return "prompt_tokens"
        if self.left("cost") < need.price.of(need.prompt_tokens, 0):
            return "cost"
        room, scarce = self.room(need.price, need.prompt_tokens)
        wanted = need.usual
        takes_rest = need.takes_rest or need.continues or not self.spent["calls"]
        if wanted > room and takes_rest:
            wanted = int(room)
        if not need.n <= wanted <= room:
            return scarce
        if need.is_whole:
            wanted = need.n * int(min(need.cap, room // need.n))
        self.spent["calls"] += 1
        self.spent["samples"] += need.samples
        return Lease(self, need, wanted, takes_rest=takes_rest)

    def room(self, price: Price, prompt_tokens: int) -> tuple[Amount | float, BudgetKind]:
        """Completion tokens that could be held now beside such a prompt, and which limit says so."""
        tokens, money = self.left("tokens"), self.left("cost")
        if not isinstance(money, float):
            bought = price.affords(money - price.of(prompt_tokens, 0))
            if bought < tokens:
                return bought, "cost"
        return tokens, "tokens"

    def _may_come_back(self, kind: BudgetKind, need: Need) -> bool:
        """Could the running calls return enough of `kind`?"""
        wanted = _amounts(need.price, need.prompt_tokens, need.n)  # `usual` is asked again by then
        leased = sum([each.holds(kind) for each in self.holdings if isinstance(each, Lease)])
        return leased > 0 and self.left(kind) + leased >= wanted.get(kind, math.inf)

    def returned(self, holding: Lease | Reserved) -> None:
        """A holding ended: serve the calls that wait, in order of arrival."""
        self.holdings.discard(holding)
        for waiter in list(self._waiters):
            waiter.result = self._granted(waiter.need, waiter.reserved)
            if self._is_final(waiter.result, waiter.need):
                self._waiters.remove(waiter)
                waiter.is_served.set()


class Reserved:
    """A part of the budget set aside for one later call (`tokens` completion tokens)."""

    def __init__(self, budget: Budget, tokens: int, held: Amounts) -> None:
        self.tokens = tokens
        self._held = held
        self._budget = budget
        self._is_released = False
        budget.holdings.add(self)

    def holds(self, kind: BudgetKind) -> Amount:
        """How much of a limit is set aside."""
        return self._held.get(kind, 0)

    def release(self) -> None:
        """Return it, for good; doing so twice is harmless."""
        self._is_released = True
        if self in self._budget.holdings:
            self._budget.returned(self)

    def spend(self, need: Need) -> Lease | BudgetKind:
        """A lease out of what was set aside, or the limit that has no room even so; it stays set aside then."""
        self._budget.holdings.discard(self)
        granted = self._budget.grant(replace(need, cap=min(need.cap, self.tokens // need.n)))
        if isinstance(granted, Lease):
            granted.reserved = self
        else:
            self._budget.holdings.add(self)
        return granted

    def restore(self) -> None:
        """Set aside again what is left of it, for another attempt of the call, unless it was released meanwhile."""
        if self._is_released:
            return
        held = {kind: _at_most(self._budget.left(kind), each) for kind, each in self._held.items()}
        if held["tokens"] > 0:
            self._held = held
            self._budget.holdings.add(self)


class Lease:
    """What one attempt of a call holds. `cap` is the most tokens that each of its completions may be asked for.

    `takes_rest` says that it was granted whatever was left; see `Need`.
    """

    def __init__(self, budget: Budget, need: Need, tokens: int, *, takes_rest: bool) -> None:
        self._budget = budget
        self._need = need
        self._prompt = need.prompt_tokens
        self._tokens = tokens
        self._read = self._written = 0
        self.takes_rest = takes_rest
        self.reserved: Reserved | None = None
        self.cap = tokens // need.n if need.is_whole else int(min(need.cap, self._ceiling()))
        budget.holdings.add(self)

    def holds(self, kind: BudgetKind) -> Amount:
        """How much of a limit is held and not spent yet."""
        if kind == "tokens":
            return self._tokens
        if kind == "prompt_tokens":
            return self._prompt
        return self._need.price.of(self._prompt, self._tokens) if kind == "cost" else 0

    @property
    def is_counted(self) -> bool:
        """Does the engine count tokens as they come?"""
        return not self._need.is_whole

    @property
    def is_shrunk(self) -> bool:
        """Did the budget leave fewer tokens than the call asked for?"""
        return self.cap < self._need.cap

    @property
    def spent(self) -> Usage:
        """What the attempt has spent so far."""
        return Usage(prompt=self._read, completion=self._written)

    @property
    def estimate(self) -> Usage:
        """What the attempt has used if the engine never says it.

        Its prompt, with the tokens that were delivered where these are counted, else with all that is held.
        """
        uncounted = self._tokens if self._need.is_whole else 0
        return Usage(prompt=self._prompt, completion=self._written + uncounted)

    @property
    def scarce(self) -> BudgetKind:
        """The limit that keeps the lease from growing."""
        room, kind = self._budget.room(self._need.price, 0)
        return kind if room < math.inf else "tokens"

    def take(self, tokens: int) -> bool:
        """Spend delivered completion tokens. False, and nothing is spent, when they do not fit."""
        if tokens > self._tokens and not self._grow(tokens - self._tokens):
            return False
        self._tokens -= tokens
        self._spend(completion=tokens)
        return True

    def settle(self, usage: Usage, *, void: int = 0, is_retried: bool = False) -> None:
        """Spend what the attempt used and return the rest, the samples of its `void` completions included.

        If it is to be retried, what was reserved for the call is set aside again, as far as it is left. Completion tokens
        that were used and do not fit into the limit any more are not spent: no one received them.
        """
        self.take(max(0, usage.completion - self._written))
        self._spend(prompt=usage.prompt)
        self._end(samples=min(void, self._need.samples), is_restored=is_retried)

    def withdraw(self) -> None:
        """Return everything: the attempt never reached the engine, so it was neither a request nor a sample."""
        self._budget.spent["calls"] -= 1
        self._end(samples=self._need.samples, is_restored=True)

    def _end(self, *, samples: int, is_restored: bool) -> None:
        self._prompt = self._tokens = 0
        self._budget.spent["samples"] -= samples
        if is_restored and self.reserved is not None:
            self.reserved.restore()
        self._budget.returned(self)

    def _spend(self, prompt: int = 0, completion: int = 0) -> None:
        self._read += prompt
        self._written += completion
        spent = self._budget.spent
        spent["prompt_tokens"] += prompt
        spent["tokens"] += completion
        spent["cost"] += self._need.price.of(prompt, completion)

    def _ceiling(self) -> Amount | float:
        """Completion tokens that would be left if every sibling returned all it holds."""
        budget, price = self._budget, self._need.price
        tokens = math.inf
        if "tokens" in budget.limit:
            tokens = int(budget.limit["tokens"] - budget.spent["tokens"])
        if "cost" not in budget.limit:
            return tokens
        money = budget.limit["cost"] - budget.spent["cost"] - price.of(self._prompt, 0)
        return min(tokens, price.affords(money))

    def _grow(self, missing: int, block: int = BLOCK) -> bool:
        room, _ = self._budget.room(self._need.price, 0)
        if room < missing:
            return False
        self._tokens += int(min(max(missing, block), room))
        return True


def _amounts(price: Price, prompt: int, tokens: int) -> dict[BudgetKind, Amount]:
    return {"prompt_tokens": prompt, "tokens": tokens, "cost": price.of(prompt, tokens)}


def _at_most(left: Amount | float, amount: Amount) -> Amount:
    """The amount, or what is left where that is less; a float is infinite."""
    return amount if isinstance(left, float) or amount <= left else max(0, left)

"""What a run may spend: no limit is ever passed, and siblings cannot overdraw together.

A call takes a lease before it starts. The lease holds the call's prompt and its *expected* length, and grows in
blocks while tokens are delivered; whoever cannot get what it expects waits for siblings to return enough, or does
not start. Spend is counted as it is delivered, and what a lease held and did not spend goes back when it is settled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

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
    A call that writes nothing has an `n` and a `cap` of 0: it needs room for its prompt alone.
    """

    prompt_tokens: int
    cap: int
    expected: Callable[[], int]
    n: int = 1
    price: Price = FREE
    is_whole: bool = False

    @property
    def usual(self) -> int:
        """Completion tokens that all completions of the call are expected to take."""
        return max(1, min(self.expected(), self.cap)) * self.n


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
        self._changed: anyio.Event | None = None

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
        while True:
            held = next((each for each in self.holdings if each is reserved), None)
            granted = held.spend(need) if isinstance(held, Reserved) else self.grant(need)
            if isinstance(granted, Lease):
                return granted
            if not self._may_come_back(granted, need):
                raise BudgetExhausted(granted)
            self._changed = self._changed or anyio.Event()
            await self._changed.wait()

    def reserve(self, tokens: int, prompt_tokens: int = 0, price: Price = FREE) -> Reserved:
        """Set aside one call with so many tokens. Raises BudgetExhausted when they are not there."""
        held = _amounts(price, prompt_tokens, tokens) | {"calls": 1, "samples": 1}
        for kind, amount in held.items():
            if self.left(kind) < amount:
                raise BudgetExhausted(kind)
        return Reserved(self, tokens, held)

    def grant(self, need: Need) -> Lease | BudgetKind:
        """A lease for `need`, or the limit that has no room for it now."""
        if self.left("calls") < 1:
            return "calls"
        if self.left("samples") < need.n:
            return "samples"
        if self.left("prompt_tokens") < need.prompt_tokens:
            return "prompt_tokens"
        if self.left("cost") < need.price.of(need.prompt_tokens, 0):
            return "cost"
        room, scarce = self.room(need.price, need.prompt_tokens)
        wanted = need.usual
        if wanted > room and not self.spent["calls"]:
            wanted = int(room)  # the first call of a run takes what there is
        if not need.n <= wanted <= room:
            return scarce
        if need.is_whole:
            wanted = need.n * int(min(need.cap, room // need.n))
        self.spent["calls"] += 1
        self.spent["samples"] += need.n
        return Lease(self, need, wanted)

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
        """A holding ended: wake whoever waits for it."""
        self.holdings.discard(holding)
        if self._changed is not None:
            self._changed.set()
            self._changed = None


class Reserved:
    """A part of the budget set aside for one later call (`tokens` completion tokens)."""

    def __init__(self, budget: Budget, tokens: int, held: Amounts) -> None:
        self.tokens = tokens
        self._held = held
        self._budget = budget
        budget.holdings.add(self)

    def holds(self, kind: BudgetKind) -> Amount:
        """How much of a limit is set aside."""
        return self._held.get(kind, 0)

    def release(self) -> None:
        """Give it back; doing so twice is harmless."""
        if self in self._budget.holdings:
            self._budget.returned(self)

    def spend(self, need: Need) -> Lease | BudgetKind:
        """A lease out of what was set aside, or the limit that has no room even so; it stays set aside then."""
        self._budget.holdings.discard(self)
        granted = self._budget.grant(replace(need, cap=min(need.cap, self.tokens // need.n)))
        if not isinstance(granted, Lease):
            self._budget.holdings.add(self)
        return granted


class Lease:
    """What one call holds. `cap` is the most tokens that each of its completions may be asked for."""

    def __init__(self, budget: Budget, need: Need, tokens: int) -> None:
        self._budget = budget
        self._need = need
        self._prompt = need.prompt_tokens
        self._tokens = tokens
        self._read = self._written = 0
        self._earlier_attempts = 0
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
        """What the call has spent so far, all its attempts together."""
        return Usage(prompt=self._read, completion=self._written)

    @property
    def estimate(self) -> Usage:
        """What the last attempt has used if the engine never says it.

        Its prompt, with the tokens that were delivered where these are counted, else with all that is held.
        """
        uncounted = self._tokens if self._need.is_whole else 0
        delivered = self._written - self._earlier_attempts
        return Usage(prompt=self._prompt, completion=delivered + uncounted)

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

    def retry(self, used: Usage) -> None:
        """The call begins anew: what the last attempt `used` is spent.

        Raises BudgetExhausted when no further engine request, or no second attempt of its size, fits.
        """
        self._begin_attempt(used.prompt)
        self._spend(prompt=used.prompt)
        rest = used.completion + self._earlier_attempts - self._written
        if rest > 0:
            self.take(rest)
            if not self._grow(rest, block=rest):
                self._spend(
                    prompt=-used.prompt
                )  # no attempt after all: the last one is settled with the call
                self._budget.spent["calls"] -= 1
                raise BudgetExhausted(self.scarce)
        self._earlier_attempts = self._written

    def resume(self) -> None:
        """The call goes on in another request, which reads its prompt and all that was delivered once more.

        Raises BudgetExhausted when no further engine request, or no such prompt, fits.
        """
        prompt = self._need.prompt_tokens + self._written
        self._begin_attempt(prompt)
        self._prompt += prompt

    def _begin_attempt(self, prompt: int) -> None:
        if self._budget.left("calls") < 1:
            raise BudgetExhausted("calls")
        if self._budget.left("prompt_tokens") < prompt:
            raise BudgetExhausted("prompt_tokens")
        if self._budget.left("cost") < self._need.price.of(prompt, 0):
            raise BudgetExhausted("cost")
        self._budget.spent["calls"] += 1

    def settle(self, usage: Usage) -> int:
        """Spend what the last attempt used and give the rest back.

        Returns the completion tokens that were used and no longer fit into the limit: nobody got to see them.
        """
        rest = max(0, self._earlier_attempts + usage.completion - self._written)
        lost = 0 if self.take(rest) else rest
        self._prompt = self._tokens = 0
        self._spend(prompt=usage.prompt)
        self._budget.returned(self)
        return lost

    def withdraw(self, *, is_first_attempt: bool) -> None:
        """The attempt never reached the engine: it was no engine request, nor, if the first, any sample."""
        self._budget.spent["calls"] -= 1
        if is_first_attempt:
            self._budget.spent["samples"] -= self._need.n

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

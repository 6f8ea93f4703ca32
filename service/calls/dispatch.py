"""Making the calls of a run: capability check, lease, engine, bill. Every verb comes through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace

from secondpass.service.calls.budget import Budget, Lease, Need
from secondpass.service.calls.in_flight import InFlight, OnCompletion, OnDelta
from secondpass.service.calls.length_stats import Lengths, Pace
from secondpass.service.calls.upstream import Upstream
from secondpass.service.calls.waste import Waste
from secondpass.service.common.events import Trace
from secondpass.service.common.limits import FREE, Price
from secondpass.strategies.api.engine import Call, Delta, Engine
from secondpass.strategies.api.errors import CapabilityMissing, EngineError, RoleMissing, UnusableCompletion
from secondpass.strategies.api.run import Reserve
from secondpass.strategies.api.values import SOLVE, Capability, Completion, LabelRead, Role

PER_MESSAGE = 16
"""Tokens that a chat template is allowed for each message, where nothing can count them."""


class Calls:
    """The calls of one run, and what they share.

    `is_usable` says whether a cut completion may serve as an answer, and `salvage` gets those that a cancelled
    call leaves behind, and says whether it could use them.
    """

    def __init__(
        self,
        upstreams: Mapping[Role, Upstream],
        prices: Mapping[Role, Price],
        budget: Budget,
        trace: Trace,
        lengths: Lengths,
        pace: Pace,
        *,
        strategy: str,
        is_usable: Callable[[Call, Completion], bool],
        salvage: Callable[[Completion], bool],
        count_failure: Callable[[EngineError | UnusableCompletion], None],
    ) -> None:
        self.waste = Waste()
        self._upstreams, self._prices = upstreams, prices
        self._count_failure = count_failure
        self._budget, self._trace = budget, trace
        self._lengths, self._pace = lengths, pace
        self._strategy = strategy
        self._is_usable, self._salvage = is_usable, salvage
        self._made = 0

    async def perform(
        self,
        call: Call,
        on_completion: OnCompletion,
        *,
        on_delta: OnDelta | None = None,
        reserved: Reserve | None = None,
        whole: Callable[[Completion], Completion] = lambda own: own,
        is_part: bool = False,
        may_be_empty: bool = False,
    ) -> LabelRead | None:
        """Make the call; give each completion to `on_completion` as soon as it is finished.

        The length of one that `is_part` of a longer one says nothing of whole ones. One that goes on from a text that
        may be the whole of it `may_be_empty`.
        Returns what a label call read. Raises BudgetExhausted, CapabilityMissing, RoleMissing, EngineError, and
        UnusableCompletion when every completion is empty.
        """
        learn = self._hand_on if is_part else self._learn
        flight = await self._fly(
            call, on_completion, on_delta, reserved, learn, may_be_empty=may_be_empty
        )
        return flight.labels

    async def _fly(
        self,
        call: Call,
        on_completion: OnCompletion,
        on_delta: OnDelta | None = None,
        reserved: Reserve | None = None,
        learn: Callable[[Completion, OnCompletion], None] | None = None,
        *,
        may_be_empty: bool = False,
    ) -> InFlight:
        learn = learn or self._learn
        self.require(call.role, call.needs)
        engine = self.engine(call.role)
        lease = await self._lease(call, engine, reserved)
        if not call.reward:
            sampling = call.sampling.model_copy(update={"max_tokens": lease.cap})
            call = replace(call, sampling=sampling)
        flight = InFlight(
            self._next_number(),
            call,
            lease,
            self.price(call.role),
            self._trace,
            on_completion=lambda completion: learn(completion, on_completion),
            on_delta=lambda delta: self._paced(delta, on_delta),
            is_usable=self._is_usable,
            salvage=self._salvage,
            may_be_empty=may_be_empty,
        )
        with flight:
            async with aclosing(engine.stream(call)) as deltas:
                async for delta in deltas:
                    flight.take(delta)
            flight.check()
        return flight

    async def read(self, call: Call) -> LabelRead:
        """Make a call that reads label probabilities. Raises as `perform`."""
        read = await self.perform(call, lambda _: None)
        if read is None:
            raise UnusableCompletion(f"engine {self.engine(call.role).name!r} read no labels")
        return read

    async def reward(self, call: Call) -> float:
        """Make a call that asks for a reward. Raises as `perform`."""
        flight = await self._fly(call, lambda _: None)
        if flight.reward is None:
            raise UnusableCompletion(f"engine {self.engine(call.role).name!r} gave no reward")
        return flight.reward

    def require(self, role: Role, capabilities: frozenset[Capability]) -> None:
        """Raise RoleMissing or CapabilityMissing unless the role's engine can do this.

        One that has never answered lacks nothing yet: a call to it fails as unavailable, which is what it is.
        """
        engine = self.engine(role)
        missing = capabilities - engine.capabilities
        if missing and (engine.ready or engine.capabilities):
            raise CapabilityMissing(engine.name, missing)

    def engine(self, role: Role) -> Engine:
        """The engine that plays this role. Raises RoleMissing."""
        if role not in self._upstreams:
            raise RoleMissing(role)
        return self._upstreams[role].engine

    def can(self, role: Role, capabilities: frozenset[Capability]) -> bool:
        """Does an engine play the role, and has it all of these capabilities?"""
        upstream = self._upstreams.get(role)
        return upstream is not None and capabilities <= upstream.engine.capabilities

    def price(self, role: Role) -> Price:
        """What tokens of this role cost."""
        return self._prices.get(role, FREE)

    async def _lease(self, call: Call, engine: Engine, reserved: Reserve | None) -> Lease:
        cap = 0 if call.reward else call.sampling.max_tokens or 1
        key = (self._strategy, call.role, call.purpose, engine.model)
        need = Need(
            prompt_tokens=await self._prompt_tokens(call, engine),
            cap=cap,
            expected=lambda: self._lengths.expected(key, cap),
            n=0 if call.reward else call.n,
            price=self.price(call.role),
            is_whole=not call.reward and "token_counts" not in engine.capabilities,
        )
        return await self._budget.lease(need, reserved)

    async def _prompt_tokens(self, call: Call, engine: Engine) -> int:
        """Tokens of the prompt: a bound where no limit is near, counted otherwise."""
        bound = prompt_bound(call)
        limit = self._budget.limit
        is_near = "cost" in limit or self._budget.left("prompt_tokens") < bound
        if is_near and "tokenize" in engine.capabilities:
            return await engine.count_prompt(call)
        return bound

    def median_length(self, role: Role) -> int | None:
        """Tokens of half of the answers that the role's model gave; None until a few were seen."""
        return self._lengths.median(role, SOLVE, self.engine(role).model)

    def _next_number(self) -> int:
        self._made += 1
        return self._made - 1

    def _learn(self, completion: Completion, hand_on: OnCompletion) -> None:
        if completion.usage.completion and not completion.is_truncated:
            model = self.engine(completion.role).model
            key = (self._strategy, completion.role, completion.purpose, model)
            self._lengths.add(key, completion.usage.completion)
        hand_on(completion)

    def _hand_on(self, completion: Completion, hand_on: OnCompletion) -> None:
        hand_on(completion)

    def _paced(self, delta: Delta, hand_on: OnDelta | None) -> None:
        self._pace.add(delta.tokens)
        if hand_on is not None:
            hand_on(delta)


def prompt_bound(call: Call) -> int:
    """No tokenizer makes more tokens of a text than it has bytes in UTF-8."""
    texts = sum(len(m.model_dump_json(exclude_none=True).encode()) for m in call.messages)
    held = call.prefix or ""
    pieces = held if isinstance(held, tuple) else (held,)
    prefix = sum(1 if isinstance(piece, int) else len(piece.encode()) for piece in pieces)
    return texts + PER_MESSAGE * len(call.messages) + prefix

"""Making the calls of a run: `for attempt: lease, admission slot, in-flight record, engine.stream`.

One attempt is one lease, one record and one line of the bill. Neither a slot nor a lease is held between two of them.
Every verb comes through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import get_args

from anyio.abc import TaskStatus

from secondpass.service.calls.admission import FIRST, rank_of
from secondpass.service.calls.budget import Budget, Lease, Need
from secondpass.service.calls.in_flight import BROKEN, InFlight
from secondpass.service.calls.length_stats import Lengths, Pace
from secondpass.service.calls.progress import OnCompletion, OnDelta, Progress, Receiver
from secondpass.service.calls.upstream import Upstream
from secondpass.service.calls.waste import Waste
from secondpass.service.common.concurrency import hold_turn, pass_turn, task_group
from secondpass.service.common.events import Trace
from secondpass.service.common.limits import FREE, Price
from secondpass.strategies.api.engine import Call, Engine
from secondpass.strategies.api.errors import (
    CapabilityMissing,
    EngineError,
    RoleMissing,
    SecondpassError,
    UnusableCompletion,
    VerdictUnreadable,
)
from secondpass.strategies.api.run import Reserve
from secondpass.strategies.api.values import SOLVE, Capability, Completion, LabelRead, Role

PER_MESSAGE = 16
"""Tokens that a chat template is allowed for each message, where nothing can count them."""


class Calls:
    """The calls of one run, and what they share.

    `is_usable` says whether a truncated completion may serve as an answer, and `salvage` receives those that a cancelled
    call leaves behind, and says whether it needs them. `count_failure` receives what a call finally failed with, once,
    whichever verb made it: an EngineError or UnusableCompletion. `waste` says which of the delivered tokens are used.
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
        self._silent = Receiver(
            on_completion=self._learn,
            on_delta=None,
            is_usable=lambda _: False,
            salvage=lambda _: False,
        )

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
    ) -> None:
        """Make the call; give each completion to `on_completion` as soon as it is finished.

        `on_delta` receives each delta with the completion that it belongs to. `whole` joins a continuation with its
        beginning, to judge whether a truncated one is usable. The length of a completion that `is_part`
        of a longer one is not learnt from. One that continues a text that may be the whole of it `may_be_empty`.
        Raises BudgetExhausted, CapabilityMissing, RoleMissing, EngineError, and UnusableCompletion when every completion
        is empty.
        """

        def finish(completion: Completion) -> None:
            if not is_part:
                self._learn(completion)
            on_completion(completion)

        receiver = Receiver(
            on_completion=finish,
            on_delta=on_delta,
            is_usable=lambda truncated: self._is_usable(call, whole(truncated)),
            salvage=lambda truncated: self._salvage(whole(truncated)),
            may_be_empty=may_be_empty,
        )
        await self._perform(call, receiver, reserved)

    async def read(self, call: Call) -> LabelRead:
        """Make a call that reads label probabilities. Raises as `perform`, and VerdictUnreadable.

        The verdict is unreadable where no label is a likely reply.
        """
        labels = (await self._perform(call, self._silent)).labels
        if labels is None:
            raise self._missing(call, "label probabilities")
        if not labels.mass:
            message = f"none of the labels {call.labels} is a likely reply"
            raise VerdictUnreadable(message, role=call.role)
        return labels

    async def reward(self, call: Call) -> float:
        """Make a call that asks for a reward. Raises as `perform`."""
        reward = (await self._perform(call, self._silent)).reward
        if reward is None:
            raise self._missing(call, "reward")
        return reward

    def _missing(self, call: Call, what: str) -> UnusableCompletion:
        name = self.engine(call.role).name
        error = UnusableCompletion(f"engine {name!r} returned no {what}", role=call.role)
        self._count_failure(error)
        return error

    # -- attempts -----------------------------------------------------------------------------------

    async def _perform(
        self, call: Call, receiver: Receiver, reserved: Reserve | None = None
    ) -> Progress:
        """All attempts of a call. Raises as `perform`."""
        self.require(call.role, call.needs)
        upstream = self._upstreams[call.role]
        take_sample = self._budget.take_sample
        progress = Progress(call, upstream.engine, self.waste, receiver, take_sample)
        try:
            with hold_turn():
                progress.prompt_tokens = await self._prompt_tokens(call, upstream)
            await self._attempts(progress, upstream, reserved, pass_turn)
        except (EngineError, UnusableCompletion) as error:
            error.role = error.role or call.role
            self._count_failure(error)
            raise
        return progress

    async def _attempts(
        self,
        progress: Progress,
        upstream: Upstream,
        reserved: Reserve | None,
        leased: Callable[[], None],
        first: int = 1,
    ) -> None:
        """Attempt number `first` and those that follow it; `leased` is called once the first one has its lease or none."""

        def may_follow(failure: BaseException, number: int) -> bool:
            return upstream.retries.may_retry(failure, number) and progress.can_continue()

        async def attempt(number: int) -> None:
            if number > first and (parts := progress.split()):
                await self._separately(progress, parts, upstream, number)
                return
            request = progress.request()
            try:
                with hold_turn():
                    lease = await self._lease(request, progress, upstream, reserved)
            finally:
                if number == first:
                    leased()
            record = InFlight(
                self._next_number(),
                number,
                progress,
                lease,
                request,
                price=self.price(request.role),
                trace=self._trace,
                waste=self.waste,
                may_follow=lambda failure: may_follow(failure, number),
            )
            await self._stream(record, upstream)

        with progress:
            await upstream.retries.run(attempt, first=first, may_follow=may_follow)

    async def _stream(self, record: InFlight, upstream: Upstream) -> None:
        """One attempt, once it has its lease: the wait for a slot, and the engine's deltas."""
        with record:
            try:
                async with (
                    upstream.admission.slot(rank_of(record.request)) as waited,
                    aclosing(upstream.engine.stream(record.request)) as deltas,
                ):
                    record.admit(waited)
                    async for delta in deltas:
                        record.take(delta)
                        self._pace.add(delta.tokens)
            except BROKEN:
                if not record.is_complete():
                    raise
            record.check()

    async def _separately(
        self, progress: Progress, parts: Sequence[Progress], upstream: Upstream, number: int
    ) -> None:
        """Attempt `number` of the parts of a batch, each a request of its own; raises what the first one of them raised."""
        failures: dict[int, SecondpassError] = {}

        async def complete(part: Progress, *, task_status: TaskStatus[None]) -> None:
            try:
                await self._attempts(part, upstream, None, task_status.started, number)
            except SecondpassError as error:
                failures[part.call.index] = error

        async with task_group() as group:
            for part in parts:
                await group.start(complete, part)
        progress.handed_over += sum(part.handed_over - progress.handed_over for part in parts)
        for _, failure in sorted(failures.items()):
            if not (isinstance(failure, UnusableCompletion) and progress.handed_over):
                raise failure

    async def _lease(
        self, request: Call, progress: Progress, upstream: Upstream, reserved: Reserve | None
    ) -> Lease:
        call, engine = progress.call, upstream.engine
        cap = 0 if call.reward else request.sampling.max_tokens or 1
        key = (self._strategy, call.role, call.purpose, engine.model)
        delivered = progress.delivered
        need = Need(
            prompt_tokens=progress.prompt_tokens + delivered,
            cap=cap,
            expected=lambda: self._lengths.expected(key, cap + delivered) - delivered,
            n=0 if call.reward else request.n,
            price=self.price(call.role),
            is_whole=not call.reward and "token_counts" not in engine.capabilities,
            takes_rest=progress.takes_rest,
            continues=progress.is_resumed,
        )
        lease = await self._budget.lease(need, reserved)
        progress.takes_rest = lease.takes_rest or reserved is not None
        return lease

    async def _prompt_tokens(self, call: Call, upstream: Upstream) -> int:
        """Tokens of the prompt: a bound where no limit is near, counted otherwise."""
        bound = prompt_bound(call)
        is_near = "cost" in self._budget.limit or self._budget.left("prompt_tokens") < bound
        if not is_near or "tokenize" not in upstream.engine.capabilities:
            return bound

        async def count(_: int) -> int:
            async with upstream.admission.slot(FIRST):
                return await upstream.engine.count_prompt(call)

        return await upstream.retries.run(count)

    # -- what is known of the engines ---------------------------------------------------------------

    def require(self, role: Role, capabilities: frozenset[Capability]) -> None:
        """Raise RoleMissing or CapabilityMissing unless the role's engine can do this.

        One that has never answered lacks nothing yet: a call to it fails as unavailable, which is what it is.
        """
        engine = self.engine(role)
        if missing := _missing(engine, capabilities):
            raise CapabilityMissing(engine.name, missing)

    def engine(self, role: Role) -> Engine:
        """The engine that plays this role. Raises RoleMissing, and ValueError for an unknown role."""
        if role not in self._upstreams:
            check_role(role)
            raise RoleMissing(role)
        return self._upstreams[role].engine

    def can(self, role: Role, capabilities: frozenset[Capability]) -> bool:
        """Return whether `require` would pass."""
        return role in self._upstreams and not _missing(self.engine(role), capabilities)

    def price(self, role: Role) -> Price:
        """What tokens of this role cost."""
        return self._prices.get(role, FREE)

    def median_length(self, role: Role) -> int | None:
        """Median completion tokens of the answers of the role's model; None until enough were seen, or without one."""
        if role not in self._upstreams:
            return None
        return self._lengths.median(role, SOLVE, self.engine(role).model)

    def _next_number(self) -> int:
        self._made += 1
        return self._made - 1

    def _learn(self, completion: Completion) -> None:
        if completion.usage.completion and not completion.is_truncated:
            model = self.engine(completion.role).model
            key = (self._strategy, completion.role, completion.purpose, model)
            self._lengths.add(key, completion.usage.completion)


def _missing(engine: Engine, capabilities: frozenset[Capability]) -> frozenset[Capability]:
    missing = capabilities - engine.capabilities
    return missing if engine.ready or engine.capabilities else frozenset()


def check_role(role: str) -> None:
    """Raise ValueError for an unknown role."""
    if role not in get_args(Role):
        raise ValueError(f"role: one of {', '.join(get_args(Role))}, not {role!r}")


def prompt_bound(call: Call) -> int:
    """No tokenizer makes more tokens of a text than it has bytes in UTF-8."""
    texts = sum(len(m.model_dump_json(exclude_none=True).encode()) for m in call.messages)
    held = call.prefix or ""
    pieces = held if isinstance(held, tuple) else (held,)
    prefix = sum(1 if isinstance(piece, int) else len(piece.encode()) for piece in pieces)
    return texts + PER_MESSAGE * len(call.messages) + prefix

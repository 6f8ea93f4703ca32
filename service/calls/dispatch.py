"""Dispatch of a run's engine calls.

A call is a loop: `for attempt: lease, admission slot, in-flight record, engine.stream`. Each attempt has its own lease and
its own usage record. Slots and leases are released between attempts. All verbs of the Run protocol dispatch through this
module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import get_args

from anyio.abc import TaskStatus

from secondpass.service.calls.admission import HIGHEST_RANK, rank_of
from secondpass.service.calls.budget import Budget, Lease
from secondpass.service.calls.in_flight import STREAM_ERRORS, InFlight
from secondpass.service.calls.lease_request import LeaseRequest
from secondpass.service.calls.length_stats import CallStats
from secondpass.service.calls.progress import OnCompletion, OnDelta, Progress, Receiver
from secondpass.service.calls.prompt_size import PromptSizes, images_of
from secondpass.service.calls.upstream import Upstream
from secondpass.service.calls.waste import Waste
from secondpass.service.common.concurrency import delay_next_lane, start_next_lane, task_group
from secondpass.service.common.events import Trace
from secondpass.service.common.limits import FREE, Price
from secondpass.strategies.api.engine import Call, Engine
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    CapabilityMissing,
    EngineError,
    RoleMissing,
    SecondpassError,
    UnusableCompletion,
    VerdictUnreadable,
)
from secondpass.strategies.api.handles import Reserve
from secondpass.strategies.api.values import SOLVE, Capability, Completion, LabelDistribution, Role


class CallDispatcher:
    """Engine calls of one run, with their shared budget, trace and statistics.

    Args:
        is_usable: Returns whether a truncated completion is usable as an answer.
        salvage: Receives usable completions of cancelled calls; returns whether it keeps them.
        count_failure: Receives the final error of each failed call, once: an EngineError or UnusableCompletion.

    Attributes:
        keep_draft: Receives each completion of `perform`, finished or truncated by a limit, joined with its prefix.
        waste: Accounting of which delivered tokens are used.
        failed_attempts: Error of each failed attempt, retried or not, by the number of the attempt within the run.
    """

    def __init__(
        self,
        upstreams: Mapping[Role, Upstream],
        prices: Mapping[Role, Price],
        budget: Budget,
        trace: Trace,
        stats: CallStats,
        *,
        strategy: str,
        is_usable: Callable[[Call, Completion], bool],
        salvage: Callable[[Completion], bool],
        count_failure: Callable[[EngineError | UnusableCompletion], None],
    ) -> None:
        self.waste = Waste()
        self._upstreams, self._prices = upstreams, prices
        self._count_failure = count_failure
        self.keep_draft: Callable[[Call, Completion], None] = lambda _call, _completion: None
        self._budget, self._trace = budget, trace
        self._lengths, self._pace, self._prompts = stats.lengths, stats.pace, stats.prompts
        self._rates = stats.rates
        self._strategy = strategy
        self._is_usable, self._salvage = is_usable, salvage
        self.failed_attempts: dict[int, EngineError | UnusableCompletion] = {}
        self._started = 0
        self._discarding = Receiver(
            on_completion=self._record_length,
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
        allow_empty: bool = False,
    ) -> None:
        """Make the call and pass each completion to `on_completion` as soon as it is finished.

        Args:
            call: The call to make.
            on_completion: Receives each finished completion, and usable truncated ones when the budget is exhausted.
            on_delta: Receives each delta together with its partial completion.
            reserved: Reserve to lease from.
            whole: Joins a continuation with its prefix, to check whether a truncated one is usable.
            is_part: The completions are parts of longer ones; their lengths are not recorded.
            allow_empty: Accept empty completions, as for a continuation of a text that may already be complete.

        Raises:
            BudgetExhausted, CapabilityMissing, RoleMissing, EngineError.
            UnusableCompletion: Every completion is empty.
        """

        def keep(completion: Completion) -> None:
            self.keep_draft(call, whole(completion))

        def finish(completion: Completion) -> None:
            if not is_part:
                self._record_length(completion)
            keep(completion)
            on_completion(completion)

        receiver = Receiver(
            on_completion=finish,
            on_delta=on_delta,
            is_usable=lambda truncated: self._is_usable(call, whole(truncated)),
            salvage=lambda truncated: self._salvage(whole(truncated)),
            keep=keep,
            allow_empty=allow_empty,
        )
        await self._perform(call, receiver, reserved)

    async def read(self, call: Call) -> LabelDistribution:
        """Return the label probabilities, normalised to sum to 1, and their mass (0 to 1).

        Raises as `perform` does, UnusableCompletion if the engine returns no probabilities, and VerdictUnreadable if
        the mass is 0.
        """
        labels = (await self._perform(call, self._discarding)).labels
        if labels is None:
            raise self._missing_result(call, "label probabilities")
        if not labels.mass:
            message = f"none of the labels {call.labels} is a likely reply"
            raise VerdictUnreadable(message, role=call.role)
        return labels

    async def reward(self, call: Call) -> float:
        """Return the reward model's score. Higher is better; the scale is the model's.

        Raises as `perform` does, and UnusableCompletion if the engine returns no finite score.
        """
        reward = (await self._perform(call, self._discarding)).reward
        if reward is None or not math.isfinite(reward):
            raise self._missing_result(call, "reward that is finite")
        return reward

    def _missing_result(self, call: Call, result: str) -> UnusableCompletion:
        name = self.engine(call.role).name
        error = UnusableCompletion(f"engine {name!r} returned no {result}", role=call.role)
        self._count_failure(error)
        return error

    # -- attempts -----------------------------------------------------------------------------------

    async def _perform(
        self, call: Call, receiver: Receiver, reserved: Reserve | None = None
    ) -> Progress:
        """Run all attempts of a call. Raises as `perform` does."""
        self.require(call.role, call.needs)
        upstream = self._upstreams[call.role]
        take_sample = self._budget.take_sample
        progress = Progress(call, upstream.engine, self.waste, receiver, take_sample)
        try:
            with delay_next_lane():
                progress.prompt_tokens = await self._prompt_tokens(call, upstream)
            await self._attempts(progress, upstream, reserved, start_next_lane)
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
        on_lease: Callable[[], None],
        first: int = 1,
    ) -> None:
        """Run the attempts from number `first`.

        `on_lease` is called once the first attempt has its lease or failed to get one.
        """

        def can_retry(failure: BaseException, number: int) -> bool:
            return upstream.retries.may_retry(failure, number) and progress.can_continue()

        async def attempt(number: int) -> None:
            if number > first and (parts := progress.split()):
                await self._run_parts(progress, parts, upstream, number)
                return
            request = progress.request()
            try:
                with delay_next_lane():
                    lease = await self._lease(request, progress, upstream, reserved)
            finally:
                if number == first:
                    on_lease()
            position = self._next_number()
            record = InFlight(
                position,
                number,
                progress,
                lease,
                request,
                price=self.price(request.role),
                trace=self._trace,
                waste=self.waste,
                is_counted=request.reward or "token_counts" in upstream.engine.capabilities,
                can_retry=lambda failure: can_retry(failure, number),
            )
            try:
                await self._stream(record, upstream)
            except (EngineError, UnusableCompletion) as error:
                self.failed_attempts[position] = error
                raise

        with progress:
            await upstream.retries.run(attempt, first=first, can_retry=can_retry)

    async def _stream(self, record: InFlight, upstream: Upstream) -> None:
        """Run one leased attempt: wait for a slot, then consume the engine's deltas."""
        with record:
            try:
                async with (
                    upstream.slot(rank_of(record.request)) as waited,
                    aclosing(upstream.engine.stream(record.request)) as deltas,
                ):
                    record.admit(waited)
                    async for delta in deltas:
                        record.take(delta)
                        self._pace.add(delta.tokens)
                        if record.is_stopped:
                            break
            except STREAM_ERRORS:
                if not record.is_complete():
                    raise
            finally:
                self._learn(record, upstream)
            record.check()
        if record.exceeded is not None:
            raise BudgetExhausted(record.exceeded)

    async def _run_parts(
        self, progress: Progress, parts: Sequence[Progress], upstream: Upstream, number: int
    ) -> None:
        """Run the parts of a batch as separate requests, from attempt `number`.

        Raises the error of the lowest index.
        """
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
        cap = 0 if call.reward else _fitting_cap(request, progress, engine, self._prompts)
        key = (self._strategy, call.role, call.purpose, engine.model)
        delivered = progress.delivered
        wanted = LeaseRequest(
            prompt_tokens=progress.prompt_tokens + delivered,
            cap=cap,
            expected=lambda: self._lengths.expected(key, cap + delivered) - delivered,
            n=0 if call.reward else request.n,
            price=self.price(call.role),
            takes_remainder=progress.takes_remainder,
            is_continuation=progress.is_resumed,
        )
        lease = await self._budget.lease(wanted, reserved)
        progress.takes_remainder = lease.takes_remainder or reserved is not None
        return lease

    async def _prompt_tokens(self, call: Call, upstream: Upstream) -> int:
        """Return the tokens of the prompt: an upper bound, or a count if a limit is set or near."""
        engine = upstream.engine
        bound = self._prompts.bound(engine, call)
        is_near = "cost" in self._budget.limit or self._budget.left("prompt_tokens") < bound
        is_near = is_near or _is_near_window(call, bound, engine)
        if not (self._budget.counts_prompts or is_near) or "tokenize" not in engine.capabilities:
            return bound

        async def count(_: int) -> int:
            async with upstream.slot(HIGHEST_RANK):
                return await self._prompts.count(engine, call)

        return await upstream.retries.run(count)

    def _learn(self, record: InFlight, upstream: Upstream) -> None:
        """Learn from the speed of an attempt, and from the prompt tokens that the engine reported, if it did."""
        self._rates.add(upstream.engine.model, *record.speed)
        if reported := record.reported_prompt:
            self._prompts.learn(upstream.engine, record.request, reported, record.expected_prompt)

    # -- engines ------------------------------------------------------------------------------------

    def require(self, role: Role, capabilities: frozenset[Capability]) -> None:
        """Raise RoleMissing or CapabilityMissing unless the role's engine has the capabilities.

        The capabilities of an engine that has not responded yet are unknown and not checked: its calls fail as
        unavailable.
        """
        engine = self.engine(role)
        if missing := _missing(engine, capabilities):
            raise CapabilityMissing(engine.name, missing)

    def engine(self, role: Role) -> Engine:
        """Return the engine of a role. Raises RoleMissing, and ValueError for an unknown role."""
        if role not in self._upstreams:
            check_role(role)
            raise RoleMissing(role)
        return self._upstreams[role].engine

    def can(self, role: Role, capabilities: frozenset[Capability]) -> bool:
        """Return whether `require` would pass."""
        return role in self._upstreams and not _missing(self.engine(role), capabilities)

    def price(self, role: Role) -> Price:
        """Return the token price of a role."""
        return self._prices.get(role, FREE)

    def median_length(self, role: Role) -> int | None:
        """Return the median completion tokens of answers by the role's model; None if unknown."""
        if role not in self._upstreams:
            return None
        return self._lengths.median(role, SOLVE, self.engine(role).model)

    def _next_number(self) -> int:
        self._started += 1
        return self._started - 1

    def _record_length(self, completion: Completion) -> None:
        if completion.usage.completion and not completion.is_truncated:
            model = self.engine(completion.role).model
            key = (self._strategy, completion.role, completion.purpose, model)
            self._lengths.add(key, completion.usage.completion)


def _missing(engine: Engine, capabilities: frozenset[Capability]) -> frozenset[Capability]:
    missing = capabilities - engine.capabilities
    return missing if engine.ready or engine.capabilities else frozenset()


def _is_near_window(call: Call, bound: int, engine: Engine) -> bool:
    """Return whether the completion may not fit into the context window after a prompt of `bound` tokens."""
    window, cap = engine.context_window, call.sampling.max_tokens
    return window is not None and cap is not None and bound + cap > window and not images_of(call)


def _fitting_cap(request: Call, progress: Progress, engine: Engine, prompts: PromptSizes) -> int:
    """Return the token limit of a request, at most the context window without its prompt, at least 1.

    A prompt that the engine cannot count has its upper bound, or an estimate if the bound leaves less than half of the
    window. The tokens of images are unknown, so that only the engine limits a completion after images.
    """
    cap, window = request.sampling.max_tokens or 1, engine.context_window
    if window is None or images_of(request):
        return cap
    room = window - progress.prompt_tokens - progress.delivered
    if "tokenize" not in engine.capabilities and room < min(cap, window // 2):
        room = max(room, window - prompts.estimate(engine, request))
    return max(1, min(cap, room))


def check_role(role: str) -> None:
    """Raise ValueError for an unknown role."""
    if role not in get_args(Role):
        raise ValueError(f"role: must be one of {', '.join(get_args(Role))}, not {role!r}")

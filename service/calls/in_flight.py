"""One call while it is in the engine: its completions as they grow, its books, and its bill, whatever ends it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio

from secondpass.service.calls.budget import Lease
from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.common.events import CallDelta, CallEnd, CallFinished, CallStarted, Trace
from secondpass.service.common.limits import Price
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    EngineError,
    StreamCut,
    UnusableCompletion,
)
from secondpass.strategies.api.values import Completion, LabelRead, Usage

OnDelta = Callable[[Delta, PartialCompletion], None]
OnCompletion = Callable[[Completion], None]


class InFlight:
    """A context manager around the deltas of one call: it books them, and writes the bill when it is left.

    `on_completion` gets each completion once it is finished, and at the end of the budget also what is cut but
    `is_usable`; `salvage` gets the usable ones of a call that is cancelled. One without a word is of no use unless it
    `may_be_empty`.
    """

    def __init__(
        self,
        number: int,
        call: Call,
        lease: Lease,
        price: Price,
        trace: Trace,
        *,
        on_completion: OnCompletion,
        on_delta: OnDelta | None,
        is_usable: Callable[[Call, Completion], bool],
        salvage: Callable[[Completion], bool],
        may_be_empty: bool = False,
    ) -> None:
        self._number, self._call, self._lease, self._price = number, call, lease, price
        self._trace, self._is_usable = trace, is_usable
        self._on_completion, self._on_delta, self._salvage = on_completion, on_delta, salvage
        self._may_be_empty = may_be_empty or bool(call.labels) or call.reward
        self._usage: Usage | None = None
        self._cached = 0
        self._wasted = 0
        self._useful: list[PartialCompletion] = []
        self._attempts = 1
        self._queued = 0.0
        self._queued_since: float | None = None
        self._was_heard = False
        self._is_estimated = False
        self._began = anyio.current_time()
        self._writings = self._fresh()
        self.labels: LabelRead | None = None
        self.reward: float | None = None

    def __enter__(self) -> Self:
        self._trace.emit(
            CallStarted(
                at=self._trace.elapsed,
                call=self._number,
                role=self._call.role,
                purpose=self._call.purpose,
                index=self._call.index,
                n=self._call.n,
            )
        )
        return self

    def take(self, delta: Delta) -> None:
        """Book a delta and pass it on. Raises BudgetExhausted when its tokens do not fit."""
        if delta.notice is not None:
            self._note(delta)
            return
        self._was_heard = True
        self._usage = delta.usage or self._usage
        if delta.tokens and not self._lease.take(delta.tokens):
            self._wasted += delta.tokens
            raise BudgetExhausted(self._lease.scarce)
        if not 0 <= delta.index < self._call.n:
            raise EngineError(f"a delta of completion {delta.index}, of {self._call.n} asked for")
        writing = self._writings[delta.index]
        writing.add(delta)
        if delta.labels is not None:
            self.labels = self._normalised(delta)
        if delta.reward is not None:
            self.reward = delta.reward
        if self._on_delta is not None:
            self._on_delta(delta)
        if self._trace.keeps_deltas and (delta.text or delta.reasoning):
            self._trace.emit(
                CallDelta(
                    at=self._trace.elapsed,
                    call=self._number,
                    index=writing.index,
                    text=delta.text,
                    reasoning=delta.reasoning,
                )
            )
        if delta.finish_reason is not None:
            self._hand_over(writing)

    def check(self) -> None:
        """The stream is over. Raises StreamCut if it is not complete, UnusableCompletion if all of it is empty.

        Raises BudgetExhausted if the budget, and not the client or the model, ended a completion.
        """
        if any(writing.finish_reason is None for writing in self._writings):
            raise StreamCut("the stream ended without a finish reason", role=self._call.role)
        if any(self._is_cut_by_budget(writing) for writing in self._writings):
            raise BudgetExhausted(self._lease.scarce)
        if not self._useful:
            raise UnusableCompletion(f"{self._call.role} wrote nothing but thoughts or white space")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end = _end_of(error)
        try:
            if end in ("cut", "cancelled"):
                self._keep_what_serves(end)
        finally:
            self._bill(end, error)

    def _keep_what_serves(self, end: CallEnd) -> None:
        for writing in self._writings:
            completion = writing.completion
            if writing.finish_reason is None and self._is_usable(self._call, completion):
                if end == "cut":
                    self._on_completion(completion)
                    self._useful.append(writing)
                elif self._salvage(completion):
                    self._useful.append(writing)

    def _bill(self, end: CallEnd, error: BaseException | None) -> None:
        if self._queued_since is not None:
            self._queued += anyio.current_time() - self._queued_since
            self._attempts -= 1
            self._lease.withdraw(is_first_attempt=not self._attempts)
        used = self._used(end)
        self._wasted += self._lease.settle(used) + self._unused(used)
        spent = self._lease.spent
        self._trace.emit(
            CallFinished(
                at=self._trace.elapsed,
                call=self._number,
                role=self._call.role,
                purpose=self._call.purpose,
                index=self._call.index,
                end=end,
                usage=Usage(spent.prompt, self._cached + used.cached, spent.completion),
                attempts=self._attempts,
                wasted=self._wasted,
                is_estimated=self._is_estimated,
                cost=float(self._price.of(spent.prompt, spent.completion)),
                queued=self._queued,
                seconds=anyio.current_time() - self._began - self._queued,
                texts=tuple("".join(writing.text) for writing in self._writings),
                finish_reasons=tuple(writing.finish_reason for writing in self._writings),
                labels=self.labels,
                reward=self.reward,
                error=str(error) if end == "failed" else None,
                messages=self._call.messages,
            )
        )

    def _used(self, end: CallEnd) -> Usage:
        """What the running attempt has used; an estimate where the engine has not said it."""
        is_silent = end == "failed" and not self._was_heard
        if self._queued_since is not None or is_silent:
            return Usage()
        if self._usage is not None and (self._lease.is_counted or end == "finished"):
            return self._usage
        self._is_estimated = True
        return self._lease.estimate

    def _unused(self, used: Usage) -> int:
        """Completion tokens of the running attempt that nobody was given."""
        if self._lease.is_counted:
            return sum(writing.tokens for writing in self._writings if writing not in self._useful)
        return 0 if self._useful else used.completion

    def _note(self, delta: Delta) -> None:
        if delta.notice == "queued":
            self._queued_since = anyio.current_time()
        elif delta.notice == "admitted":
            self._queued += delta.waited
            self._queued_since = None
        elif delta.notice == "resumed":
            self._lease.resume()
            self._attempts += 1
        else:
            self._begin_anew()

    def _begin_anew(self) -> None:
        used = self._used("failed")
        self._lease.retry(used)
        self._attempts += 1
        self._cached += used.cached
        self._useful = []
        self._wasted += self._unused(used)
        self._usage, self._was_heard, self._writings = None, False, self._fresh()
        self.labels = self.reward = None

    def _hand_over(self, writing: PartialCompletion) -> None:
        completion = writing.completion
        if self._is_cut_by_budget(writing) and not self._is_usable(self._call, completion):
            return
        is_thought = self._call.resumable and bool(completion.reasoning.strip())
        if completion.text.strip() or is_thought or self._may_be_empty:
            self._useful.append(writing)
            self._on_completion(completion)

    def _is_cut_by_budget(self, writing: PartialCompletion) -> bool:
        is_at_cap = not self._lease.is_counted or writing.tokens >= self._lease.cap
        return self._lease.is_shrunk and is_at_cap and writing.finish_reason == "length"

    def _normalised(self, delta: Delta) -> LabelRead:
        labels = delta.labels or {}
        mass = sum(labels.values())
        if mass <= 0:
            raise UnusableCompletion(f"none of the labels {self._call.labels} is a likely reply")
        return LabelRead({label: p / mass for label, p in labels.items()}, min(1.0, mass))

    def _fresh(self) -> list[PartialCompletion]:
        return [PartialCompletion(self._call, self._call.index + i) for i in range(self._call.n)]


def _end_of(error: BaseException | None) -> CallEnd:
    if error is None:
        return "finished"
    if isinstance(error, BudgetExhausted):
        return "cut"
    if isinstance(error, anyio.get_cancelled_exc_class()):
        return "cancelled"
    return "failed"

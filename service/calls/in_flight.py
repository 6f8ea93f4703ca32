"""One attempt of a call while the engine has it: its books, and its bill, however it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

import anyio

from secondpass.service.calls.budget import Lease
from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.calls.progress import Progress, end_of
from secondpass.service.calls.waste import Waste
from secondpass.service.common.events import CallDelta, CallEnd, CallFinished, CallStarted, Trace
from secondpass.service.common.limits import Price
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    EngineError,
    EngineUnavailable,
    StreamInterrupted,
    UnusableCompletion,
)
from secondpass.strategies.api.values import LabelRead, Usage

BROKEN = (EngineUnavailable, StreamInterrupted)
"""What ends a stream before its time."""


class InFlight:
    """A context manager around the wait for a slot and the deltas of one attempt, which writes the bill when it is left.

    `request` is what this attempt asks for, with the lease's cap; `may_follow` says whether another one follows a failure.
    """

    def __init__(
        self,
        number: int,
        attempt: int,
        progress: Progress,
        lease: Lease,
        request: Call,
        *,
        price: Price,
        trace: Trace,
        waste: Waste,
        may_follow: Callable[[BaseException], bool],
    ) -> None:
        self._number, self._attempt = number, attempt
        if not request.reward:
            sampling = request.sampling.model_copy(update={"max_tokens": lease.cap})
            request = replace(request, sampling=sampling)
        self.request = request
        progress.begin()
        self._progress, self._lease, self._price = progress, lease, price
        self._trace, self._waste, self._may_follow = trace, waste, may_follow
        self._partials = progress.partials
        self._begun = [partial.tokens for partial in self._partials]
        self._on_delta = progress.receiver.on_delta
        self._usage: Usage | None = None
        self._lost = 0
        self._queued: float | None = None
        self._was_heard = self._is_stated = False
        self._is_estimated = False
        self._began = anyio.current_time()

    def __enter__(self) -> Self:
        self._trace.emit(
            CallStarted(
                at=self._trace.elapsed,
                call=self._number,
                role=self.request.role,
                purpose=self.request.purpose,
                index=self.request.index,
                n=self.request.n,
            )
        )
        return self

    def admit(self, waited: float) -> None:
        """The attempt has its slot, after so many seconds."""
        self._queued = waited

    def take(self, delta: Delta) -> None:
        """Book a delta and pass it on. Raises BudgetExhausted when its tokens do not fit, EngineError for a wrong index."""
        self._was_heard = True
        self._is_stated = delta.usage is not None and not (delta.text or delta.reasoning)
        if delta.usage is not None:
            self._usage = delta.usage
        if delta.tokens and not self._lease.take(delta.tokens):
            raise BudgetExhausted(self._lease.scarce)
        if not 0 <= delta.index < len(self._partials):
            raise EngineError(
                f"a delta of completion {delta.index}, of {len(self._partials)} asked for",
                role=self.request.role,
            )
        partial = self._partials[delta.index]
        if partial.finish_reason is not None:
            return  # the usage at the end of a stream, or text after a completion's end
        partial.add(delta)
        if delta.labels is not None:
            self._progress.labels = _normalised(delta)
        if delta.reward is not None:
            self._progress.reward = delta.reward
        if self._on_delta is not None:
            self._on_delta(delta, partial)
        if self._trace.keeps_deltas and (delta.text or delta.reasoning):
            self._trace.emit(
                CallDelta(
                    at=self._trace.elapsed,
                    call=self._number,
                    index=partial.index,
                    text=delta.text,
                    reasoning=delta.reasoning,
                )
            )
        if delta.finish_reason is not None:
            exhausted = self._lease.scarce if self._is_truncated_by_budget(delta.index) else None
            self._progress.finish(partial, exhausted=exhausted)

    def is_complete(self) -> bool:
        """Whether nothing is missing of a stream that broke but its end.

        All completions are finished, or the one that cannot be taken back has as many tokens as were asked for.
        """
        if self._progress.missing and self._progress.is_resumed and self._progress.can_continue():
            cap = self.request.sampling.max_tokens
            if cap is not None and cap <= self._partials[0].tokens - self._begun[0]:
                self.take(Delta(finish_reason="length"))
        return not self._progress.missing

    def check(self) -> None:
        """The stream is over. Raises StreamInterrupted if it is not complete, UnusableCompletion if all of the call is empty.

        Raises BudgetExhausted if the budget, and not the client or the model, ended a completion.
        """
        progress, role = self._progress, self.request.role
        if not self.is_complete():
            raise StreamInterrupted("the stream ended without a finish reason", role=role)
        if progress.exhausted is not None:
            raise BudgetExhausted(progress.exhausted)
        if not progress.handed_over:
            raise UnusableCompletion(
                f"{role} wrote nothing but reasoning or white space", role=role
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end = end_of(error)
        try:
            if end in ("truncated", "cancelled"):
                self._progress.keep_what_serves(end)
        finally:
            self._bill(end, error, is_retried=error is not None and self._may_follow(error))

    def _bill(self, end: CallEnd, error: BaseException | None, *, is_retried: bool) -> None:
        elapsed = anyio.current_time() - self._began
        if self._queued is None:
            used = Usage()
            self._lease.withdraw()
        else:
            used = self._used(end)
            is_void = is_retried and not self._progress.is_resumed
            void = len(self._progress.missing) if is_void else 0
            self._lease.settle(used, void=void, is_retried=is_retried)
        spent = self._lease.spent
        if is_retried and self._progress.is_resumed:
            self._waste.use(self._partials[0].sources)
        wasted = self._delivered(spent.completion, is_finished=end == "finished")
        labels = self._progress.labels
        queued = elapsed if self._queued is None else self._queued
        self._trace.emit(
            CallFinished(
                at=self._trace.elapsed,
                call=self._number,
                role=self.request.role,
                purpose=self.request.purpose,
                index=self.request.index,
                end=end,
                usage=Usage(spent.prompt, used.cached, spent.completion),
                attempts=0 if self._queued is None else 1,
                attempt=self._attempt,
                retried=is_retried,
                wasted=wasted,
                is_estimated=self._is_estimated,
                cost=float(self._price.of(spent.prompt, spent.completion)),
                queued=queued,
                seconds=elapsed - queued,
                texts=tuple(self._texts(partial) for partial in self._partials),
                finish_reasons=tuple(partial.finish_reason for partial in self._partials),
                labels=labels if labels is not None and labels.mass else None,
                reward=self._progress.reward,
                error=str(error) if end == "failed" else None,
                messages=self.request.messages,
            )
        )

    def _used(self, end: CallEnd) -> Usage:
        """What the attempt has used; an estimate where the engine has not said it, after all that it wrote."""
        if end == "failed" and not self._was_heard:
            return Usage()
        is_whole = self._lease.is_counted or self._is_stated or end == "finished"
        if self._usage is not None and is_whole:
            return self._usage
        self._is_estimated = True
        return self._lease.estimate

    def _delivered(self, spent: int, *, is_finished: bool) -> int:
        """Say which stream delivered which of the spent tokens; returns how many are wasted by now.

        Those that the engine did not count as they came are shared by the characters of the completions.
        """
        pairs = list(zip(self._partials, self._begun, strict=True))
        sources = [partial.sources[-1] for partial in self._partials]
        counts = [partial.tokens - begun for partial, begun in pairs]
        characters = [
            sum([len(each.text) for each in partial.completion.segments if each.source == source])
            for partial, source in zip(self._partials, sources, strict=True)
        ]
        uncounted = max(0, spent - sum(counts))
        if self._lease.is_counted and not is_finished:
            self._lost += uncounted
        else:
            counts = [a + b for a, b in zip(counts, shares(uncounted, characters), strict=True)]
        for source, tokens, size in zip(sources, counts, characters, strict=True):
            self._waste.deliver(source, tokens, size)
        if self._lost:
            sources.append(self._waste.open(self.request.role))
            self._waste.deliver(sources[-1], self._lost)
        return self._waste.of(sources)

    def _texts(self, partial: PartialCompletion) -> str:
        """What this attempt wrote of the completion, outside of the reasoning."""
        source = partial.sources[-1]
        return "".join(
            [e.text for e in partial.segments if e.source == source and not e.is_reasoning]
        )

    def _is_truncated_by_budget(self, position: int) -> bool:
        lease, partial = self._lease, self._partials[position]
        written = partial.tokens - self._begun[position]
        is_at_cap = not lease.is_counted or written >= lease.cap
        return lease.is_shrunk and is_at_cap and partial.finish_reason == "length"


def shares(total: int, weights: list[int]) -> list[int]:
    """The total in whole parts by weight, in order; without any weight all of it is the first part's."""
    whole = sum(weights)
    if not whole:
        return [total, *[0] * (len(weights) - 1)]
    found, before, given = [], 0, 0
    for weight in weights:
        before += weight
        part = total * before // whole - given
        given += part
        found.append(part)
    return found


def _normalised(delta: Delta) -> LabelRead:
    """The labels' probabilities relative to their mass; a mass of 0 where none is a likely reply."""
    labels = delta.labels or {}
    mass = sum(labels.values())
    if mass <= 0:
        return LabelRead()
    return LabelRead({label: p / mass for label, p in labels.items()}, min(1.0, mass))

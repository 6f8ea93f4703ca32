"""An attempt of a call in flight: token accounting and the final usage record, on every exit path."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

import anyio

from secondpass.service.calls.budget import Lease
from secondpass.service.calls.delivered import Delivered
from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.calls.progress import Progress, end_of
from secondpass.service.calls.waste import Waste, split_by_weight
from secondpass.service.common.events import CallDelta, CallEnd, CallFinished, CallStarted, Trace
from secondpass.service.common.limits import Price
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    EngineError,
    EngineUnavailable,
    ReasoningTruncated,
    StreamInterrupted,
    UnusableCompletion,
)
from secondpass.strategies.api.values import (
    TRUNCATING,
    BudgetKind,
    LabelDistribution,
    ReportedUsage,
    Usage,
)

STREAM_ERRORS = (EngineUnavailable, StreamInterrupted)
"""Errors that interrupt a stream."""


class InFlight:
    """Context manager around one attempt: its wait for a slot and its deltas.

    Emits the usage record on exit. `request` is the engine request of this attempt, with the lease's cap.

    Args:
        is_counted: The engine reports token counts while it streams.
        can_retry: Returns whether another attempt follows an error.
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
        is_counted: bool,
        can_retry: Callable[[BaseException], bool],
    ) -> None:
        self._number, self._attempt = number, attempt
        if progress.first_attempt is None:
            progress.first_attempt = number
        self._first_attempt = progress.first_attempt
        if not request.reward:
            sampling = request.sampling.model_copy(update={"max_tokens": lease.cap})
            request = replace(request, sampling=sampling)
        self.request = request
        progress.start_attempt()
        self._progress, self._lease, self._price = progress, lease, price
        self._trace, self._waste, self._can_retry = trace, waste, can_retry
        self._partials = progress.partials
        self._earlier_tokens = [partial.tokens for partial in self._partials]
        self._delivered = Delivered(len(self._partials))
        self._has_counts = is_counted
        self._on_delta = progress.receiver.on_delta
        self._reported = ReportedUsage()
        self._undelivered = 0
        self._queued: float | None = None
        self._has_response = self._has_final_usage = self._is_read = False
        self._is_estimated = False
        self._looping: set[int] = set()
        self._started_at = anyio.current_time()

    def __enter__(self) -> Self:
        self._trace.emit(
            CallStarted(
                at=self._trace.elapsed,
                call=self._number,
                first_attempt=self._first_attempt,
                role=self.request.role,
                purpose=self.request.purpose,
                index=self.request.index,
                n=self.request.n,
            )
        )
        return self

    def admit(self, waited: float) -> None:
        """Note that a slot was granted after `waited` seconds."""
        self._queued = waited

    def take(self, delta: Delta) -> None:
        """Charge a delta and pass it on.

        Raises:
            BudgetExhausted: The engine generates more tokens than the budget has room for.
            EngineError: The index is invalid.
        """
        self._has_response = True
        has_count = delta.usage is not None and delta.usage.completion is not None
        self._has_final_usage = has_count and not (delta.text or delta.reasoning)
        if delta.usage is not None:
            self._reported = self._reported.updated(delta.usage)
        if delta.tokens:
            self._lease.take(delta.tokens)
        if not 0 <= delta.index < len(self._partials):
            raise EngineError(
                f"engine returned a delta for completion {delta.index} of {len(self._partials)} requested",
                role=self.request.role,
            )
        self._note_delivered(delta, is_covered=delta.tokens > 0 or (self._has_counts and has_count))
        partial = self._partials[delta.index]
        if partial.finish_reason is not None:  # final usage of the stream, or text that is dropped
            if delta.finish_reason is not None:
                self._looping.discard(delta.index)
            self._stop_at_overrun()
            return
        delta = self._ended_if_looping(delta, partial)
        partial.add(delta)
        self._pass_on(delta, partial)
        if delta.finish_reason is not None:
            exhausted = (
                self._lease.binding_limit if self._is_truncated_by_budget(delta.index) else None
            )
            self._progress.finish(partial, exhausted=exhausted)
        if self._lease.overrun and self._progress.missing:
            self._stop_at_overrun()
        if has_count and delta.finish_reason is not None:
            self._has_final_usage = not self._progress.missing

    def _note_delivered(self, delta: Delta, *, is_covered: bool) -> None:
        """Note text that the engine has not counted yet, or that its count covers."""
        if is_covered:
            self._delivered.remove(delta.index)
        else:
            self._delivered.add(delta)

    def _pass_on(self, delta: Delta, partial: PartialCompletion) -> None:
        """Pass a delta to the call, its receiver and the trace."""
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

    def _ended_if_looping(self, delta: Delta, partial: PartialCompletion) -> Delta:
        """Return the delta, as the last one of its completion if that repeats itself."""
        reason = delta.finish_reason
        if reason is not None and reason not in TRUNCATING:
            return delta
        last = partial.ended_by_loop(delta)
        if last is None:
            return delta
        if reason is None:
            self._looping.add(delta.index)
        return last

    @property
    def is_stopped(self) -> bool:
        """True if all completions are finished, but the engine still generates some that repeat themselves."""
        return bool(self._looping) and not self._progress.missing

    def _stop_at_overrun(self) -> None:
        """Raise BudgetExhausted, which closes the stream, if the attempt exceeded a limit."""
        if (limit := self.exceeded) is not None:
            raise BudgetExhausted(limit)

    @property
    def exceeded(self) -> BudgetKind | None:
        """The limit that this attempt exceeded, or None."""
        return self._lease.exceeded

    @property
    def speed(self) -> tuple[int, float]:
        """Tokens of the longest completion of this attempt, at most its cap, and seconds since its admission."""
        if self._queued is None:
            return 0, 0.0
        counts = [p.tokens - e for p, e in zip(self._partials, self._earlier_tokens, strict=True)]
        average = (self._reported.completion or 0) // self.request.n
        tokens = min(max(*counts, average), self._lease.cap)
        return tokens, anyio.current_time() - self._started_at - self._queued

    @property
    def expected_prompt(self) -> int:
        """Prompt tokens of the lease."""
        return self._lease.prompt

    @property
    def reported_prompt(self) -> int | None:
        """Prompt tokens that the engine has reported; None if none."""
        return self._reported.prompt

    def is_complete(self) -> bool:
        """Return whether an interrupted stream had delivered everything except its end.

        True if all completions are finished, or if the visible one has as many tokens as were requested.
        """
        if self._progress.missing and self._progress.is_resumed and self._progress.can_continue():
            cap = self.request.sampling.max_tokens
            if cap is not None and cap <= self._partials[0].tokens - self._earlier_tokens[0]:
                self.take(Delta(finish_reason="length"))
        return not self._progress.missing

    def check(self) -> None:
        """Validate the attempt at the end of its stream.

        Raises:
            StreamInterrupted: The stream is incomplete.
            BudgetExhausted: The budget truncated a completion.
            UnusableCompletion: All completions of the call are empty; ReasoningTruncated if their reasoning reached the
                token limit or repeated itself.
        """
        progress, role = self._progress, self.request.role
        if not self.is_complete():
            raise StreamInterrupted("the stream ended without a finish reason", role=role)
        self._is_read = True
        if progress.exhausted is not None:
            raise BudgetExhausted(progress.exhausted)
        if not progress.handed_over:
            if self._is_reasoning_truncated():
                at_limit = [p.tokens for p in self._partials if p.finish_reason == "length"]
                tokens = max(at_limit) or self._lease.cap if at_limit else None
                raise ReasoningTruncated(tokens, role=role)
            raise UnusableCompletion(f"{role} returned only reasoning or whitespace", role=role)

    def _is_reasoning_truncated(self) -> bool:
        """Return whether reasoning, which may be hidden, was truncated in every completion."""
        is_hidden = self._reported.completion != 0
        return all(
            each.finish_reason in TRUNCATING and (each.reasoning or (is_hidden and not each.text))
            for each in (partial.completion for partial in self._partials)
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
                self._progress.hand_over_usable(end)
        finally:
            if self.exceeded is not None and not self._progress.missing:
                end = "finished"  # an overrun truncates no finished completion
            self._emit_record(end, error, is_retried=error is not None and self._can_retry(error))

    def _emit_record(self, end: CallEnd, error: BaseException | None, *, is_retried: bool) -> None:
        elapsed = anyio.current_time() - self._started_at
        if self._queued is None:
            used = Usage()
            self._lease.cancel()
        else:
            used, is_known = self._final_usage(error)
            is_void = is_retried and not self._progress.is_resumed
            void = len(self._progress.missing) if is_void else 0
            self._lease.settle(used, is_known=is_known, void=void, is_retried=is_retried)
        spent = self._lease.spent
        if is_retried and self._progress.is_resumed:
            self._waste.use(self._partials[0].sources)
        wasted = self._count_waste(spent.completion, is_finished=end == "finished")
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
                first_attempt=self._first_attempt,
                retried=is_retried,
                wasted=wasted,
                overrun=self._lease.overrun,
                withheld=self._lease.withheld,
                is_estimated=self._is_estimated,
                cost=float(self._price.of(spent.prompt, spent.completion)),
                queued=queued,
                seconds=elapsed - queued,
                texts=tuple(self._text_of(partial) for partial in self._partials),
                finish_reasons=tuple(partial.finish_reason for partial in self._partials),
                labels=labels if labels is not None and labels.mass else None,
                reward=self._progress.reward,
                error=str(error) if end == "failed" else None,
                messages=self.request.messages,
            )
        )

    def _final_usage(self, error: BaseException | None) -> tuple[Usage, bool]:
        """Return the usage, with an estimate of each count that was not reported, and whether it is known.

        It is not known if the completion tokens are an estimate of those delivered. An attempt without a response costs
        nothing, but an engine whose stream broke before its first token may have generated some.
        """
        if isinstance(error, EngineError) and not self._has_response:
            self._is_estimated = isinstance(error, StreamInterrupted) and not self._has_counts
            return Usage(), not self._is_estimated
        counted = self._lease.spent.completion
        is_counted = self._has_counts and not self._delivered.has_text
        is_read = self._is_read and not self._looping and not self._has_counts
        is_complete = is_counted or self._has_final_usage or is_read
        prompt, completion = self._reported.prompt, self._reported.completion
        if not is_complete or (not completion and self._delivered.has_text):
            completion = None  # a report of 0 tokens contradicts delivered text
        is_known = is_counted or completion is not None
        self._is_estimated = prompt is None or not is_known
        if completion is None:
            completion = counted
        if not is_known:
            completion += self._delivered.estimate(self._lease.cap)
        usage = Usage(
            self._lease.prompt if prompt is None else prompt, self._reported.cached, completion
        )
        return usage, is_known

    def _count_waste(self, spent: int, *, is_finished: bool) -> int:
        """Attribute the spent tokens to the streams that delivered them; return the number wasted so far.

        Tokens that the engine did not count while it streamed are attributed in proportion to characters.
        """
        pairs = list(zip(self._partials, self._earlier_tokens, strict=True))
        sources = [partial.sources[-1] for partial in self._partials]
        counts = [partial.tokens - earlier for partial, earlier in pairs]
        characters = [
            sum([len(each.text) for each in partial.completion.segments if each.source == source])
            for partial, source in zip(self._partials, sources, strict=True)
        ]
        uncounted = max(0, spent - sum(counts))
        if self._has_counts and not is_finished and not self._delivered.has_text:
            self._undelivered += uncounted
        else:
            counts = [
                a + b for a, b in zip(counts, split_by_weight(uncounted, characters), strict=True)
            ]
        for source, tokens, size in zip(sources, counts, characters, strict=True):
            self._waste.deliver(source, tokens, size)
        if self._undelivered:
            sources.append(self._waste.open(self.request.role))
            self._waste.deliver(sources[-1], self._undelivered)
        return self._waste.of(sources)

    def _text_of(self, partial: PartialCompletion) -> str:
        """Return the completion's text from this attempt, without reasoning."""
        source = partial.sources[-1]
        return "".join(
            [e.text for e in partial.segments if e.source == source and not e.is_reasoning]
        )

    def _is_truncated_by_budget(self, position: int) -> bool:
        lease, partial = self._lease, self._partials[position]
        generated = partial.tokens - self._earlier_tokens[position]
        is_at_cap = not self._has_counts or generated >= lease.cap
        return lease.is_reduced and is_at_cap and partial.finish_reason == "length"


def _normalised(delta: Delta) -> LabelDistribution:
    """Return label probabilities that sum to 1, with their total mass.

    The mass is 0 if no label is a likely reply, or if a probability is not a finite number.
    """
    labels = delta.labels or {}
    mass = sum(labels.values())
    if not 0 < mass < math.inf:
        return LabelDistribution()
    return LabelDistribution({label: p / mass for label, p in labels.items()}, min(1.0, mass))

"""Progress of one call across its attempts: completions handed over, and the next attempt's request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import anyio

from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.calls.waste import Waste
from secondpass.service.common.events import CallEnd
from secondpass.strategies.api.engine import Call, Delta, Engine
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.values import BudgetKind, Completion, LabelDistribution

OnDelta = Callable[[Delta, PartialCompletion], None]
OnCompletion = Callable[[Completion], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Callbacks that receive the completions of a call.

    Attributes:
        on_completion: Receives each finished completion, and usable truncated ones when the budget is exhausted.
        on_delta: Receives each delta with its partial completion.
        is_usable: Returns whether a truncated completion is usable.
        salvage: Receives the usable completions of a cancelled call; returns whether it keeps them.
        keep: Receives each completion, finished or truncated, of which nothing may be lost when the run ends.
        allow_empty: Accept completions without text.
    """

    on_completion: OnCompletion
    on_delta: OnDelta | None
    is_usable: Callable[[Completion], bool]
    salvage: Callable[[Completion], bool]
    keep: Callable[[Completion], None] = lambda _: None
    allow_empty: bool = False


class Progress:
    """Context manager around all attempts of one call.

    Delivered text of a `Call.visible` call cannot be revoked: the next attempt continues from its tokens, or the call
    fails. Other unfinished completions are discarded when an attempt fails.

    Attributes:
        partials: Completions of the current attempt, by position in its request.
        handed_over: Number of completions handed over.
        exhausted: The limit that truncated a completion, if any.
        first_attempt: Number of the call's first attempt within the run; None before it.
        prompt_tokens: Tokens of the call's prompt.
        takes_remainder: The next lease may be smaller than expected.
    """

    def __init__(
        self,
        call: Call,
        engine: Engine,
        waste: Waste,
        receiver: Receiver,
        take_sample: Callable[[], bool],
    ) -> None:
        self.call, self.receiver = call, receiver
        self._take_sample = take_sample
        self.handed_over = 0
        self.exhausted: BudgetKind | None = None
        self.first_attempt: int | None = None
        self.labels: LabelDistribution | None = None
        self.reward: float | None = None
        self.prompt_tokens = 0
        self.takes_remainder = False
        self._engine, self._waste = engine, waste
        self._is_split = False
        self._allow_empty = receiver.allow_empty or bool(call.labels) or call.reward
        self.partials: list[PartialCompletion] = []
        self._has_started = False

    @property
    def missing(self) -> list[PartialCompletion]:
        """Completions that are not finished."""
        return [partial for partial in self.partials if partial.finish_reason is None]

    @property
    def _pending(self) -> list[int]:
        """Indices of the completions that are not finished."""
        if not self._has_started:
            return list(range(self.call.index, self.call.index + self.call.n))
        return [partial.index for partial in self.missing]

    @property
    def is_resumed(self) -> bool:
        """True if the next attempt continues from delivered tokens."""
        return self.call.visible and any(part.text for p in self.partials for part in p.segments)

    @property
    def delivered(self) -> int:
        """Number of tokens that the next attempt continues from."""
        return self.partials[0].tokens if self.is_resumed else 0

    def can_continue(self) -> bool:
        """Return whether another attempt is possible without revoking delivered text.

        Continuing requires the ids of all delivered tokens. It is not possible in three cases. With stop strings,
        engines delay text while the tokens already count. With reasoning, a continuation has no reasoning parser. With a
        schema, the grammar would restart.
        """
        if self._is_split or not self.is_resumed:
            return not self._is_split
        call, partial = self.call, self.partials[0]
        completion = partial.completion
        return (
            {"prefix", "tokenize"} <= self._engine.capabilities
            and call.n == 1
            and not isinstance(call.prefix, str)
            and call.schema is None
            and not call.sampling.stop
            and not completion.reasoning
            and 0 < len(completion.token_ids) == partial.tokens
        )

    def request(self) -> Call:
        """Return the next request: the whole call, a continuation, or only its missing completions."""
        call = self.call
        if self.is_resumed:
            prefix = call.prefix if isinstance(call.prefix, tuple) else ()
            ids = self.partials[0].completion.token_ids
            sampling = call.sampling
            if sampling.max_tokens is not None:
                remaining = max(1, sampling.max_tokens - self.delivered)
                sampling = sampling.model_copy(update={"max_tokens": remaining})
            return replace(call, prefix=(*prefix, *ids), sampling=sampling)
        pending = self._pending
        if len(pending) == call.n:
            return call
        return replace(call, n=len(pending), index=pending[0])

    def split(self) -> list[Progress]:
        """Split a partly finished seeded batch into one call per missing completion; empty for any other call.

        The i-th completion of a batch uses the call's seed plus i, so a separate request returns the same completion.
        """
        call, missing, seed = self.call, self.missing, self.call.sampling.seed
        if seed is None or not 0 < len(missing) < call.n:
            return []
        self._is_split = True
        parts = []
        self.partials = []
        for index in [partial.index for partial in missing]:
            sampling = call.sampling.model_copy(update={"seed": seed + index - call.index})
            single = replace(call, n=1, index=index, sampling=sampling)
            progress = Progress(single, self._engine, self._waste, self.receiver, self._take_sample)
            progress.handed_over, progress.takes_remainder = self.handed_over, self.takes_remainder
            progress.prompt_tokens = self.prompt_tokens
            progress.first_attempt = self.first_attempt
            parts.append(progress)
        return parts

    def start_attempt(self) -> None:
        """Open the partial completions of an attempt that has its lease."""
        role = self.call.role
        self.labels = self.reward = None
        if self.is_resumed:
            self.partials[0].open(self._waste.open(role))
            return
        self.partials = [
            PartialCompletion(self.call, index, self._waste.open(role)) for index in self._pending
        ]
        self._has_started = True

    def finish(self, partial: PartialCompletion, *, exhausted: BudgetKind | None) -> None:
        """Hand a finished completion over. If the limit `exhausted` truncated it, it must be usable."""
        completion = partial.completion
        self.exhausted = exhausted or self.exhausted
        if exhausted is not None and not self.receiver.is_usable(completion):
            return
        has_text = bool(completion.text.strip() or completion.tool_calls)
        is_reasoning = self.call.resumable and bool(completion.reasoning.strip())
        if has_text or is_reasoning or self._allow_empty:
            self._hand_over(partial)
            self.receiver.on_completion(completion)

    def hand_over_usable(self, end: CallEnd, *, needs_sample: bool = False) -> None:
        """Hand over unfinished but usable completions when the budget or a cancellation ends the call.

        With `needs_sample`, charge a sample for each: those of the last attempt were returned.
        """
        for partial in self.missing:
            completion = partial.completion
            if partial.is_handed_over or not self.receiver.is_usable(completion):
                continue
            if end == "truncated":
                if needs_sample and not self._take_sample():
                    return
                self._hand_over(partial)
                self.receiver.on_completion(completion)
            elif self.receiver.salvage(completion):
                self._hand_over(partial)

    def _hand_over(self, partial: PartialCompletion) -> None:
        partial.is_handed_over = True
        self.handed_over += 1
        self._waste.use(partial.sources)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end = end_of(error)
        if end in ("truncated", "cancelled"):
            self.hand_over_usable(end, needs_sample=not self.is_resumed)
        for partial in self.partials:
            if not partial.is_handed_over:
                self._waste.use(partial.sources, is_used=False)
                if end in ("truncated", "cancelled"):
                    self.receiver.keep(partial.completion)


def end_of(error: BaseException | None) -> CallEnd:
    """Return the `CallEnd` of a call that ended with `error`."""
    if error is None:
        return "finished"
    if isinstance(error, BudgetExhausted):
        return "truncated"
    if isinstance(error, anyio.get_cancelled_exc_class()):
        return "cancelled"
    return "failed"

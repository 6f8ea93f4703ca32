"""One call over its attempts: what was handed over, and what the next attempt asks for."""

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
from secondpass.strategies.api.values import BudgetKind, Completion, LabelRead

OnDelta = Callable[[Delta, PartialCompletion], None]
OnCompletion = Callable[[Completion], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where a call's completions go.

    `on_completion` receives each one once it is finished, and at the end of the budget also what is truncated but
    `is_usable`; `salvage` receives the usable ones of a call that is cancelled, and says whether it needs them. A
    completion without text is of no use unless it `may_be_empty`.
    """

    on_completion: OnCompletion
    on_delta: OnDelta | None
    is_usable: Callable[[Completion], bool]
    salvage: Callable[[Completion], bool]
    may_be_empty: bool = False


class Progress:
    """The completions of one call, as a context manager around all its attempts.

    `partials` are those that the running attempt writes, by their positions in its request. Text that somebody acted on
    (`Call.visible`) cannot be taken back: another attempt continues from its tokens, or there is none. All else that is
    unfinished is void when an attempt fails. `handed_over` counts the completions that were; `exhausted` is the limit that
    truncated one. `prompt_tokens` are the call's, and `takes_rest` is the last lease's. `take_sample` spends a sample, if
    one is left.
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
        self.labels: LabelRead | None = None
        self.reward: float | None = None
        self.prompt_tokens = 0
        self.takes_rest = False
        self._engine, self._waste = engine, waste
        self._is_split = False
        self._may_be_empty = receiver.may_be_empty or bool(call.labels) or call.reward
        self.partials: list[PartialCompletion] = []
        self._is_begun = False

    @property
    def missing(self) -> list[PartialCompletion]:
        """What is not finished."""
        return [partial for partial in self.partials if partial.finish_reason is None]

    @property
    def _pending(self) -> list[int]:
        """The indices of what is not finished."""
        if not self._is_begun:
            return list(range(self.call.index, self.call.index + self.call.n))
        return [partial.index for partial in self.missing]

    @property
    def is_resumed(self) -> bool:
        """Whether the next attempt continues from delivered tokens."""
        return self.call.visible and any(part.text for p in self.partials for part in p.segments)

    @property
    def delivered(self) -> int:
        """Tokens that the next attempt continues from."""
        return self.partials[0].tokens if self.is_resumed else 0

    def can_continue(self) -> bool:
        """Whether another attempt could do without taking anything back.

        To continue from delivered tokens, each of them must be known. Stop strings are looked for in text that engines
        hold back while the tokens already count, reasoning is separated from the tokens by a parser that continuations
        do not have, and a grammar would start from its beginning.
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
        """What the next attempt asks for: the whole call, the rest of its text, or its missing completions."""
        call = self.call
        if self.is_resumed:
            held = call.prefix if isinstance(call.prefix, tuple) else ()
            ids = self.partials[0].completion.token_ids
            sampling = call.sampling
            if sampling.max_tokens is not None:
                rest = max(1, sampling.max_tokens - self.delivered)
                sampling = sampling.model_copy(update={"max_tokens": rest})
            return replace(call, prefix=(*held, *ids), sampling=sampling)
        pending = self._pending
        if len(pending) == call.n:
            return call
        return replace(call, n=len(pending), index=pending[0])

    def split(self) -> list[Progress]:
        """Each missing completion as a call of its own, where a part of a seeded batch is missing: none elsewhere.

        The i-th completion of a batch is drawn with the i-th seed from the call's own, so that it is the same one alone.
        """
        call, missing, seed = self.call, self.missing, self.call.sampling.seed
        if seed is None or not 0 < len(missing) < call.n:
            return []
        self._is_split = True
        found = []
        self.partials = []
        for index in [partial.index for partial in missing]:
            sampling = call.sampling.model_copy(update={"seed": seed + index - call.index})
            alone = replace(call, n=1, index=index, sampling=sampling)
            progress = Progress(alone, self._engine, self._waste, self.receiver, self._take_sample)
            progress.handed_over, progress.takes_rest = self.handed_over, self.takes_rest
            progress.prompt_tokens = self.prompt_tokens
            found.append(progress)
        return found

    def begin(self) -> None:
        """An attempt was granted: open what it writes."""
        role = self.call.role
        self.labels = self.reward = None
        if self.is_resumed:
            self.partials[0].open(self._waste.open(role))
            return
        self.partials = [
            PartialCompletion(self.call, index, self._waste.open(role)) for index in self._pending
        ]
        self._is_begun = True

    def finish(self, partial: PartialCompletion, *, exhausted: BudgetKind | None) -> None:
        """Hand the completion over. One that the limit `exhausted` truncated must be usable as it is."""
        completion = partial.completion
        self.exhausted = exhausted or self.exhausted
        if exhausted is not None and not self.receiver.is_usable(completion):
            return
        has_text = bool(completion.text.strip() or completion.tool_calls)
        is_reasoning = self.call.resumable and bool(completion.reasoning.strip())
        if has_text or is_reasoning or self._may_be_empty:
            self._hand_over(partial)
            self.receiver.on_completion(completion)

    def keep_what_serves(self, end: CallEnd, *, was_returned: bool = False) -> None:
        """Hand over what is unfinished but usable, when the budget or a cancellation ends the call.

        `was_returned`: the samples of the last attempt were, so that each completion needs one again.
        """
        for partial in self.missing:
            completion = partial.completion
            if partial.is_handed_over or not self.receiver.is_usable(completion):
                continue
            if end == "truncated":
                if was_returned and not self._take_sample():
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
            self.keep_what_serves(end, was_returned=not self.is_resumed)
        for partial in self.partials:
            if not partial.is_handed_over:
                self._waste.use(partial.sources, is_used=False)


def end_of(error: BaseException | None) -> CallEnd:
    """How a call ended that left its block with this error."""
    if error is None:
        return "finished"
    if isinstance(error, BudgetExhausted):
        return "truncated"
    if isinstance(error, anyio.get_cancelled_exc_class()):
        return "cancelled"
    return "failed"

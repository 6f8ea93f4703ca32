"""Generating verbs: completions, samples, continuations and streams of steps."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import anyio

from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.common.concurrency import Emit, Results, delay_next_lane, gather, task_group
from secondpass.service.common.events import AnswerDelta
from secondpass.service.runs.base import Verbs
from secondpass.service.runs.call_builder import draft_of
from secondpass.service.runs.step_stream import LiveStepStream
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.handles import Reserve
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.run import DEFAULT_DRAW, After
from secondpass.strategies.api.values import SOLVE, Completion, Draw, Message, PrefixPart, Role
from secondpass.strategies.continuation.segments import (
    has_ids,
    joined,
    prefix_parts,
    reopened,
    without_ids,
)

T = TypeVar("T")
R = TypeVar("R")

Drawing: TypeAlias = Callable[[range, Emit[Completion]], Awaitable[None]]
"""Draws the samples with these indices in one request."""

EXTEND = "extend"
"""Purpose of a call that continues a completion."""


class GeneratingVerbs(Verbs):
    """The generating verbs of `strategies.api.run.Run`."""

    has_streamed = False
    skipped_samples = 0

    async def ask(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
        visible: bool = False,
        resumable: bool = False,
        schema: Mapping[str, Any] | None = None,
        reserved: Reserve | None = None,
        **values: Value,
    ) -> Completion:
        is_visible = visible and self.spec.is_streamed
        call = self._builder.call(
            prompt,
            role,
            self._builder.conversation(prompt, values, after),
            index=index,
            session_of=draft_of(after, index),
            draw=draw,
            resumable=resumable,
        )
        call = replace(
            call if is_visible or resumable else self._with_batched_deltas(call),
            visible=is_visible,
            schema=None if schema is None else json.dumps(schema),
        )
        return await self._complete(
            call,
            on_delta=self._stream_answer if is_visible else None,
            reserved=reserved,
            is_part=resumable and (draw.max_tokens is not None or bool(draw.stop)),
        )

    async def _complete(
        self, call: Call, whole: Callable[[Completion], Completion] = lambda own: own, **how: Any
    ) -> Completion:
        """Perform a call and return its completion; one that the budget truncated may become the answer."""
        completions: list[Completion] = []
        try:
            await self._calls.perform(
                call, lambda own: completions.append(whole(own)), whole=whole, **how
            )
        except BudgetExhausted:
            for completion in completions:
                self._elect_fallback(completion)
            raise
        return completions[0]

    @asynccontextmanager
    async def sample(
        self,
        prompt: str,
        n: int,
        *,
        width: int | None = None,
        batch: int = 1,
        role: Role = "actor",
        after: After = None,
        prefix: Completion | None = None,
        draw: Draw = DEFAULT_DRAW,
        **values: Value,
    ) -> AsyncIterator[AsyncIterator[Completion]]:
        for name, number in (("n", n), ("batch", batch), ("width", width)):
            if number is not None and number < 1:
                raise ValueError(f"{name}: must be at least 1, not {number}")
        draw = self._with_temperature(n, draw, role if prefix is None else prefix.role)
        if prefix is None:
            messages = self._builder.conversation(prompt, values, after)
            work = self._sampling(prompt, role, messages, after, draw)
        else:
            if values or after is not None:
                raise ValueError("prefix: not allowed together with `after` or placeholder values")
            work = self._continuing(prefix, EXTEND if prompt == SOLVE else prompt, draw)
            batch = max(batch, n)
        batch = self._batch_size(prefix.role if prefix else role, min(batch, width or batch))
        ranges = self._builder.index_ranges(n, batch, is_one_session=prefix is not None)
        largest = max(map(len, ranges))
        lanes = None if width is None else width // largest
        drafts: Results[Completion] | None = None
        try:
            async with self._gather(self._in_index_order(work), ranges, lanes) as drafts:
                yield drafts
        except (BudgetExhausted, anyio.get_cancelled_exc_class()):
            for draft in [] if drafts is None else drafts.unread:
                if self._is_answer(draft):
                    self._elect_fallback(draft)
            raise
        finally:
            if drafts is not None:
                self.skipped_samples += n - drafts.emitted
                for draft in drafts.unread:
                    self._count_unread(draft, prefix)

    def _in_index_order(self, work: Drawing) -> Drawing:
        """Under a seed, make the work emit its completions in index order, also within one request."""
        if self.spec.sampling.seed is None:
            return work

        async def in_order(indices: range, emit: Emit[Completion]) -> None:
            pending: dict[int, Completion] = {}
            next_index = indices.start

            def add(completion: Completion) -> None:
                nonlocal next_index
                pending[completion.index] = completion
                while next_index in pending:
                    emit(pending.pop(next_index))
                    next_index += 1

            try:
                await work(indices, add)
            finally:
                for _, completion in sorted(pending.items()):  # those after a failed one
                    emit(completion)

        return in_order

    def _sampling(
        self,
        prompt: str,
        role: Role,
        messages: tuple[Message, ...],
        after: After,
        draw: Draw,
    ) -> Drawing:
        """Return the work that draws samples in one request."""

        async def work(indices: range, emit: Emit[Completion]) -> None:
            call = self._builder.call(
                prompt,
                role,
                messages,
                index=indices.start,
                session_of=draft_of(after, indices.start),
                n=len(indices),
                draw=draw,
            )
            await self._calls.perform(self._with_batched_deltas(call), emit)

        return work

    def _continuing(self, prefix: Completion, purpose: str, draw: Draw) -> Drawing:
        """Return the work that draws continuations of a prefix in one request."""

        async def work(indices: range, emit: Emit[Completion]) -> None:
            call = self._builder.call(
                purpose,
                prefix.role,
                prefix.messages,
                index=indices.start,
                session_of=prefix.index,
                n=len(indices),
                draw=draw,
                resumable=True,
            )
            call, resumed = self._as_continuation(call, prefix)
            whole = self._joiner(resumed)
            await self._calls.perform(
                call,
                lambda continuation: emit(whole(continuation)),
                whole=whole,
                is_part=draw.max_tokens is not None,
                allow_empty=bool(prefix.text.strip()),
            )

        return work

    async def extend(
        self,
        completion: Completion,
        *,
        text: str = "",
        purpose: str = EXTEND,
        index: int | None = None,
        draw: Draw = DEFAULT_DRAW,
        resumable: bool = False,
    ) -> Completion:
        call = self._builder.call(
            purpose,
            completion.role,
            completion.messages,
            index=completion.index if index is None else index,
            session_of=completion.index,
            draw=draw,
            resumable=resumable,
        )
        call, prefix = self._as_continuation(call, completion, text)
        return await self._complete(
            call if resumable else self._with_batched_deltas(call),
            self._joiner(prefix, text),
            is_part=resumable and draw.max_tokens is not None,
            allow_empty=not text and bool(completion.text.strip()),
        )

    def _as_continuation(
        self, call: Call, completion: Completion, text: str = ""
    ) -> tuple[Call, Completion]:
        """Make the call continue the completion and `text`; return it with the prefix as a completion.

        The call continues from token ids if the engine supports that and the ids are known, else from text.
        """
        prefix = reopened(completion) or completion
        parts: tuple[PrefixPart, ...] | str
        if (
            self.model(prefix.role).can("prefix", "tokenize")
            and prefix.is_truncated
            and has_ids(prefix)
        ):
            parts = prefix_parts(prefix)
            if text:
                is_text_last = bool(parts) and isinstance(parts[-1], str)
                parts = (*parts[:-1], f"{parts[-1]}{text}") if is_text_last else (*parts, text)
        else:
            prefix = without_ids(prefix)
            parts = prefix.text + text
        self._calls.waste.keep(prefix)
        return replace(call, prefix=parts), prefix

    def _joiner(self, prefix: Completion, text: str = "") -> Callable[[Completion], Completion]:
        """Return the function that joins a continuation with its prefix and the inserted text."""
        closing = self.model(prefix.role).profile.thinking[1]
        return lambda continuation: joined(prefix, continuation, text, closing=closing)

    @asynccontextmanager
    async def steps(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        index: int = 0,
        draw: Draw = DEFAULT_DRAW,
        every: int | None = None,
        **values: Value,
    ) -> AsyncIterator[LiveStepStream]:
        call = self._builder.call(
            prompt,
            role,
            self._builder.conversation(prompt, values, after),
            index=index,
            session_of=draft_of(after, index),
            draw=draw,
            resumable=True,
        )
        async with self._open(LiveStepStream(replace(call, visible=True), every)) as stream:
            yield stream

    @asynccontextmanager
    async def extend_steps(
        self, completion: Completion, *, index: int = 0, draw: Draw = DEFAULT_DRAW
    ) -> AsyncIterator[LiveStepStream]:
        call = self._builder.call(
            EXTEND,
            completion.role,
            completion.messages,
            index=index,
            session_of=completion.index,
            draw=draw,
            resumable=True,
        )
        call, prefix = self._as_continuation(call, completion)
        closing = self.model(prefix.role).profile.thinking[1]
        stream = LiveStepStream(replace(call, visible=True), prefix=prefix, closing=closing)
        async with self._open(stream, prefix):
            yield stream

    @asynccontextmanager
    async def _open(
        self, stream: LiveStepStream, prefix: Completion | None = None
    ) -> AsyncIterator[LiveStepStream]:
        """Generate a stream until the block exits; if it raises, a finished completion may become the answer."""
        try:
            with delay_next_lane():
                async with task_group() as group:
                    group.start_soon(stream.generate, self._calls)
                    yield stream
                    group.cancel_scope.cancel()
        except BaseException:
            if stream.is_finished and self._is_answer(stream.completion):
                self._elect_fallback(stream.completion)
            raise
        finally:
            stream.close()
            if not stream.is_read:
                self._count_unread(stream.completion, prefix)

    def _count_unread(self, completion: Completion, prefix: Completion | None) -> None:
        """Count a completion that was not read as waste, except for its prefix."""
        prefix_sources = set() if prefix is None else {each.source for each in prefix.segments}
        own = tuple(each for each in completion.segments if each.source not in prefix_sources)
        self._calls.waste.drop(replace(completion, segments=own))

    @abstractmethod
    def _is_answer(self, completion: Completion) -> bool:
        """Return whether the completion is the actor's and contains a finished answer."""

    def _stream_answer(self, delta: Delta, _partial: PartialCompletion) -> None:
        """Emit a delta of the answer to the client."""
        if delta.text:
            self.has_streamed = True
            self.trace.emit(AnswerDelta(at=self.trace.elapsed, text=delta.text))

    # -- concurrent work ----------------------------------------------------------------------------

    async def map(
        self,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        failed: Any = None,
        width: int | None = None,
        min_results: int = 1,
    ) -> list[Any]:
        inputs = list(items)
        outputs: list[Any] = [failed] * len(inputs)

        async def one(position: int, emit: Emit[tuple[int, R]]) -> None:
            emit((position, await work(inputs[position])))

        async with gather(
            one,
            range(len(inputs)),
            width=width,
            min_results=min_results,
            on_failure=self.count_failure,
        ) as results:
            async for position, result in results:
                outputs[position] = result
        return outputs

    def as_completed(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        async def one(item: T, emit: Emit[R]) -> None:
            emit(await work(item))

        return self._gather(one, items, width)

    def _gather(
        self, work: Callable[[T, Emit[R]], Awaitable[None]], items: Iterable[T], width: int | None
    ) -> AbstractAsyncContextManager[Results[R]]:
        return gather(
            work,
            items,
            width=width,
            in_order=self.spec.sampling.seed is not None,
            on_failure=self.count_failure,
        )

"""The verbs that generate: whole completions, samples, continuations, completions read step by step."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import anyio

from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.common.concurrency import Emit, Results, gather, hold_turn, task_group
from secondpass.service.common.events import AnswerDelta
from secondpass.service.runs.base import Verbs
from secondpass.service.runs.call_builder import draft_of
from secondpass.service.runs.step_stream import LiveStepStream
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.run import AS_ASKED, After, Reserve
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
"""Work that draws the samples with these indices in one request."""

EXTEND = "extend"
"""The purpose of a call that continues an answer."""


class GeneratingVerbs(Verbs):
    """See `strategies.api.run.Run`."""

    has_streamed = False
    skipped_samples = 0

    async def ask(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        index: int = 0,
        draw: Draw = AS_ASKED,
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
            call if is_visible or resumable else self._gathered(call),
            visible=is_visible,
            schema=None if schema is None else json.dumps(schema),
        )
        return await self._one(
            call,
            on_delta=self._stream_out if is_visible else None,
            reserved=reserved,
            is_part=resumable and (draw.max_tokens is not None or bool(draw.stop)),
        )

    async def _one(
        self, call: Call, whole: Callable[[Completion], Completion] = lambda own: own, **how: Any
    ) -> Completion:
        """The completion of a call, joined with what it continues; one that the budget truncated may be the answer."""
        found: list[Completion] = []
        try:
            await self._calls.perform(
                call, lambda own: found.append(whole(own)), whole=whole, **how
            )
        except BudgetExhausted:
            for completion in found:
                self._salvage(completion)
            raise
        return found[0]

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
        draw: Draw = AS_ASKED,
        **values: Value,
    ) -> AsyncIterator[AsyncIterator[Completion]]:
        for name, number in (("n", n), ("batch", batch), ("width", width)):
            if number is not None and number < 1:
                raise ValueError(f"{name}: at least 1, not {number}")
        if prefix is None:
            messages = self._builder.conversation(prompt, values, after)
            work = self._drawing(prompt, role, messages, after, draw)
        else:
            if values or after is not None:
                raise ValueError(
                    "prefix: leaves no place for `after` and values, which are its own"
                )
            work = self._continuing(prefix, EXTEND if prompt == SOLVE else prompt, draw)
            batch = max(batch, n)
        batch = batch if width is None else min(batch, width)
        portions = self._builder.portions(n, batch, of_one=prefix is not None)
        largest = max(map(len, portions))
        lanes = None if width is None else width // largest
        drafts: Results[Completion] | None = None
        try:
            async with self._gather(self._ordered(work), portions, lanes) as drafts:
                yield drafts
        except (BudgetExhausted, anyio.get_cancelled_exc_class()):
            for each in [] if drafts is None else drafts.unread:
                if self._is_answer(each):
                    self._salvage(each)
            raise
        finally:
            if drafts is not None:
                self.skipped_samples += n - drafts.emitted
                for each in drafts.unread:
                    self._drop(each, prefix)

    def _ordered(self, work: Drawing) -> Drawing:
        """The work, whose completions come in index order under a seed, also those of one request."""
        if self.spec.sampling.seed is None:
            return work

        async def in_order(portion: range, emit: Emit[Completion]) -> None:
            waiting: dict[int, Completion] = {}
            first = portion.start

            def add(completion: Completion) -> None:
                nonlocal first
                waiting[completion.index] = completion
                while first in waiting:
                    emit(waiting.pop(first))
                    first += 1

            try:
                await work(portion, add)
            finally:
                for _, completion in sorted(waiting.items()):  # behind one that failed
                    emit(completion)

        return in_order

    def _drawing(
        self,
        prompt: str,
        role: Role,
        messages: tuple[Message, ...],
        after: After,
        draw: Draw,
    ) -> Drawing:
        """Work that draws a portion of the samples in one request."""

        async def work(portion: range, emit: Emit[Completion]) -> None:
            call = self._builder.call(
                prompt,
                role,
                messages,
                index=portion.start,
                session_of=draft_of(after, portion.start),
                n=len(portion),
                draw=draw,
            )
            await self._calls.perform(self._gathered(call), emit)

        return work

    def _continuing(self, prefix: Completion, purpose: str, draw: Draw) -> Drawing:
        """Work that draws a portion of the continuations of a prefix in one request."""

        async def work(portion: range, emit: Emit[Completion]) -> None:
            call = self._builder.call(
                purpose,
                prefix.role,
                prefix.messages,
                index=portion.start,
                session_of=prefix.index,
                n=len(portion),
                draw=draw,
                resumable=True,
            )
            call, begun = self._continued(call, prefix)
            whole = self._joins(begun)
            await self._calls.perform(
                call,
                lambda more: emit(whole(more)),
                whole=whole,
                is_part=draw.max_tokens is not None,
                may_be_empty=bool(prefix.text.strip()),
            )

        return work

    async def extend(
        self,
        completion: Completion,
        *,
        text: str = "",
        purpose: str = EXTEND,
        index: int | None = None,
        draw: Draw = AS_ASKED,
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
        call, begun = self._continued(call, completion, text)
        return await self._one(
            call if resumable else self._gathered(call),
            self._joins(begun, text),
            is_part=resumable and draw.max_tokens is not None,
            may_be_empty=not text and bool(completion.text.strip()),
        )

    def _continued(
        self, call: Call, completion: Completion, text: str = ""
    ) -> tuple[Call, Completion]:
        """The call as a continuation of the completion and `text`, and what it continues: from tokens where they are known."""
        begun = reopened(completion) or completion
        prefix: tuple[PrefixPart, ...] | str
        if (
            self.model(begun.role).can("prefix", "tokenize")
            and begun.is_truncated
            and has_ids(begun)
        ):
            prefix = prefix_parts(begun)
            if text:
                is_text_last = bool(prefix) and isinstance(prefix[-1], str)
                prefix = (*prefix[:-1], f"{prefix[-1]}{text}") if is_text_last else (*prefix, text)
        else:
            begun = without_ids(begun)
            prefix = begun.text + text
        self._calls.waste.keep(begun)
        return replace(call, prefix=prefix), begun

    def _joins(self, begun: Completion, text: str = "") -> Callable[[Completion], Completion]:
        """How a continuation becomes one completion with what it continues."""
        closing = self.model(begun.role).profile.thinking[1]
        return lambda more: joined(begun, more, text, closing=closing)

    @asynccontextmanager
    async def steps(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        index: int = 0,
        draw: Draw = AS_ASKED,
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
        async with self._read(LiveStepStream(replace(call, visible=True), every)) as stream:
            yield stream

    @asynccontextmanager
    async def extend_steps(
        self, completion: Completion, *, index: int = 0, draw: Draw = AS_ASKED
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
        call, begun = self._continued(call, completion)
        closing = self.model(begun.role).profile.thinking[1]
        stream = LiveStepStream(replace(call, visible=True), begun=begun, closing=closing)
        async with self._read(stream, begun):
            yield stream

    @asynccontextmanager
    async def _read(
        self, stream: LiveStepStream, begun: Completion | None = None
    ) -> AsyncIterator[LiveStepStream]:
        """Write the stream while the block lasts; a finished one that the block leaves by an error may be the answer."""
        try:
            with hold_turn():
                async with task_group() as group:
                    group.start_soon(stream.write, self._calls)
                    yield stream
                    group.cancel_scope.cancel()
        except BaseException:
            if stream.is_finished and self._is_answer(stream.completion):
                self._salvage(stream.completion)
            raise
        finally:
            stream.close()
            if not stream.is_read:
                self._drop(stream.completion, begun)

    def _drop(self, completion: Completion, begun: Completion | None) -> None:
        """Count what was not read as waste, but not the completion that it continues."""
        earlier = set() if begun is None else {each.source for each in begun.segments}
        own = tuple(each for each in completion.segments if each.source not in earlier)
        self._calls.waste.drop(replace(completion, segments=own))

    @abstractmethod
    def _is_answer(self, completion: Completion) -> bool:
        """Return whether a completion was written by the actor and contains a finished answer."""

    def _stream_out(self, delta: Delta, _partial: PartialCompletion) -> None:
        if delta.text:
            self.has_streamed = True
            self.trace.emit(AnswerDelta(at=self.trace.elapsed, text=delta.text))

    # -- many at once -------------------------------------------------------------------------------

    async def map(
        self,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        failed: Any = None,
        width: int | None = None,
        min_results: int = 1,
    ) -> list[Any]:
        listed = list(items)
        found: list[Any] = [failed] * len(listed)

        async def one(position: int, emit: Emit[tuple[int, R]]) -> None:
            emit((position, await work(listed[position])))

        async with gather(
            one,
            range(len(listed)),
            width=width,
            min_results=min_results,
            on_failure=self.count_failure,
        ) as results:
            async for position, result in results:
                found[position] = result
        return found

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

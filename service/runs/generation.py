"""The verbs that have a model write: whole completions, samples, continuations, drafts seen step by step."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from secondpass.service.common.concurrency import Emit, Results, gather, task_group
from secondpass.service.common.events import AnswerDelta
from secondpass.service.runs.base import Verbs
from secondpass.service.runs.call_builder import draft_of
from secondpass.service.runs.step_stream import LiveDraft
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.quoting import Value
from secondpass.strategies.api.run import After, Reserve
from secondpass.strategies.api.values import SOLVE, Completion, Piece, Role
from secondpass.strategies.continuation.segments import joined, pieces, with_text, without_end

T = TypeVar("T")
R = TypeVar("R")


class WritingVerbs(Verbs):
    """See `strategies.api.run.Run`."""

    has_streamed = False
    skipped_samples = 0

    async def ask(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        visible: bool = False,
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
        logprobs: int | None = None,
        reserved: Reserve | None = None,
        **values: Value,
    ) -> Completion:
        is_visible = visible and self.spec.is_streamed
        call = self._asking.call(
            prompt,
            role,
            self._asking.conversation(prompt, values, after),
            index=index,
            draft=draft_of(after, index),
            temperature=temperature,
            max_tokens=max_tokens,
        )
        call = replace(
            call if is_visible else self._unread(call),
            visible=is_visible,
            logprobs=logprobs,
            schema=None if schema is None else json.dumps(schema),
        )
        on_delta = self._stream_out if is_visible else None
        return await self._answered(call, on_delta=on_delta, reserved=reserved)

    async def begin(
        self,
        *,
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        logprobs: int | None = None,
    ) -> Completion:
        call = self._asking.call(
            SOLVE,
            "actor",
            self._asking.conversation(SOLVE, {}),
            index=index,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        call = replace(call, logprobs=logprobs, resumable=True)
        return await self._answered(call, is_part=max_tokens is not None)

    async def _answered(self, call: Call, **how: Any) -> Completion:
        """The call's one completion; what the budget cut is an answer if there is no better one."""
        found: list[Completion] = []
        try:
            await self._calls.perform(call, found.append, **how)
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
        temperature: float | None = None,
        logprobs: int | None = None,
        **values: Value,
    ) -> AsyncIterator[AsyncIterator[Completion]]:
        messages = self._asking.conversation(prompt, values, after)

        async def draw(portion: range, emit: Emit[Completion]) -> None:
            call = self._asking.call(
                prompt,
                role,
                messages,
                index=portion.start,
                draft=draft_of(after, portion.start),
                n=len(portion),
                temperature=temperature,
            )
            await self._calls.perform(self._unread(replace(call, logprobs=logprobs)), emit)

        batch = batch if width is None else min(batch, width)
        portions = self._asking.portions(n, batch)
        largest = max(map(len, portions), default=1)
        lanes = None if width is None else width // largest
        async with self._gather(draw, portions, lanes) as drafts:
            try:
                yield drafts
            finally:
                self.skipped_samples += n - drafts.emitted

    async def extend(
        self,
        completion: Completion,
        *,
        text: str = "",
        purpose: str = "extend",
        temperature: float | None = None,
        max_tokens: int | None = None,
        logprobs: int | None = None,
        resumable: bool = False,
    ) -> Completion:
        call = self._asking.call(
            purpose,
            completion.role,
            completion.messages,
            index=completion.index,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        begun, prefix = self._gone_on_with(completion, text)
        call = replace(call, prefix=prefix, logprobs=logprobs, resumable=resumable)
        found: list[Completion] = []
        await self._calls.perform(
            call if resumable else self._unread(call),
            found.append,
            is_part=resumable and max_tokens is not None,
            may_be_empty=not text and bool(completion.text.strip()),
        )
        closing = self.profile(completion.role).thinking[1]
        return joined(begun, found[0], text, closing=closing)

    def _gone_on_with(
        self, completion: Completion, text: str
    ) -> tuple[Completion, tuple[Piece, ...] | str]:
        """What goes on, and the prefix that holds it and `text`: its pieces where they are known, else all as text."""
        if not text and completion.token_ids:
            return completion, completion.token_ids
        begun = without_end(completion) or completion
        is_by_piece = {"prefix", "tokenize"} <= self._calls.engine(begun.role).capabilities
        if is_by_piece and begun.is_truncated and pieces(begun):
            return begun, with_text(pieces(begun), text)
        begun = replace(begun, token_ids=(), held=(), ends=())
        return begun, begun.text + text

    @asynccontextmanager
    async def steps(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        index: int = 0,
        temperature: float | None = None,
        logprobs: int | None = None,
        every: int | None = None,
        **values: Value,
    ) -> AsyncIterator[LiveDraft]:
        messages = self._asking.conversation(prompt, values, after)
        call = self._asking.call(
            prompt,
            role,
            messages,
            index=index,
            draft=draft_of(after, index),
            temperature=temperature,
        )
        call = replace(call, visible=True, logprobs=logprobs, resumable=True)
        draft = LiveDraft(call, every)
        async with self._written(draft):
            yield draft

    @asynccontextmanager
    async def extend_steps(
        self, completion: Completion, *, index: int = 0, temperature: float | None = None
    ) -> AsyncIterator[LiveDraft]:
        call = self._asking.call(
            "extend",
            completion.role,
            completion.messages,
            index=index,
            draft=completion.index,
            temperature=temperature,
        )
        begun, prefix = self._gone_on_with(completion, "")
        call = replace(call, visible=True, prefix=prefix, resumable=True)
        draft = LiveDraft(call, begun=begun)
        async with self._written(draft):
            yield draft

    @asynccontextmanager
    async def _written(self, draft: LiveDraft) -> AsyncIterator[None]:
        """Have the draft written; leaving the block aborts it."""
        with draft:
            async with task_group() as group:
                group.start_soon(draft.write, self._calls)
                yield
                group.cancel_scope.cancel()

    def _stream_out(self, delta: Delta) -> None:
        if delta.text:
            self.has_streamed = True
            self.trace.emit(AnswerDelta(at=self.trace.elapsed, text=delta.text))

    # -- many at once -------------------------------------------------------------------------------

    async def map(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int | None = None
    ) -> list[R]:
        async def one(item: tuple[int, T], emit: Emit[tuple[int, R]]) -> None:
            emit((item[0], await work(item[1])))

        async with gather(one, enumerate(items), width=width) as results:
            found = [result async for result in results]
        return [result for _, result in sorted(found, key=lambda pair: pair[0])]

    def as_completed(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        async def one(item: T, emit: Emit[R]) -> None:
            emit(await work(item))

        return self._gather(one, items, width)

    def _gather(
        self, work: Callable[[T, Emit[R]], Awaitable[None]], items: Iterable[T], width: int | None
    ) -> AbstractAsyncContextManager[Results[R]]:
        is_seeded = self.spec.sampling.seed is not None
        return gather(work, items, width=width, in_order=is_seeded)

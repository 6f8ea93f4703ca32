"""The verbs that have a model write: whole completions, samples, continuations, drafts seen step by step."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from secondpass.service.concurrency import Emit, Results, gather, task_group
from secondpass.service.drafts import LiveDraft, joined
from secondpass.service.events import AnswerDelta
from secondpass.service.verbs import Verbs
from secondpass.strategies.core import (
    After,
    BudgetExhausted,
    Completion,
    Delta,
    Reserve,
    Role,
)
from secondpass.strategies.quoting import Value

T = TypeVar("T")
R = TypeVar("R")


class WritingVerbs(Verbs):
    """See `strategies.core.Run`."""

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
        is_visible = visible and self.job.is_streamed
        call = self._asking.call(
            prompt,
            role,
            self._asking.conversation(prompt, values, after),
            index=index,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        call = replace(
            call if is_visible else self._unread(call),
            visible=is_visible,
            logprobs=logprobs,
            schema=None if schema is None else json.dumps(schema, sort_keys=True),
        )
        found: list[Completion] = []
        try:
            await self._calls.perform(
                call,
                found.append,
                on_delta=self._stream_out if is_visible else None,
                reserved=reserved,
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
        temperature: float | None = None,
        logprobs: int | None = None,
        **values: Value,
    ) -> AsyncIterator[AsyncIterator[Completion]]:
        messages = self._asking.conversation(prompt, values, after)

        async def draw(start: int, emit: Emit[Completion]) -> None:
            call = self._asking.call(
                prompt,
                role,
                messages,
                index=start,
                n=min(batch, n - start),
                temperature=temperature,
            )
            await self._calls.perform(self._unread(replace(call, logprobs=logprobs)), emit)

        batch = batch if width is None else min(batch, width)
        lanes = None if width is None else width // batch
        async with self._gather(draw, range(0, n, batch), lanes) as drafts:
            try:
                yield drafts
            finally:
                self.skipped_samples += n - drafts.emitted

    async def extend(
        self, completion: Completion, *, text: str = "", max_tokens: int | None = None
    ) -> Completion:
        is_by_token = bool(completion.token_ids) and not text
        call = self._asking.call(
            "extend",
            completion.role,
            completion.messages,
            index=completion.index,
            max_tokens=max_tokens,
        )
        prefix = completion.token_ids if is_by_token else completion.text + text
        found: list[Completion] = []
        await self._calls.perform(self._unread(replace(call, prefix=prefix)), found.append)
        return joined(completion, found[0], text)

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
        call = self._asking.call(prompt, role, messages, index=index, temperature=temperature)
        draft = LiveDraft(replace(call, visible=True, logprobs=logprobs), every)
        async with self._written(draft):
            yield draft

    @asynccontextmanager
    async def extend_steps(
        self, completion: Completion, *, index: int = 0, temperature: float | None = None
    ) -> AsyncIterator[LiveDraft]:
        call = self._asking.call(
            "extend", completion.role, completion.messages, index=index, temperature=temperature
        )
        prefix = completion.token_ids or completion.text
        draft = LiveDraft(replace(call, visible=True, prefix=prefix), begun=completion)
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
        is_seeded = self.job.sampling.seed is not None
        return gather(work, items, width=width, in_order=is_seeded)

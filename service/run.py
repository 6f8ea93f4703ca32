"""The one implementation of `strategies.core.Run`: the verbs that a strategy is written in."""

from __future__ import annotations

import json
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Literal, TypeVar

import anyio

from secondpass.service.asking import Asking
from secondpass.service.budget import Budget, Reserved
from secondpass.service.calls import Calls
from secondpass.service.candidates import Candidates
from secondpass.service.classes import AnswerClasses
from secondpass.service.concurrency import Emit, Results, gather, task_group
from secondpass.service.drafts import LiveDraft
from secondpass.service.events import AnswerDelta, Trace, VerdictSeen
from secondpass.service.job import Job, Shared
from secondpass.strategies import tasks
from secondpass.strategies.core import (
    SOLVE,
    BudgetExhausted,
    Call,
    Candidate,
    Completion,
    Delta,
    Draft,
    LabelRead,
    Message,
    Reserve,
    Role,
    StopReason,
    UnusableCompletion,
)
from secondpass.strategies.tasks import Task

T = TypeVar("T")
R = TypeVar("R")


class LiveRun:
    """A run in progress; see `strategies.core.Run` for the verbs."""

    def __init__(self, job: Job, shared: Shared, trace: Trace) -> None:
        self.job = job
        self.trace = trace
        self.budget = Budget(job.limits)
        self.stop_reason: StopReason = "finished"
        self.interrupted: Literal["draining", "cancelled"] | None = None
        self.scope = anyio.CancelScope()
        self.has_streamed = False
        self.skipped_samples = 0
        self._pace = shared.pace
        self._best: Candidate | None = None
        self._seen = Candidates(trace)
        self._classes = AnswerClasses(job.task, shared.equivalence)
        self._asking = Asking(job)
        self._calls = Calls(
            job.engines,
            job.prices,
            self.budget,
            trace,
            shared.lengths,
            shared.pace,
            strategy=job.strategy.name,
            is_usable=self._is_usable,
            salvage=self._salvage,
        )

    # -- what is known ------------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.job.messages

    @property
    def question(self) -> str:
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def task(self) -> Task:
        return self.job.task

    @property
    def best(self) -> Candidate:
        if self._best is None:
            raise UnusableCompletion("nothing was proposed yet")
        return self._best

    @property
    def has_answer(self) -> bool:
        """Was anything proposed or elected?"""
        return self._best is not None

    # -- asking -------------------------------------------------------------------------------------

    async def ask(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: Completion | None = None,
        visible: bool = False,
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
        reserved: Reserve | None = None,
        **values: str,
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
        temperature: float | None = None,
        **values: str,
    ) -> AsyncIterator[AsyncIterator[Completion]]:
        messages = self._asking.conversation(prompt, values)

        async def draw(start: int, emit: Emit[Completion]) -> None:
            call = self._asking.call(
                prompt,
                role,
                messages,
                index=start,
                n=min(batch, n - start),
                temperature=temperature,
            )
            await self._calls.perform(self._unread(call), emit)

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
        more = found[0]
        return replace(
            more,
            text=completion.text + text + more.text,
            token_ids=completion.token_ids + more.token_ids if is_by_token else (),
            logprobs=completion.logprobs + more.logprobs,
            confidences=completion.confidences + more.confidences,
            purpose=completion.purpose,
            usage=completion.usage + more.usage,
        )

    @asynccontextmanager
    async def steps(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        index: int = 0,
        temperature: float | None = None,
        **values: str,
    ) -> AsyncIterator[LiveDraft]:
        messages = self._asking.conversation(prompt, values)
        call = self._asking.call(prompt, role, messages, index=index, temperature=temperature)
        draft = LiveDraft(replace(call, visible=True))
        with draft:
            async with task_group() as group:
                group.start_soon(draft.write, self._calls)
                yield draft
                group.cancel_scope.cancel()

    async def probe(
        self,
        completion: Completion | Draft,
        prompt: str,
        labels: Sequence[str],
        *,
        role: Role = "actor",
        **values: str,
    ) -> LabelRead:
        draft = completion if isinstance(completion, Completion) else completion.completion
        messages = self._asking.conversation(prompt, values, draft)
        return await self._read(prompt, labels, role, messages)

    async def labels(
        self, prompt: str, labels: Sequence[str], *, role: Role = "judge", **values: str
    ) -> LabelRead:
        return await self._read(prompt, labels, role, self._asking.conversation(prompt, values))

    # -- comparing ----------------------------------------------------------------------------------

    async def same(self, a: str, b: str) -> bool:
        return await self._classes.same(a, b)

    async def class_of(self, candidate: Candidate) -> int | None:
        if candidate.answer is None or self.task.kind == "open":
            return None
        return await self._classes.of(candidate.answer)

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

    @contextmanager
    def reserve(
        self, *, tokens: int, prompt_tokens: int = 0, role: Role = "actor"
    ) -> Iterator[Reserved]:
        reserved = self.budget.reserve(tokens, prompt_tokens, self._calls.price(role))
        try:
            yield reserved
        finally:
            reserved.release()

    # -- answering ----------------------------------------------------------------------------------

    def candidate(
        self,
        completion: Completion | Draft,
        *,
        score: float | None = None,
        score_kind: str | None = None,
        why: str | None = None,
    ) -> Candidate:
        draft = completion if isinstance(completion, Completion) else completion.completion
        candidate = replace(self._candidate_of(draft), score=score, score_kind=score_kind, why=why)
        self._seen.note(candidate)
        return candidate

    def propose(self, candidate: Candidate) -> None:
        if self._best is None or _rank(candidate) > _rank(self._best):
            self.elect(candidate)
        else:
            self._seen.note(candidate)

    def elect(self, candidate: Candidate) -> None:
        self._best = candidate
        self._seen.note_best(candidate)

    def interrupt(self, reason: Literal["draining", "cancelled"]) -> None:
        """End the run from outside; what was proposed so far is its answer."""
        self.interrupted = reason
        self.scope.cancel()

    # -- inside -------------------------------------------------------------------------------------

    def _candidate_of(self, completion: Completion) -> Candidate:
        return Candidate(
            text=completion.text,
            answer=tasks.extract(self.task, completion.text, finished=not completion.is_cut),
            index=completion.index,
            finish_reason=completion.finish_reason,
            tokens=completion.usage.completion,
        )

    def _stream_out(self, delta: Delta) -> None:
        if delta.text:
            self.has_streamed = True
            self.trace.emit(AnswerDelta(at=self.trace.elapsed, text=delta.text))

    def _is_usable(self, call: Call, completion: Completion) -> bool:
        """May a completion that was cut serve as an answer? Only what was streamed, or is complete as it stands."""
        if self.has_streamed:
            return bool(completion.text.strip())
        is_answer = call.role == "actor" and call.purpose in (SOLVE, "extend")
        return is_answer and self._candidate_of(completion).answer is not None

    def _salvage(self, completion: Completion) -> bool:
        """Answer with a cut completion if there is nothing better; was it needed?"""
        if self._best is not None:
            return False
        self.elect(replace(self.candidate(completion), why="cut, but it held an answer"))
        return True

    def _unread(self, call: Call) -> Call:
        """Nobody reads the deltas of this call as they come: they may be gathered."""
        return replace(call, stream_interval=self._pace.interval)

    async def _read(
        self, prompt: str, labels: Sequence[str], role: Role, messages: tuple[Message, ...]
    ) -> LabelRead:
        call = self._asking.call(prompt, role, messages, temperature=0, max_tokens=1)
        read = await self._calls.read(replace(call, labels=tuple(labels), thinking=False))
        self.trace.emit(VerdictSeen(at=self.trace.elapsed, role=role, purpose=prompt, labels=read))
        return read


def _rank(candidate: Candidate) -> float:
    return float("-inf") if candidate.score is None else candidate.score

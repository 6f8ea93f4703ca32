"""A completion that can be read step by step while the engine still writes it."""

from __future__ import annotations

import math
from dataclasses import replace

import anyio

from secondpass.service.calls.dispatch import Calls
from secondpass.service.calls.partial_completion import Writing
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import SecondpassError, UnusableCompletion
from secondpass.strategies.api.step_splitter import StepSplitter, TokenSplitter
from secondpass.strategies.api.values import Completion, Usage
from secondpass.strategies.continuation.segments import cut, joined, pieces


class LiveDraft:
    """The `Draft` of `Run.steps`: written by a task of its own, so that its reader may take its time.

    Iterating raises what ended the writing early, after the steps that were finished by then. With `every` it is
    read in pieces of at least that many tokens. With `begun` it goes on with that, and its steps are those to come.
    """

    def __init__(
        self, call: Call, every: int | None = None, begun: Completion | None = None
    ) -> None:
        self._call = call
        self._begun = begun
        self._given: list[str] = []
        self._splitter = StepSplitter() if every is None else TokenSplitter(every)
        self._writing = Writing(call, call.index)
        self._finished: Completion | None = None
        self._error: SecondpassError | None = None
        self._send, self._receive = anyio.create_memory_object_stream[str](math.inf)

    @property
    def completion(self) -> Completion:
        """What has been written so far; whole once the iteration has ended."""
        own = self._finished or self._writing.completion
        return own if self._begun is None else joined(self._begun, own)

    def cut(self, steps: int) -> Completion:
        """See `strategies.api.run.Draft.cut`."""
        if not 0 <= steps <= len(self._given):
            raise ValueError(f"steps: 0 to the {len(self._given)} that were given, not {steps}")
        if steps == 0 and self._begun is not None:
            return self._begun
        whole = self.completion
        end = 0 if self._begun is None else len(self._begun.text)
        for step in self._given[:steps]:
            end = whole.text.index(step, end) + len(step)
        rest = whole.text[end:]
        begin = end + len(rest) - len(rest.lstrip())
        at = max((each.text for each in whole.ends if end <= each.text <= begin), default=end)
        found = cut(whole, at) or replace(
            whole, reasoning="", text=whole.text[:at], token_ids=(), ends=(), finish_reason="length"
        )
        return replace(found, usage=Usage(completion=len(pieces(found))))

    async def write(self, calls: Calls) -> None:
        """Make the call and split what it writes into steps."""
        splitter = self._splitter

        def grow(delta: Delta) -> None:
            self._writing.add(delta)
            for step in splitter.feed(delta.text):
                self._give(step)

        def finish(completion: Completion) -> None:
            self._finished = completion

        with self._send:
            try:
                await calls.perform(self._call, finish, on_delta=grow)
            except SecondpassError as error:
                self._error = error
            if self._finished is not None:
                for step in splitter.close():
                    self._give(step)
                if not self._finished.text.strip():
                    self._error = UnusableCompletion("a draft has nothing but thoughts")

    def _give(self, step: str) -> None:
        self._given.append(step)
        self._send.send_nowait(step)

    def __aiter__(self) -> LiveDraft:
        return self

    async def __anext__(self) -> str:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            if self._error is not None:
                raise self._error from None
            raise StopAsyncIteration from None

    def __enter__(self) -> None:
        """Its reader is there."""

    def __exit__(self, *_: object) -> None:
        self._send.close()
        self._receive.close()

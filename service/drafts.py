"""A completion that can be read step by step while the engine still writes it."""

from __future__ import annotations

import math

import anyio

from secondpass.service.calls import Calls
from secondpass.service.flight import Writing
from secondpass.strategies.core import Call, Completion, Delta, SecondpassError
from secondpass.strategies.parsing import StepSplitter, TokenSplitter


class LiveDraft:
    """The `Draft` of `Run.steps`: written by a task of its own, so that its reader may take its time.

    Iterating raises what ended the writing early, after the steps that were finished by then. With `every` it is
    read in pieces of at least that many tokens.
    """

    def __init__(self, call: Call, every: int | None = None) -> None:
        self._call = call
        self._splitter = StepSplitter() if every is None else TokenSplitter(every)
        self._writing = Writing(call, call.index)
        self._finished: Completion | None = None
        self._error: SecondpassError | None = None
        self._send, self._receive = anyio.create_memory_object_stream[str](math.inf)

    @property
    def completion(self) -> Completion:
        """What has been written so far; whole once the iteration has ended."""
        return self._finished or self._writing.completion

    async def write(self, calls: Calls) -> None:
        """Make the call and split what it writes into steps."""
        splitter = self._splitter

        def grow(delta: Delta) -> None:
            self._writing.add(delta)
            for step in splitter.feed(delta.text):
                self._send.send_nowait(step)

        def finish(completion: Completion) -> None:
            self._finished = completion

        with self._send:
            try:
                await calls.perform(self._call, finish, on_delta=grow)
            except SecondpassError as error:
                self._error = error
            if self._finished is not None:
                for step in splitter.close():
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

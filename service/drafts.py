"""A completion that can be read step by step while the engine still writes it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import anyio

from secondpass.service.calls import Calls
from secondpass.service.flight import Writing
from secondpass.strategies.continuing import joined
from secondpass.strategies.core import Call, Completion, Delta, SecondpassError, Usage
from secondpass.strategies.parsing import StepSplitter, TokenSplitter


class _Place(NamedTuple):
    """Where a delta ended: after so many characters, token ids and tokens (some engines count and give no ids)."""

    characters: int = 0
    ids: int = 0
    tokens: int = 0


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
        self._places = [_Place()]
        self._splitter = StepSplitter() if every is None else TokenSplitter(every)
        self._writing = Writing(call, call.index)
        self._finished: Completion | None = None
        self._error: SecondpassError | None = None
        self._send, self._receive = anyio.create_memory_object_stream[str](math.inf)

    @property
    def completion(self) -> Completion:
        """What has been written so far; whole once the iteration has ended."""
        own = self._own
        return own if self._begun is None else joined(self._begun, own)

    @property
    def _own(self) -> Completion:
        """What this call has written so far."""
        return self._finished or self._writing.completion

    def cut(self, steps: int) -> Completion:
        """See `strategies.core.Draft.cut`."""
        if not 0 <= steps <= len(self._given):
            raise ValueError(f"steps: 0 to the {len(self._given)} that were given, not {steps}")
        if steps == 0 and self._begun is not None:
            return self._begun
        text, end = self._own.text, 0
        for step in self._given[:steps]:
            end = text.index(step, end) + len(step)
        own = self._cut_own(end)
        return own if self._begun is None else joined(self._begun, own)

    def _cut_own(self, end: int) -> Completion:
        """What this call has written up to `end` and the white space there; its tokens only if one of them ends there."""
        own = self._own
        rest = own.text[end:]
        begin = end + len(rest) - len(rest.lstrip()) if end else 0
        reached = (p for p in self._places if p.characters <= begin)
        place = max(reached, key=lambda p: (p.characters, -p.ids))
        # Where an engine looks for stop strings it holds text back, and its tokens are ahead of it.
        is_by_token = place.characters >= end and not self._call.sampling.stop
        ids = place.ids if is_by_token else 0
        return replace(
            own,
            text=own.text[: place.characters if is_by_token else begin],
            token_ids=own.token_ids[:ids],
            logprobs=own.logprobs[:ids],
            confidences=own.confidences[:ids],
            finish_reason="length",
            usage=Usage(completion=place.tokens),
        )

    async def write(self, calls: Calls) -> None:
        """Make the call and split what it writes into steps."""
        splitter = self._splitter

        def grow(delta: Delta) -> None:
            last = self._places[-1]
            self._writing.add(delta)
            self._places.append(
                _Place(
                    last.characters + len(delta.text),
                    last.ids + len(delta.token_ids),
                    last.tokens + delta.tokens,
                )
            )
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

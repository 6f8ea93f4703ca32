"""A completion that can be read step by step while the engine still writes it."""

from __future__ import annotations

import math
from dataclasses import replace

import anyio

from secondpass.service.calls.dispatch import Calls
from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.common.concurrency import pass_turn
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import SecondpassError, UnusableCompletion
from secondpass.strategies.api.step_splitter import StepSplitter, TokenSplitter
from secondpass.strategies.api.values import Completion, Segment, Usage
from secondpass.strategies.continuation.segments import boundaries, joined, truncated


class LiveStepStream:
    """The `StepStream` of a run: written by a task of its own, so that its reader may take its time.

    With `every` it is read in texts of at least that many tokens. With `begun` it continues that, and its steps are
    those to come; `closing` ends reasoning that `begun` left open.
    """

    def __init__(
        self,
        call: Call,
        every: int | None = None,
        begun: Completion | None = None,
        *,
        closing: str = "</think>",
    ) -> None:
        self._call = call
        self._begun, self._closing = begun, closing
        self._may_be_empty = begun is not None and bool(begun.text.strip())
        self._found: list[str] = []
        self._fed = 0
        self._are_paragraphs = every is None
        self._splitter = StepSplitter() if every is None else TokenSplitter(every)
        self._partial: PartialCompletion | None = None
        self._whole: Completion | None = None
        self._error: SecondpassError | None = None
        self._send, self._receive = anyio.create_memory_object_stream[str](math.inf)
        self.is_read = False
        """True once its reader has seen its end."""

    @property
    def completion(self) -> Completion:
        """What has been written so far; whole once the iteration has ended."""
        if self._whole is not None:
            return self._joined(self._whole)
        if self._partial is not None:
            return self._joined(self._partial.completion)
        nothing = replace(
            Completion(messages=self._call.messages, finish_reason="length"),
            role=self._call.role,
            purpose=self._call.purpose,
            index=self._call.index,
        )
        return self._joined(nothing)

    @property
    def is_finished(self) -> bool:
        """True once the engine has finished the completion."""
        return self._whole is not None

    @property
    def steps(self) -> int:
        """How many steps are finished by now, read or not."""
        return len(self._found)

    def truncated(self, steps: int) -> Completion:
        """See `strategies.api.run.StepStream.truncated`."""
        if not 0 <= steps <= len(self._found):
            raise ValueError(f"steps: 0 to the {len(self._found)} that are finished, not {steps}")
        if steps == 0 and self._begun is not None:
            return self._begun
        whole, end = self.completion, self._end_of(steps)
        hidden = self._hidden(whole)
        if hidden and end <= hidden and self._begun is not None:
            inside = min(len(self._begun.reasoning) + end, len(whole.reasoning))
            found = truncated(whole, inside, in_reasoning=True) or self._begun
        else:
            begun = 0 if self._begun is None else len(self._begun.text)
            at = min(begun + end - hidden, len(whole.text))
            if self._are_paragraphs:
                at = _last_boundary(whole, at)
            found = truncated(whole, at) or _text_alone(whole, at)
        return replace(found, usage=Usage(completion=len(found.token_ids)))

    async def write(self, calls: Calls) -> None:
        """Make the call and split what it writes into steps."""
        splitter = self._splitter

        def grow(delta: Delta, partial: PartialCompletion) -> None:
            self._partial = partial
            text = delta.text
            if partial.finish_reason is not None:  # without a stop string that is left out
                text = partial.completion.text[self._fed :]
            self._fed += len(text)
            for step in splitter.feed(text):
                self._add(step)

        def finish(completion: Completion) -> None:
            self._whole = completion

        with self._send:
            try:
                await calls.perform(
                    self._call,
                    finish,
                    on_delta=grow,
                    whole=self._joined,
                    may_be_empty=self._may_be_empty,
                )
            except SecondpassError as error:
                self._error = error
            finally:
                pass_turn()  # the call may have failed on the way to its lease
            if self._whole is not None:
                for step in splitter.close():
                    if kept := self._kept_of(step):
                        self._add(kept)
                if not (self.completion.text.strip() or self._whole.tool_calls):
                    role = self._call.role
                    self._error = UnusableCompletion("nothing but reasoning", role=role)

    def close(self) -> None:
        """Stop: nobody reads any further."""
        self._send.close()
        self._receive.close()

    @property
    def _written(self) -> str:
        """The text that the call has written, a stop string that the completion leaves out included."""
        parts = () if self._partial is None else self._partial.segments
        return "".join([each.text for each in parts if not each.is_reasoning])

    def _end_of(self, steps: int) -> int:
        """Where the first `steps` steps end in what was written."""
        written, end = self._written, 0
        for step in self._found[:steps]:
            end = written.index(step, end) + len(step)
        return end

    def _hidden(self, whole: Completion) -> int:
        """Characters written that are not text of the whole: continued reasoning, and the mark that closes it."""
        if self._begun is None or self._partial is None:
            return 0
        return len(self._begun.text) + len(self._partial.completion.text) - len(whole.text)

    def _kept_of(self, last: str) -> str:
        """What the completion keeps of its last step, which may end with a part of a stop string."""
        begin = self._written.index(last, self._end_of(len(self._found)))
        own = "" if self._partial is None else self._partial.completion.text
        kept = own[begin : begin + len(last)]
        return kept if kept == last else kept.rstrip()

    def _joined(self, own: Completion) -> Completion:
        if self._begun is None:
            return own
        return joined(self._begun, own, closing=self._closing)

    def _add(self, step: str) -> None:
        self._found.append(step)
        self._send.send_nowait(step)

    def __aiter__(self) -> LiveStepStream:
        return self

    async def __anext__(self) -> str:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            if self._error is not None:
                raise self._error from None
            self.is_read = True
            raise StopAsyncIteration from None


def _last_boundary(whole: Completion, end: int) -> int:
    """The last token boundary in the white space after a paragraph, or else the end of the paragraph."""
    rest = whole.text[end:]
    begin = end + len(rest) - len(rest.lstrip())
    return max((each for each in boundaries(whole) if end <= each <= begin), default=end)


def _text_alone(whole: Completion, at: int) -> Completion:
    """The completion up to `at` characters of its text, without its reasoning."""
    source = next((s.source for s in whole.segments if not s.is_reasoning), None)
    text = (Segment(whole.text[:at], source=source),) if at else ()
    return replace(whole, segments=text, finish_reason="length")

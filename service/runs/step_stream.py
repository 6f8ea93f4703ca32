"""A completion that is read step by step while it is generated."""

from __future__ import annotations

import math
from dataclasses import replace

import anyio

from secondpass.service.calls.dispatch import CallDispatcher
from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.common.concurrency import start_next_lane
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import SecondpassError, UnusableCompletion
from secondpass.strategies.api.step_splitter import StepSplitter, TokenSplitter
from secondpass.strategies.api.values import Completion, Segment, Usage
from secondpass.strategies.continuation.segments import boundaries, joined, truncated


class LiveStepStream:
    """The `StepStream` of a run. `generate` runs in its own task and never waits for the reader.

    Args:
        every: Minimum tokens of a step; None: a step is a paragraph.
        prefix: Completion to continue; `steps` counts only the steps after it.
        closing: Delimiter that closes reasoning left open by `prefix`.
    """

    def __init__(
        self,
        call: Call,
        every: int | None = None,
        prefix: Completion | None = None,
        *,
        closing: str = "</think>",
    ) -> None:
        self._call = call
        self._prefix, self._closing = prefix, closing
        self._allow_empty = prefix is not None and bool(prefix.text.strip())
        self._steps: list[str] = []
        self._fed = 0
        self._are_paragraphs = every is None
        self._splitter = StepSplitter() if every is None else TokenSplitter(every)
        self._partial: PartialCompletion | None = None
        self._whole: Completion | None = None
        self._error: SecondpassError | None = None
        self._send, self._receive = anyio.create_memory_object_stream[str](math.inf)
        self.is_read = False
        """True once the reader has reached the end."""

    @property
    def completion(self) -> Completion:
        """The completion so far, prefix included; complete once the iteration has ended."""
        if self._whole is not None:
            return self._joined(self._whole)
        if self._partial is not None:
            return self._joined(self._partial.completion)
        empty = replace(
            Completion(messages=self._call.messages, finish_reason="length"),
            role=self._call.role,
            purpose=self._call.purpose,
            index=self._call.index,
        )
        return self._joined(empty)

    @property
    def is_finished(self) -> bool:
        """True once the engine has finished the completion."""
        return self._whole is not None

    @property
    def steps(self) -> int:
        """Number of finished steps, read or not."""
        return len(self._steps)

    def truncated(self, steps: int) -> Completion:
        """See `strategies.api.handles.StepStream.truncated`."""
        if not 0 <= steps <= len(self._steps):
            raise ValueError(
                f"steps: must be 0 to {len(self._steps)} (finished steps), not {steps}"
            )
        if steps == 0 and self._prefix is not None:
            return self._prefix
        whole, end = self.completion, self._end_of(steps)
        hidden = self._hidden(whole)
        if hidden and end <= hidden and self._prefix is not None:
            at = min(len(self._prefix.reasoning) + end, len(whole.reasoning))
            shorter = truncated(whole, at, in_reasoning=True) or self._prefix
        else:
            prefix_length = 0 if self._prefix is None else len(self._prefix.text)
            at = min(prefix_length + end - hidden, len(whole.text))
            if self._are_paragraphs:
                at = _boundary_after(whole, at)
            shorter = truncated(whole, at) or _text_only(whole, at)
        return replace(shorter, usage=Usage(completion=len(shorter.token_ids)))

    async def generate(self, calls: CallDispatcher) -> None:
        """Perform the call and split its text into steps."""
        splitter = self._splitter

        def grow(delta: Delta, partial: PartialCompletion) -> None:
            self._partial = partial
            text = delta.text
            if partial.finish_reason is not None:  # without an excluded stop string
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
                    allow_empty=self._allow_empty,
                )
            except SecondpassError as error:
                self._error = error
            finally:
                start_next_lane()  # the call may have failed before it had a lease
            if self._whole is not None:
                for step in splitter.close():
                    if kept := self._without_stop(step):
                        self._add(kept)
                if not (self.completion.text.strip() or self._whole.tool_calls):
                    role = self._call.role
                    self._error = UnusableCompletion(
                        "completion contains only reasoning", role=role
                    )

    def close(self) -> None:
        """Close the stream of steps. The caller cancels the call."""
        self._send.close()
        self._receive.close()

    @property
    def _written(self) -> str:
        """Text generated by the call, with any stop string that the completion excludes."""
        parts = () if self._partial is None else self._partial.segments
        return "".join([each.text for each in parts if not each.is_reasoning])

    def _end_of(self, steps: int) -> int:
        """Return the end of the first `steps` steps in the generated text."""
        written, end = self._written, 0
        for step in self._steps[:steps]:
            end = written.index(step, end) + len(step)
        return end

    def _hidden(self, whole: Completion) -> int:
        """Count generated characters that are reasoning of the whole, or the delimiter that closes it."""
        if self._prefix is None or self._partial is None:
            return 0
        return len(self._prefix.text) + len(self._partial.completion.text) - len(whole.text)

    def _without_stop(self, last: str) -> str:
        """Return the last step without the part of a stop string that the completion excludes."""
        begin = self._written.index(last, self._end_of(len(self._steps)))
        own = "" if self._partial is None else self._partial.completion.text
        kept = own[begin : begin + len(last)]
        return kept if kept == last else kept.rstrip()

    def _joined(self, own: Completion) -> Completion:
        if self._prefix is None:
            return own
        return joined(self._prefix, own, closing=self._closing)

    def _add(self, step: str) -> None:
        self._steps.append(step)
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


def _boundary_after(whole: Completion, end: int) -> int:
    """Return the last token boundary in the whitespace after a paragraph, else the end of the paragraph."""
    rest = whole.text[end:]
    begin = end + len(rest) - len(rest.lstrip())
    return max((each for each in boundaries(whole) if end <= each <= begin), default=end)


def _text_only(whole: Completion, at: int) -> Completion:
    """Return the first `at` characters of the text as a completion without reasoning."""
    source = next((s.source for s in whole.segments if not s.is_reasoning), None)
    text = (Segment(whole.text[:at], source=source),) if at else ()
    return replace(whole, segments=text, finish_reason="length")

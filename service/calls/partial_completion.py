"""Partial completions, assembled from deltas."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from secondpass.service.calls.repetition import RepetitionDetector
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import (
    TRUNCATING,
    Completion,
    FinishReason,
    Segment,
    ToolCall,
    Usage,
)


@dataclass(slots=True)
class _Tail:
    """The last segment while it grows. `ids` is None once it contains text with unknown tokens."""

    is_reasoning: bool
    source: int | None
    ids: list[int] | None
    texts: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)

    def append(self, text: str, delta: Delta, ids: tuple[int, ...]) -> None:
        """Append text of the delta with its token ids. Text without ids has unknown tokens."""
        if text:
            self.texts.append(text)
        if ids:
            if self.ids is not None:
                self.ids += ids
        elif text:
            self.ids = None
        if delta.logprobs:
            self.logprobs += delta.logprobs
            self.confidences += delta.confidences

    @property
    def segment(self) -> Segment:
        return Segment(
            "".join(self.texts),
            None if self.ids is None else tuple(self.ids),
            self.is_reasoning,
            tuple(self.logprobs),
            tuple(self.confidences),
            self.source,
        )


class PartialCompletion:
    """A completion whose deltas are still arriving, across all attempts that continue it.

    A resumable completion has one segment per delta. Other completions merge consecutive deltas of the same kind (text or
    reasoning) from the same stream. The tokens of the last delta are unknown unless the completion was truncated:
    they may contain an end token or text after a stop string. For a call with stop strings that is not resumable, all
    tokens are unknown because engines delay the text.

    Attributes:
        index: Position among the completions of the call.
        tokens: Completion tokens that the engine has counted so far.
        sources: Streams that delivered the completion, the current one last.
        finish_reason: None until the completion is finished.
        is_handed_over: The completion was passed to the receiver of the call.
    """

    __slots__ = (
        "_finished",
        "_has_ids",
        "_repetition",
        "_segments",
        "_tail",
        "call",
        "finish_reason",
        "index",
        "is_handed_over",
        "sources",
        "tokens",
        "tool_calls",
    )

    def __init__(self, call: Call, index: int, source: int | None = None) -> None:
        self.call = call
        self.index = index
        self.sources = [] if source is None else [source]
        self.tokens = 0
        self.tool_calls: tuple[ToolCall, ...] = ()
        self.finish_reason: FinishReason | None = None
        self.is_handed_over = False
        self._has_ids = call.resumable or not call.sampling.stop
        self._repetition = RepetitionDetector()
        self._segments: list[Segment] = []
        self._tail: _Tail | None = None
        self._finished: tuple[tuple[Segment, ...], Completion] | None = None

    @property
    def source(self) -> int | None:
        """The current stream."""
        return self.sources[-1] if self.sources else None

    def open(self, source: int) -> None:
        """Switch to another stream."""
        self._close()
        self.sources.append(source)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments so far, including an excluded stop string."""
        if self._finished is not None:
            return self._finished[0]
        if self._tail is None:
            return tuple(self._segments)
        return (*self._segments, self._tail.segment)

    @property
    def completion(self) -> Completion:
        """The completion so far. Its finish reason is "length" until the completion is finished."""
        if self._finished is not None:
            return self._finished[1]
        segments = received = self.segments
        if self.finish_reason == "stop" and self.call.excluded_stop:
            segments = _without_stop(segments, self.call.excluded_stop)
        completion = Completion(
            messages=self.call.messages,
            segments=segments,
            tool_calls=self.tool_calls,
            role=self.call.role,
            purpose=self.call.purpose,
            index=self.index,
            finish_reason=self.finish_reason or "length",
            usage=Usage(completion=self.tokens),
        )
        if self.finish_reason is not None:  # no further deltas
            self._finished = received, completion
        return completion

    def ended_by_loop(self, delta: Delta) -> Delta | None:
        """Return the part of the delta up to the end of a loop, or None without one.

        Call it once for each delta. The tokens of a shortened delta are unknown.
        """
        size = self._repetition.add(delta.reasoning + delta.text)
        if size is None:
            return None
        reasoning = delta.reasoning[:size]
        text = delta.text[: size - len(reasoning)]
        is_whole = (reasoning, text) == (delta.reasoning, delta.text)
        ids = delta.token_ids if is_whole else ()
        return replace(
            delta, reasoning=reasoning, text=text, token_ids=ids, finish_reason="repetition"
        )

    def add(self, delta: Delta) -> None:
        """Append a delta."""
        self.tokens += delta.tokens
        tail = self._tail
        reason = delta.finish_reason
        if tail is not None and reason is None and not delta.tool_calls:
            text, other = delta.text, delta.reasoning
            if tail.is_reasoning:
                text, other = other, text
            if not other:  # fast path
                tail.append(text, delta, delta.token_ids if self._has_ids else ())
                return
        if delta.tool_calls:
            self.tool_calls += delta.tool_calls
        if reason is not None:
            self.finish_reason = reason
        is_last = reason is not None and reason not in TRUNCATING
        ids = delta.token_ids if self._has_ids and not is_last else ()
        if self.call.resumable:
            self._add_segment(delta, ids or None, is_last=is_last)
        elif delta.text or delta.reasoning or delta.token_ids or delta.logprobs:
            self._add_merged(delta, ids, is_last=is_last)

    def _add_segment(self, delta: Delta, ids: tuple[int, ...] | None, *, is_last: bool) -> None:
        """Add a segment for the delta, or two if it has both reasoning and text."""
        segments, source = self._segments, self.source
        logprobs, confidences = delta.logprobs, delta.confidences
        if delta.reasoning:
            segments.append(Segment(delta.reasoning, ids, True, logprobs, confidences, source))
            if delta.text:
                segments.append(Segment(delta.text, None if ids is None else (), source=source))
        elif delta.text or delta.token_ids:
            is_reasoning = (
                is_last and not delta.text and bool(segments) and segments[-1].is_reasoning
            )
            segments.append(Segment(delta.text, ids, is_reasoning, logprobs, confidences, source))

    def _add_merged(self, delta: Delta, ids: tuple[int, ...], *, is_last: bool) -> None:
        """Append the delta to the tail.

        Start a new tail if the kind of text changes or the tokens become unknown.
        """
        tail, source = self._tail, self.source
        is_reasoning = bool(delta.reasoning)
        if not is_reasoning and not delta.text:
            last = tail or (self._segments[-1] if self._segments else None)
            is_reasoning = last is not None and last.is_reasoning
        has_ids = bool(delta.token_ids) or (tail is not None and bool(tail.ids))
        has_unknown = is_last and self._has_ids and has_ids
        if tail is None or has_unknown or tail.is_reasoning != is_reasoning:
            self._close()
            tail = self._tail = _Tail(is_reasoning, source, [])
        tail.append(delta.reasoning or delta.text, delta, ids)
        if is_last:
            tail.ids = None
        if delta.reasoning and delta.text:
            self._close()
            if ids:  # later tokens must not join text of the previous segment's tokens
                self._segments.append(Segment(delta.text, (), source=source))
            else:
                self._tail = _Tail(False, source, None, [delta.text])

    def _close(self) -> None:
        """Convert the tail to a segment."""
        if self._tail is not None:
            self._segments.append(self._tail.segment)
            self._tail = None


def _without_stop(segments: tuple[Segment, ...], stops: tuple[str, ...]) -> tuple[Segment, ...]:
    """Return the segments without the longest stop string at the end of their text."""
    text = "".join([each.text for each in segments if not each.is_reasoning])
    excess = max((len(stop) for stop in stops if text.endswith(stop)), default=0)
    kept = list(segments)
    for position in reversed(range(len(kept))):
        each = kept[position]
        if not excess:
            break
        if each.is_reasoning:
            continue
        if len(each.text) > excess:
            kept[position] = Segment(each.text[:-excess], source=each.source)
            break
        excess -= len(each.text)
        del kept[position]
    return tuple(kept)

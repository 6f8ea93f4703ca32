"""A completion while its deltas arrive."""

from __future__ import annotations

from dataclasses import dataclass, field

from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import (
    Completion,
    FinishReason,
    Segment,
    ToolCall,
    Usage,
)


@dataclass(slots=True)
class _Tail:
    """The last segment while it grows. `ids` is None once it holds text whose tokens are unknown."""

    is_reasoning: bool
    source: int | None
    ids: list[int] | None
    texts: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)

    def grow(self, text: str, delta: Delta, ids: tuple[int, ...]) -> None:
        """Append a text of the delta, with its tokens: none are unknown ones, unless there is no text either."""
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
    """A completion while its deltas arrive, over all attempts that continue one another.

    `index` is its position among its siblings, `tokens` what the engine has counted so far. `sources` are the streams
    that deliver it, the running one last. A resumable completion has a segment for each delta; another one's segments
    grow as long as the text is of one kind and from one stream. The tokens of the last delta are unknown unless a limit
    ended the completion: they may hold an end token, or what follows a stop string. So are all tokens of a call with
    stop strings whose text engines hold back.
    """

    __slots__ = (
        "_finished",
        "_has_ids",
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
        self._segments: list[Segment] = []
        self._tail: _Tail | None = None
        self._finished: tuple[tuple[Segment, ...], Completion] | None = None

    @property
    def source(self) -> int | None:
        """The running stream."""
        return self.sources[-1] if self.sources else None

    def open(self, source: int) -> None:
        """Another stream delivers what follows."""
        self._close()
        self.sources.append(source)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All that has arrived, a stop string that the completion excludes included."""
        if self._finished is not None:
            return self._finished[0]
        if self._tail is None:
            return tuple(self._segments)
        return (*self._segments, self._tail.segment)

    @property
    def completion(self) -> Completion:
        """What has arrived so far; its finish reason is "length" unless the model came to an end."""
        if self._finished is not None:
            return self._finished[1]
        segments = whole = self.segments
        if self.finish_reason == "stop" and self.call.excluded_stop:
            segments = _without_stop(segments, self.call.excluded_stop)
        found = Completion(
            messages=self.call.messages,
            segments=segments,
            tool_calls=self.tool_calls,
            role=self.call.role,
            purpose=self.call.purpose,
            index=self.index,
            finish_reason=self.finish_reason or "length",
            usage=Usage(completion=self.tokens),
        )
        if self.finish_reason is not None:  # nothing is added any more
            self._finished = whole, found
        return found

    def add(self, delta: Delta) -> None:
        """Append what the delta holds."""
        self.tokens += delta.tokens
        tail = self._tail
        reason = delta.finish_reason
        if tail is not None and reason is None and not delta.tool_calls:
            text, other = delta.text, delta.reasoning
            if tail.is_reasoning:
                text, other = other, text
            if not other:  # by far the most common case
                tail.grow(text, delta, delta.token_ids if self._has_ids else ())
                return
        if delta.tool_calls:
            self.tool_calls += delta.tool_calls
        if reason is not None:
            self.finish_reason = reason
        is_last = reason is not None and reason != "length"
        ids = delta.token_ids if self._has_ids and not is_last else ()
        if self.call.resumable:
            self._add_segment(delta, ids or None, is_last=is_last)
        elif delta.text or delta.reasoning or delta.token_ids or delta.logprobs:
            self._add_merged(delta, ids, is_last=is_last)

    def _add_segment(self, delta: Delta, ids: tuple[int, ...] | None, *, is_last: bool) -> None:
        """A segment for the delta, two where it has both kinds of text."""
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
        """Append the delta to the tail; begin a new tail where the kind of text changes or the tokens are unknown."""
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
        tail.grow(delta.reasoning or delta.text, delta, ids)
        if is_last:
            tail.ids = None
        if delta.reasoning and delta.text:
            self._close()
            if ids:  # tokens that follow must not join a text that the tokens before hold
                self._segments.append(Segment(delta.text, (), source=source))
            else:
                self._tail = _Tail(False, source, None, [delta.text])

    def _close(self) -> None:
        """Turn the tail into a segment."""
        if self._tail is not None:
            self._segments.append(self._tail.segment)
            self._tail = None


def _without_stop(segments: tuple[Segment, ...], stops: tuple[str, ...]) -> tuple[Segment, ...]:
    """The segments without the longest of the stop strings that their text ends with."""
    text = "".join([each.text for each in segments if not each.is_reasoning])
    excess = max((len(stop) for stop in stops if text.endswith(stop)), default=0)
    kept = list(segments)
    for place in reversed(range(len(kept))):
        each = kept[place]
        if not excess:
            break
        if each.is_reasoning:
            continue
        if len(each.text) > excess:
            kept[place] = Segment(each.text[:-excess], source=each.source)
            break
        excess -= len(each.text)
        del kept[place]
    return tuple(kept)

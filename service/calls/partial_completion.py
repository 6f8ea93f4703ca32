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
class _Part:
    """A segment while it grows. `ids` is None once a text joined whose tokens are not known."""

    is_reasoning: bool
    source: int | None
    ids: list[int] | None
    is_closed: bool = False
    texts: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)

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
        "_has_ids",
        "_parts",
        "_segments",
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
        self._parts: list[_Part] = []

    @property
    def source(self) -> int | None:
        """The running stream."""
        return self.sources[-1] if self.sources else None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All that has arrived, a stop string that the completion excludes included."""
        if self.call.resumable:
            return tuple(self._segments)
        return tuple([part.segment for part in self._parts])

    @property
    def completion(self) -> Completion:
        """What has arrived so far; its finish reason is "length" unless the model came to an end."""
        segments = self.segments
        if self.finish_reason == "stop" and self.call.excluded_stop:
            segments = _without_stop(segments, self.call.excluded_stop)
        return Completion(
            messages=self.call.messages,
            segments=segments,
            tool_calls=self.tool_calls,
            role=self.call.role,
            purpose=self.call.purpose,
            index=self.index,
            finish_reason=self.finish_reason or "length",
            usage=Usage(completion=self.tokens),
        )

    def add(self, delta: Delta) -> None:
        """Append what the delta holds."""
        self.tokens += delta.tokens
        if delta.tool_calls:
            self.tool_calls += delta.tool_calls
        reason = delta.finish_reason
        if reason is not None:
            self.finish_reason = reason
        is_last = reason is not None and reason != "length"
        ids = delta.token_ids if self._has_ids and not is_last else ()
        if self.call.resumable:
            self._add_segment(delta, ids or None, is_last=is_last)
        elif delta.text or delta.reasoning or delta.token_ids or delta.logprobs:
            self._add_parts(delta, ids or None, is_last=is_last)

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

    def _add_parts(self, delta: Delta, ids: tuple[int, ...] | None, *, is_last: bool) -> None:
        """Let the delta join the last part of its kind."""
        last = self._parts[-1] if self._parts else None
        is_reasoning = bool(delta.reasoning)
        if not is_reasoning and not delta.text and last is not None:
            is_reasoning = last.is_reasoning
        part = self._part(is_reasoning=is_reasoning, is_new=is_last)
        part.texts.append(delta.reasoning or delta.text)
        part.logprobs += delta.logprobs
        part.confidences += delta.confidences
        if ids is None:
            part.ids = None
        elif part.ids is not None:
            part.ids += ids
        if delta.reasoning and delta.text:
            follower = self._part(is_reasoning=False, is_new=True)
            follower.texts.append(delta.text)
            if ids is None:
                follower.ids = None
            else:  # tokens that follow must not join a text whose own the part before holds
                follower.is_closed = True

    def _part(self, *, is_reasoning: bool, is_new: bool) -> _Part:
        source = self.source
        if self._parts and not is_new:
            last = self._parts[-1]
            if last.is_reasoning == is_reasoning and last.source == source and not last.is_closed:
                return last
        part = _Part(is_reasoning, source, [])
        self._parts.append(part)
        return part


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

"""Truncation of completions, insertion of text, and joining with continuations. Pure.

A continuation starts from `prefix_parts`: the ids of the generated tokens and the texts inserted
between them. Ids are kept because tokenizing the text again may return other tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from secondpass.strategies.api.values import Completion, PrefixPart, Segment

Segments = tuple[Segment, ...]


def prefix_parts(completion: Completion) -> tuple[PrefixPart, ...]:
    """Return the assistant turn as a prefix: token ids, and texts whose ids are unknown."""
    parts: list[PrefixPart] = []
    for each in completion.segments:
        if each.token_ids is not None:
            parts += each.token_ids
        elif each.text and parts and isinstance(parts[-1], str):
            parts[-1] += each.text
        elif each.text:
            parts.append(each.text)
    return tuple(parts)


def has_ids(completion: Completion) -> bool:
    """Return whether the completion can be continued from its `prefix_parts`.

    It cannot if these may lack reasoning or one of its delimiters.
    """
    first = next((s for s in completion.segments if s.text or s.token_ids), None)
    if first is None or first.token_ids is None:
        return False
    return not any(_lacks_delimiter(one, two) for one, two in pairwise(completion.segments))


def without_ids(completion: Completion) -> Completion:
    """Return the completion without token ids."""
    return replace(
        completion, segments=tuple(replace(s, token_ids=None) for s in completion.segments)
    )


def boundaries(completion: Completion) -> list[int]:
    """Return the token boundaries of the text outside the reasoning, in characters, in ascending order."""
    return [text for _, _, text in _boundaries(completion.segments)]


def is_in_reasoning(completion: Completion) -> bool:
    """Return whether the completion ends inside reasoning that the engine returned separately.

    An empty segment after the reasoning is the token that closed it.
    """
    if not completion.reasoning or completion.text:
        return False
    return completion.segments[-1].is_reasoning


def truncated(completion: Completion, at: int, *, in_reasoning: bool = False) -> Completion | None:
    """Return the completion truncated to `at` characters of its text or its reasoning.

    With `in_reasoning` the text is dropped and `at` counts in the reasoning. The part of a token
    before that point is kept as text without ids. Returns None if the engine returned the reasoning
    separately and the ids of its tokens, or of its closing delimiter, are unknown.
    """
    reasoning, text = (at, 0) if in_reasoning else (len(completion.reasoning), at)
    count, r, t = _last_boundary(completion.segments, reasoning, text)
    kept = completion.segments[:count]
    rest = completion.reasoning[r:reasoning] if in_reasoning else completion.text[t:text]
    if rest:
        source = completion.segments[count].source
        kept = (*kept, Segment(rest, is_reasoning=in_reasoning, source=source))
    short = replace(completion, segments=kept, finish_reason="length")
    if completion.reasoning and not ((in_reasoning or t) and has_ids(short)):
        return None
    return short


def reopened(completion: Completion) -> Completion | None:
    """Return the completion without its end-of-turn token, so that it can be continued; else None.

    It is None under the same conditions as `truncated`.
    """
    return completion if completion.is_truncated else truncated(completion, len(completion.text))


def joined(
    first: Completion, more: Completion, text: str = "", *, closing: str = "</think>"
) -> Completion:
    """Join `first`, the inserted `text` and the continuation `more` into one completion.

    `closing` is the delimiter that ends reasoning left open by `first`. Reasoning is split at it if
    the engine does not return reasoning of continuations separately.
    """
    inserted = (Segment(text),) if text else ()
    added = (*inserted, *more.segments)
    is_closed_by_more = closing in text + more.text
    if first.reasoning and not first.text and (is_in_reasoning(first) or is_closed_by_more):
        if more.reasoning:
            added = (*(replace(each, is_reasoning=True) for each in inserted), *more.segments)
        else:
            added = _split_at_delimiter(added, closing)
    return replace(
        more,
        segments=first.segments + added,
        purpose=first.purpose,
        usage=first.usage + more.usage,
    )


def _boundaries(segments: Sequence[Segment]) -> Iterator[tuple[int, int, int]]:
    """Yield each token boundary as (segments, characters of reasoning, characters of text) before it.

    If one token contains both the end of the reasoning and its closing delimiter, there is no
    boundary before the first text, because it would look like the end of the reasoning.
    """
    reasoning = text = 0
    is_hidden = False
    for count, each in enumerate(segments, 1):
        if each.is_reasoning:
            reasoning += len(each.text)
        else:
            text += len(each.text)
            is_hidden = not each.text and (is_hidden or each.token_ids == ())
        if not is_hidden and (count == len(segments) or segments[count].token_ids != ()):
            yield count, reasoning, text


def _last_boundary(segments: Sequence[Segment], reasoning: int, text: int) -> tuple[int, int, int]:
    """Return the first boundary at exactly this position, else the last one before it.

    Later boundaries at the same position may follow a token without text that ends the reasoning or
    the turn.
    """
    last = (0, 0, 0)
    remaining = _boundaries(segments)
    while last[1:] != (reasoning, text):
        boundary = next(remaining, None)
        if boundary is None or boundary[1] > reasoning or boundary[2] > text:
            break
        last = boundary
    return last


def _lacks_delimiter(one: Segment, two: Segment) -> bool:
    """Return whether `two` is text after the reasoning `one` and the closing delimiter's ids are unknown."""
    if not one.is_reasoning or two.is_reasoning or not two.text:
        return False
    return two.token_ids is None or not (one.token_ids or two.token_ids)


def _split_at_delimiter(segments: Segments, closing: str) -> Segments:
    """Split segments that continue reasoning at its closing delimiter: reasoning before it, text after it."""
    offsets = [0]
    for each in segments:
        offsets.append(offsets[-1] + len(each.text))
    whole = "".join([each.text for each in segments])
    begin = whole.find(closing)
    if begin < 0:
        return tuple(replace(each, is_reasoning=True) for each in segments)
    end = begin + len(closing)
    first = next(i for i in range(len(segments)) if offsets[i + 1] > begin)
    last = next(i for i in range(len(segments)) if offsets[i + 1] >= end)
    before = (replace(each, is_reasoning=True) for each in segments[:first])
    left, right = whole[offsets[first] : begin], whole[end : offsets[last + 1]]
    within = _merge_delimiter(segments[first : last + 1], left, closing, right)
    return (*before, *within, *segments[last + 1 :])


def _merge_delimiter(segments: Segments, left: str, closing: str, right: str) -> Segments:
    """Merge the segments that contain the delimiter, so that no token boundary is inside it.

    The delimiter is dropped from the text if its ids are known. Otherwise it stays at the end of
    the reasoning, because the prefix of a continuation must contain it, and an empty segment after
    it ends the reasoning.
    """
    merged = replace(
        segments[0],
        text=left or right,
        token_ids=tuple(i for each in segments for i in each.token_ids or ()),
        is_reasoning=bool(left),
        logprobs=tuple(value for each in segments for value in each.logprobs),
        confidences=tuple(value for each in segments for value in each.confidences),
        source=segments[-1].source,
    )
    if any(each.token_ids is None for each in segments):
        closed = replace(merged, text=left + closing, token_ids=None, is_reasoning=True)
        following = (Segment(right, source=merged.source),) if right else ()
        return (closed, Segment(""), *following)
    return (merged, Segment(right, (), source=merged.source)) if left else (merged,)

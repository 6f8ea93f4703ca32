"""Truncating a completion, inserting text into it and joining it with its continuation. Pure.

A continuation starts from prefix_parts: the ids of the tokens that were written, and the texts that were inserted between
them, because a text does not always become the same tokens again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from secondpass.strategies.api.values import Completion, PrefixPart, Segment

Segments = tuple[Segment, ...]


def prefix_parts(completion: Completion) -> tuple[PrefixPart, ...]:
    """What the assistant's turn holds after this completion: ids, and the texts whose ids are not known."""
    found: list[PrefixPart] = []
    for each in completion.segments:
        if each.token_ids is not None:
            found += each.token_ids
        elif each.text and found and isinstance(found[-1], str):
            found[-1] += each.text
        elif each.text:
            found.append(each.text)
    return tuple(found)


def has_ids(completion: Completion) -> bool:
    """Whether it can be continued from its prefix_parts: False where they may lack reasoning, or a mark around it."""
    first = next((s for s in completion.segments if s.text or s.token_ids), None)
    if first is None or first.token_ids is None:
        return False
    return not any(_lacks_mark(one, two) for one, two in pairwise(completion.segments))


def without_ids(completion: Completion) -> Completion:
    """The completion as text alone."""
    return replace(
        completion, segments=tuple(replace(s, token_ids=None) for s in completion.segments)
    )


def boundaries(completion: Completion) -> list[int]:
    """The token boundaries in the text outside of the reasoning, as numbers of characters, in order."""
    return [text for _, _, text in _ends(completion.segments)]


def is_in_reasoning(completion: Completion) -> bool:
    """Whether it ended before its reasoning did, as far as the engine returned that apart.

    An empty segment after the reasoning is the token that closed it.
    """
    if not completion.reasoning or completion.text:
        return False
    return completion.segments[-1].is_reasoning


def truncated(completion: Completion, at: int, *, in_reasoning: bool = False) -> Completion | None:
    """The completion up to `at` characters of its text, or `in_reasoning` of its reasoning, to be continued.

    What follows its last whole token before that point is kept as text. None where the reasoning was returned apart, and
    the tokens that hold it, or close it before the text, are not known.
    """
    reasoning, text = (at, 0) if in_reasoning else (len(completion.reasoning), at)
    count, r, t = _last_end(completion.segments, reasoning, text)
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
    """The completion without what ended it, so that its turn can be continued; None as for `truncated`."""
    return completion if completion.is_truncated else truncated(completion, len(completion.text))


def joined(
    first: Completion, more: Completion, text: str = "", *, closing: str = "</think>"
) -> Completion:
    """`first`, the inserted `text`, and what an engine continued them with, as one completion.

    `closing` ends reasoning that `first` left open, where the engine does not return it apart in a continuation.
    """
    inserted = (Segment(text),) if text else ()
    added = (*inserted, *more.segments)
    is_closed_here = closing in text + more.text
    if first.reasoning and not first.text and (is_in_reasoning(first) or is_closed_here):
        if more.reasoning:
            added = (*(replace(each, is_reasoning=True) for each in inserted), *more.segments)
        else:
            added = _closed_reasoning(added, closing)
    return replace(
        more,
        segments=first.segments + added,
        purpose=first.purpose,
        usage=first.usage + more.usage,
    )


def _ends(segments: Sequence[Segment]) -> Iterator[tuple[int, int, int]]:
    """Every token boundary: segments, characters of reasoning and characters of text before it.

    Where one token closes the reasoning besides a part of it, there is none before the first text: it would look like
    the end of the reasoning.
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


def _last_end(segments: Sequence[Segment], reasoning: int, text: int) -> tuple[int, int, int]:
    """The first boundary at exactly this place, since what follows may be a token that ends something; else the last before."""
    found = (0, 0, 0)
    ends = _ends(segments)
    while found[1:] != (reasoning, text):
        end = next(ends, None)
        if end is None or end[1] > reasoning or end[2] > text:
            break
        found = end
    return found


def _lacks_mark(one: Segment, two: Segment) -> bool:
    """Whether text follows reasoning while the tokens between them, which hold the closing mark, are not known."""
    if not one.is_reasoning or two.is_reasoning or not two.text:
        return False
    return two.token_ids is None or not (one.token_ids or two.token_ids)


def _closed_reasoning(segments: Segments, closing: str) -> Segments:
    """Segments that continue reasoning: what comes before the closing mark is reasoning, what follows it is text."""
    begins = [0]
    for each in segments:
        begins.append(begins[-1] + len(each.text))
    whole = "".join([each.text for each in segments])
    mark = whole.find(closing)
    if mark < 0:
        return tuple(replace(each, is_reasoning=True) for each in segments)
    close = mark + len(closing)
    first = next(i for i in range(len(segments)) if begins[i + 1] > mark)
    last = next(i for i in range(len(segments)) if begins[i + 1] >= close)
    before = (replace(each, is_reasoning=True) for each in segments[:first])
    left, right = whole[begins[first] : mark], whole[close : begins[last + 1]]
    within = _around_mark(segments[first : last + 1], left, closing, right)
    return (*before, *within, *segments[last + 1 :])


def _around_mark(segments: Segments, left: str, closing: str, right: str) -> Segments:
    """The segments that hold the mark: it is no part of the text, and there is no token boundary inside of it.

    Without ids the mark stays at the end of the reasoning, for nothing else would tell an engine of it; an empty segment
    after it ends the reasoning.
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
        marked = replace(merged, text=left + closing, token_ids=None, is_reasoning=True)
        following = (Segment(right, source=merged.source),) if right else ()
        return (marked, Segment(""), *following)
    return (merged, Segment(right, (), source=merged.source)) if left else (merged,)

"""Where a completion can be gone on with, and what it and its continuation are together. Pure.

A continuation goes on from pieces: the tokens that were written, and the texts that were put between them, for text does
not always become the tokens again that it was. Thoughts that an engine tells apart from the text are pieces like it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from secondpass.strategies.api.values import Completion, End, Piece

Pieces = tuple[Piece, ...]


def pieces(completion: Completion) -> Pieces:
    """What the assistant's turn holds after this completion; empty where an engine told no token ids."""
    return completion.held or completion.token_ids


def with_text(held: Pieces, text: str) -> Pieces:
    """`held` and then `text`, as one piece with a text that stands at the end."""
    if not text:
        return held
    if held and isinstance(held[-1], str):
        return (*held[:-1], held[-1] + text)
    return (*held, text)


def is_in_thoughts(completion: Completion) -> bool:
    """Did it end before its thoughts did, as far as the engine told them apart?

    A token after the last word of the thoughts, without a word of text, closed them.
    """
    if not completion.reasoning or completion.text:
        return False
    last = completion.ends[-2:]
    return not (len(last) == 2 and last[0][1:] == last[1][1:])


def cut(completion: Completion, at: int, *, in_thoughts: bool = False) -> Completion | None:
    """The completion as it stood after `at` characters of its text, or `in_thoughts` of its reasoning, to be gone on with.

    What follows its last whole token before that place is held as text. None where it is not known which tokens hold
    the thoughts. Without token ids it is held as text alone.
    """
    reasoning, text = (at, 0) if in_thoughts else (len(completion.reasoning), at)
    end = _end_at(completion, reasoning, text)
    is_apart = bool(completion.reasoning)
    if is_apart and (end is None or (not in_thoughts and not end.text)):
        return None
    rest = (
        completion.reasoning[end.reasoning if end else 0 : reasoning]
        if in_thoughts
        else completion.text[end.text if end else 0 : text]
    )
    kept = with_text(pieces(completion)[: end.pieces], rest) if end else ()
    ids = tuple(piece for piece in kept if isinstance(piece, int))
    is_pure = len(ids) == len(kept)
    drawn = len(ids) if end else None if at == len(completion.text) else 0
    return replace(
        completion,
        reasoning=completion.reasoning[:reasoning],
        text=completion.text[:text],
        token_ids=ids if is_pure else (),
        held=() if is_pure else kept,
        ends=tuple(each for each in completion.ends if end and each.pieces <= end.pieces),
        logprobs=completion.logprobs[:drawn],
        confidences=completion.confidences[:drawn],
        finish_reason="length",
    )


def without_end(completion: Completion) -> Completion | None:
    """The completion without what ended it, so that its turn can go on; None as for `cut`."""
    return completion if completion.is_truncated else cut(completion, len(completion.text))


def joined(
    first: Completion, more: Completion, text: str = "", *, closing: str = "</think>"
) -> Completion:
    """`first`, then `text`, then what an engine went on with, as one completion.

    It has pieces only where all of it has. `closing` ends thoughts that `first` left open, where the engine does not
    tell them apart in a continuation.
    """
    is_by_piece = bool(pieces(first)) and bool(more.token_ids or not (more.text or more.reasoning))
    held = with_text(pieces(first), text)
    own = (*held, *more.token_ids) if is_by_piece else ()
    ids = tuple(piece for piece in own if isinstance(piece, int))
    is_pure = len(ids) == len(own)
    reasoning, written, ends = _said(first, more, text, closing, len(held))
    return replace(
        more,
        reasoning=reasoning,
        text=written,
        token_ids=ids if is_pure else (),
        held=() if is_pure else own,
        ends=(*first.ends, *ends) if is_by_piece else (),
        logprobs=first.logprobs + more.logprobs,
        confidences=first.confidences + more.confidences,
        purpose=first.purpose,
        usage=first.usage + more.usage,
    )


def _end_at(completion: Completion, reasoning: int, text: int) -> End | None:
    """The first place that has so much, for what follows it may be a token that ends something; else the last before it."""
    found = None
    for end in completion.ends:
        if end.reasoning > reasoning or end.text > text:
            break
        found = end
        if (end.reasoning, end.text) == (reasoning, text):
            break
    return found


def _said(
    first: Completion, more: Completion, text: str, closing: str, held: int
) -> tuple[str, str, Iterator[End]]:
    """Reasoning and text of both, and the places in `more`, counted from the beginning of `first`."""
    is_thought = bool(first.reasoning) and not first.text
    raw = text + more.text
    if not is_thought or more.reasoning or not (closing in raw or is_in_thoughts(first)):
        thoughts = first.reasoning + (text if is_thought else "") + more.reasoning
        said = more.text if is_thought else first.text + raw
        before = End(held, len(thoughts) - len(more.reasoning), len(said) - len(more.text))
        return thoughts, said, (End(*map(sum, zip(before, e, strict=True))) for e in more.ends)
    thought, _, said = raw.partition(closing)
    return first.reasoning + thought, said, _split_ends(first, more, text, closing, held)


def _split_ends(
    first: Completion, more: Completion, text: str, closing: str, held: int
) -> Iterator[End]:
    """The places in text that an engine did not tell from thoughts.

    There is none inside a mark, nor right after one that began inside a token, which would look like its beginning.
    """
    begin = len(first.reasoning)
    mark = (text + more.text).find(closing)
    has_begin = False
    for end in more.ends:
        at = len(text) + end.text
        beyond = at - mark - len(closing)
        has_begin = has_begin or at == mark
        if mark < 0 or at <= mark:
            yield End(held + end.pieces, begin + at, 0)
        elif beyond > 0 or (beyond == 0 and has_begin):
            yield End(held + end.pieces, begin + mark, beyond)

"""Cutting a completion back and going on with it: the pieces always hold what its text and thoughts say."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.values import Completion, End, FinishReason
from secondpass.strategies.continuation.segments import (
    cut,
    is_in_thoughts,
    joined,
    pieces,
    with_text,
    without_end,
)

MARKS = ("<think>", "</think>")
WORDS = st.lists(st.sampled_from(["So ", "it ", "is ", "4", "2. ", "\n\n"]), max_size=8)
EOS = 0


class Vocabulary:
    """Tokens by their ids, which are told one by one or several at once."""

    def __init__(self) -> None:
        self.words: list[str] = [""]

    def ids(self, words: list[str]) -> tuple[int, ...]:
        self.words += words
        return tuple(range(len(self.words) - len(words), len(self.words)))

    def text(self, held: tuple[int | str, ...]) -> str:
        return "".join(self.words[p] if isinstance(p, int) else p for p in held)


def written(
    vocabulary: Vocabulary, thoughts: list[str], said: list[str], width: int, *, is_apart: bool
) -> Completion:
    """A finished completion that thinks first; its thoughts are told apart, or stand in its text."""
    words = [MARKS[0], *thoughts, MARKS[1], *said]
    ids = (*vocabulary.ids(words), EOS)
    reasoning, text, ends = "", "", []
    for begin in range(0, len(ids), width):
        for place in range(begin, min(begin + width, len(words))):
            word, is_mark = words[place], words[place] in MARKS
            if not is_apart or place > len(thoughts) + 1:
                text += word
            elif not is_mark:
                reasoning += word
        if begin + width < len(ids):
            ends.append(End(begin + width, len(reasoning), len(text)))
    return Completion(
        text=text,
        reasoning=reasoning,
        messages=(),
        token_ids=ids,
        ends=tuple(ends),
        finish_reason="stop",
    )


@given(WORDS, WORDS, st.integers(1, 4), st.data())
def test_a_text_cut_anywhere_is_held_by_its_pieces(
    thoughts: list[str], said: list[str], width: int, data: st.DataObject
) -> None:
    vocabulary = Vocabulary()
    whole = written(vocabulary, thoughts, said, width, is_apart=False)
    at = data.draw(st.integers(0, len(whole.text)))
    short = cut(whole, at)
    assert short is not None
    assert short.text == whole.text[:at]
    if pieces(short):
        assert vocabulary.text(pieces(short)) == short.text
    assert EOS not in pieces(short)
    assert short.is_truncated


@given(WORDS, WORDS, st.integers(1, 4), st.data())
def test_thoughts_cut_anywhere_are_reopened_or_not_cut(
    thoughts: list[str], said: list[str], width: int, data: st.DataObject
) -> None:
    vocabulary = Vocabulary()
    whole = written(vocabulary, thoughts, said, width, is_apart=True)
    at = data.draw(st.integers(0, len(whole.reasoning)))
    short = cut(whole, at, in_thoughts=True)
    if short is None:
        return
    assert (short.reasoning, short.text) == (whole.reasoning[:at], "")
    if width == 1:
        assert vocabulary.text(pieces(short)) == MARKS[0] + short.reasoning
        assert all(isinstance(piece, int) for piece in pieces(short)[:-1])


@given(WORDS, WORDS, st.integers(1, 4))
def test_what_is_over_goes_on_without_its_end_token(
    thoughts: list[str], said: list[str], width: int
) -> None:
    vocabulary = Vocabulary()
    whole = written(vocabulary, thoughts, said, width, is_apart=True)
    begun = without_end(whole)
    if begun is None or not pieces(begun) or not whole.text:
        return
    assert EOS not in pieces(begun)
    assert vocabulary.text(pieces(begun)) == "".join([MARKS[0], *thoughts, MARKS[1], *said])


@given(st.lists(st.one_of(st.integers(1, 9), st.sampled_from(["a", "b"])), max_size=5))
def test_texts_side_by_side_are_one_piece(held: list[int | str]) -> None:
    found: tuple[int | str, ...] = ()
    for piece in held:
        found = with_text(found, piece) if isinstance(piece, str) else (*found, piece)
    assert not any(isinstance(one, str) and isinstance(two, str) for one, two in pairwise(found))


def open_thoughts() -> Completion:
    return Completion(
        text="", reasoning="hm ", messages=(), token_ids=(1, 2), finish_reason="length",
        ends=(End(1, 0, 0), End(2, 3, 0)),
    )  # fmt: skip


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_thoughts_go_on_as_thoughts_though_the_engine_tells_them_as_text(
    finish: FinishReason,
) -> None:
    more = Completion(
        text="well</think>\n\n42", messages=(), token_ids=(3, 4, 5), finish_reason=finish,
        ends=(End(1, 0, 4), End(2, 0, 12), End(3, 0, 16)),
    )  # fmt: skip
    both = joined(open_thoughts(), more, "Wait. ")
    assert (both.reasoning, both.text) == ("hm Wait. well", "\n\n42")
    assert pieces(both) == (1, 2, "Wait. ", 3, 4, 5)
    assert both.ends == (
        End(1, 0, 0),
        End(2, 3, 0),
        End(4, 13, 0),
        End(5, 13, 0),
        End(6, 13, 4),
    )
    back = cut(both, 13, in_thoughts=True)
    assert back is not None
    assert pieces(back) == (1, 2, "Wait. ", 3)


def test_thoughts_that_were_closed_by_the_last_token_are_over() -> None:
    closed = Completion(
        text="", reasoning="hm ", messages=(), token_ids=(1, 2, 3), finish_reason="length",
        ends=(End(1, 0, 0), End(2, 3, 0), End(3, 3, 0)),
    )  # fmt: skip
    assert not is_in_thoughts(closed)
    assert is_in_thoughts(open_thoughts())
    said = joined(closed, Completion(text="42", messages=(), token_ids=(4,)))
    assert (said.reasoning, said.text) == ("hm ", "42")


def test_an_engine_that_tells_thoughts_apart_everywhere_is_believed() -> None:
    more = Completion(text="42", reasoning="well", messages=(), token_ids=(3, 4, 5))
    both = joined(open_thoughts(), more)
    assert (both.reasoning, both.text, both.token_ids) == ("hm well", "42", (1, 2, 3, 4, 5))


def test_a_part_without_tokens_makes_the_whole_a_text() -> None:
    both = joined(open_thoughts(), Completion(text="</think>42", messages=()))
    assert (pieces(both), both.ends) == ((), ())

"""Truncation and joining of completions: prefixes always decode to the reasoning and the text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secondpass.strategies.api.values import Completion, FinishReason, PrefixPart, Segment
from secondpass.strategies.continuation.segments import (
    boundaries,
    has_ids,
    is_in_reasoning,
    joined,
    prefix_parts,
    reopened,
    truncated,
    without_ids,
)

OPENING, CLOSING = DELIMITERS = ("<think>", "</think>")
WORDS = st.lists(st.sampled_from(["So ", "it ", "is ", "4", "2. ", "\n\n", ""]), max_size=8)
EOS = 0


class Vocabulary:
    """Token texts by id. An empty text is a part of a character. `EOS` has no text."""

    def __init__(self) -> None:
        self.words: list[str] = [""]

    def ids(self, words: Sequence[str]) -> tuple[int, ...]:
        self.words += words
        return tuple(range(len(self.words) - len(words), len(self.words)))

    def text(self, parts: Iterable[PrefixPart]) -> str:
        return "".join(self.words[p] if isinstance(p, int) else p for p in parts)


def finished(segments: Sequence[Segment], reason: FinishReason = "stop") -> Completion:
    """Return a completion of these deltas; the ids of the last one are unknown if it is finished."""
    if segments and reason == "stop":
        segments = [*segments[:-1], replace(segments[-1], token_ids=None)]
    return Completion(messages=(), segments=tuple(segments), finish_reason=reason)


def written(
    vocabulary: Vocabulary,
    reasoning: list[str],
    conclusion: list[str],
    width: int,
    *,
    is_separate: bool,
) -> Completion:
    """Return a finished completion in deltas of `width` tokens, its reasoning separate or in the text."""
    words = [OPENING, *reasoning, CLOSING, *conclusion, ""]
    ids = (*vocabulary.ids(words[:-1]), EOS)
    segments: list[Segment] = []
    for begin in range(0, len(ids), width):
        inner, text = "", ""
        for position in range(begin, min(begin + width, len(words))):
            if not is_separate or position > len(reasoning) + 1:
                text += words[position]
            elif words[position] not in DELIMITERS:
                inner += words[position]
        taken = ids[begin : begin + width]
        parts = [Segment(inner, taken, is_reasoning=True)] if inner else []
        if text or not inner:
            parts.append(Segment(text, () if inner else taken))
        segments += parts
    return finished(segments)


# -- truncation ----------------------------------------------------------------------------------------


@given(WORDS, WORDS, st.integers(1, 4), st.data())
def test_the_prefix_of_a_truncated_text_decodes_to_the_text(
    reasoning: list[str], conclusion: list[str], width: int, data: st.DataObject
) -> None:
    vocabulary = Vocabulary()
    whole = written(vocabulary, reasoning, conclusion, width, is_separate=False)
    at = data.draw(st.integers(0, len(whole.text)))
    short = truncated(whole, at)
    assert short is not None
    assert short.text == vocabulary.text(prefix_parts(short)) == whole.text[:at]
    assert EOS not in prefix_parts(short)
    assert short.is_truncated
    assert all(isinstance(part, int) for part in prefix_parts(short)[:-1])
    if at in boundaries(whole)[:-1]:
        assert all(isinstance(part, int) for part in prefix_parts(short))


@given(WORDS, WORDS, st.integers(1, 4), st.data())
def test_truncation_of_a_text_keeps_all_separate_reasoning_or_returns_none(
    reasoning: list[str], conclusion: list[str], width: int, data: st.DataObject
) -> None:
    vocabulary = Vocabulary()
    whole = written(vocabulary, reasoning, conclusion, width, is_separate=True)
    at = data.draw(st.integers(0, len(whole.text)))
    short = truncated(whole, at)
    if not whole.reasoning:
        return
    if short is None:
        assert width > 1 or not at or at < len(next(filter(None, conclusion)))
        return
    assert (short.reasoning, short.text) == (whole.reasoning, whole.text[:at])
    assert (
        vocabulary.text(prefix_parts(short)) == f"{OPENING}{whole.reasoning}{CLOSING}{short.text}"
    )


@given(WORDS, WORDS, st.integers(1, 4), st.data())
def test_truncation_of_reasoning_reopens_it_or_returns_none(
    reasoning: list[str], conclusion: list[str], width: int, data: st.DataObject
) -> None:
    vocabulary = Vocabulary()
    whole = written(vocabulary, reasoning, conclusion, width, is_separate=True)
    at = data.draw(st.integers(0, len(whole.reasoning)))
    short = truncated(whole, at, in_reasoning=True)
    if short is None:
        return
    assert (short.reasoning, short.text) == (whole.reasoning[:at], "")
    assert is_in_reasoning(short) or not short.reasoning or "" in reasoning
    if width == 1 and at:  # wider deltas may contain both reasoning and the delimiter
        assert vocabulary.text(prefix_parts(short)) == OPENING + short.reasoning
        assert all(isinstance(part, int) for part in prefix_parts(short)[:-1])


@given(WORDS, WORDS, st.integers(1, 4), st.booleans())
def test_a_finished_completion_is_reopened_without_its_end_token(
    reasoning: list[str], conclusion: list[str], width: int, is_separate: bool
) -> None:
    vocabulary = Vocabulary()
    whole = written(vocabulary, reasoning, conclusion, width, is_separate=is_separate)
    reopened_whole = reopened(whole)
    if reopened_whole is None or not has_ids(reopened_whole):
        return
    if is_separate and not (whole.reasoning and whole.text):
        return
    assert (reopened_whole.reasoning, reopened_whole.text) == (whole.reasoning, whole.text)
    assert EOS not in prefix_parts(reopened_whole)
    assert vocabulary.text(prefix_parts(reopened_whole)) == "".join(
        [OPENING, *reasoning, CLOSING, *conclusion]
    )


@given(WORDS, st.integers(1, 4), st.data())
def test_truncation_keeps_one_log_probability_per_token(
    conclusion: list[str], width: int, data: st.DataObject
) -> None:
    vocabulary = Vocabulary()
    whole = written(vocabulary, [], conclusion, width, is_separate=False)
    numbered = replace(
        whole,
        segments=tuple(
            replace(s, logprobs=(-1.0,) * len(s.token_ids or ())) for s in whole.segments
        ),
    )
    short = truncated(numbered, data.draw(st.integers(0, len(numbered.text))))
    assert short is not None
    assert len(short.logprobs) == len(short.token_ids)


def test_a_completion_without_ids_is_truncated_as_text_alone() -> None:
    short = truncated(Completion.of("So it is"), 5)
    assert short is not None
    assert (short.text, prefix_parts(short), has_ids(short)) == ("So it", ("So it",), False)
    assert truncated(Completion.of("So", reasoning="hm"), 1) is None
    assert truncated(Completion.of("So", reasoning="hm"), 1, in_reasoning=True) is None


@pytest.mark.parametrize(
    "segments",
    [
        (Segment("hm", (1,), True), Segment("well", None, True), Segment("42", None)),
        (Segment("hm", (1,), True), Segment("well", None, True), Segment("42", ())),
        (Segment("hm", (1,), True), Segment("42", None)),
        (Segment("hm", None, True), Segment("", (2,)), Segment("42", (3,))),
    ],
)
def test_a_completion_without_the_ids_of_its_closing_delimiter_cannot_be_continued(
    segments: tuple[Segment, ...],
) -> None:
    whole = Completion(messages=(), segments=segments)
    assert not has_ids(whole)
    assert reopened(whole) is None


def test_a_completion_without_ids_has_the_same_text() -> None:
    whole = written(Vocabulary(), ["hm"], ["42"], 1, is_separate=False)
    assert has_ids(whole)
    assert not has_ids(without_ids(whole))
    assert without_ids(whole).text == whole.text
    assert not has_ids(Completion(messages=()))


@given(st.lists(st.one_of(st.integers(1, 9), st.sampled_from(["a", "b", ""])), max_size=5))
def test_adjacent_inserted_texts_are_one_prefix_part(parts: list[PrefixPart]) -> None:
    segments = [Segment("x", (p,)) if isinstance(p, int) else Segment(p) for p in parts]
    found = prefix_parts(finished(segments, "length"))
    assert not any(isinstance(one, str) and isinstance(two, str) for one, two in pairwise(found))
    assert "" not in found


# -- joining -------------------------------------------------------------------------------------------


def tokenized(vocabulary: Vocabulary, text: str, at: Iterable[int]) -> list[Segment]:
    """Return the text split into tokens at these offsets; equal offsets make an empty token."""
    edges = [0, *sorted(at), len(text)]
    words = [text[begin:end] for begin, end in pairwise(edges)]
    return [Segment(w, (i,)) for w, i in zip(words, vocabulary.ids(words), strict=True)]


@st.composite
def tokenizations(draw: st.DrawFn, text: str) -> list[int]:
    """Draw the offsets of token ends in the text, which may also be inside a delimiter."""
    return draw(st.lists(st.integers(0, len(text)), max_size=12))


def open_reasoning(vocabulary: Vocabulary) -> Completion:
    opening, *words = vocabulary.ids([OPENING, "hm "])
    segments = (Segment("", (opening,)), Segment("hm ", tuple(words), is_reasoning=True))
    return Completion(messages=(), segments=segments, finish_reason="length")


RAW = f"well{CLOSING}\n\nSo 42"


@example([4, 12], "Wait. ", "length")
@example([2, 5, 6, 11, 15], "", "length")
@example([1, 12], "", "stop")
@example([0, 12], "", "length")
@example([12, 12], "", "length")
@example([], "Wait. ", "stop")
@given(tokenizations(RAW), st.sampled_from(["", "Wait. "]), st.sampled_from(["stop", "length"]))
def test_reasoning_ends_at_its_delimiter_in_every_tokenization(
    at: list[int], text: str, reason: FinishReason
) -> None:
    vocabulary = Vocabulary()
    first = open_reasoning(vocabulary)
    more = finished(tokenized(vocabulary, RAW, at), reason)
    both = joined(first, more, text)
    assert both.reasoning.removesuffix(CLOSING) == f"hm {text}well"
    assert both.text == "\n\nSo 42"
    assert not is_in_reasoning(both)
    raw = f"{OPENING}hm {text}{RAW}"
    assert vocabulary.text(prefix_parts(both)) == raw
    assert (CLOSING in both.reasoning) == (
        more.segments[-1].text.endswith(RAW[11:]) and reason == "stop"
    )
    assert_truncated_anywhere(vocabulary, both, f"{OPENING}hm {text}well")


def assert_truncated_anywhere(vocabulary: Vocabulary, both: Completion, reasoning: str) -> None:
    """Assert that every truncation decodes to its reasoning and text, and none is inside the delimiter."""
    for at in range(1, len(both.reasoning.removesuffix(CLOSING)) + 1):
        short = truncated(both, at, in_reasoning=True)
        assert short is not None
        assert (short.reasoning, short.text) == (both.reasoning[:at], "")
        assert vocabulary.text(prefix_parts(short)) == reasoning[: len(OPENING) + at]
    for at in range(len(both.text) + 1):
        short = truncated(both, at)
        if short is not None:
            assert (short.reasoning, short.text) == (both.reasoning, both.text[:at])
            assert vocabulary.text(prefix_parts(short)) == f"{reasoning}{CLOSING}{short.text}"
            assert short.segments[0].token_ids
    assert truncated(both, len(both.text)) is not None


@given(WORDS, WORDS, tokenizations(RAW), st.sampled_from(["", "Wait. "]))
def test_truncation_of_a_joined_completion_restores_its_first_part(
    conclusion: list[str], more: list[str], at: list[int], text: str
) -> None:
    vocabulary = Vocabulary()
    first = finished(
        [Segment(w, (i,)) for w, i in zip(conclusion, vocabulary.ids(conclusion), strict=True)],
        "length",
    )
    second = finished([Segment(w, (i,)) for w, i in zip(more, vocabulary.ids(more), strict=True)])
    back = truncated(joined(first, second, text), len(first.text))
    assert back is not None
    assert back.text == first.text
    assert [s for s in back.segments if s.text] == [s for s in first.segments if s.text]

    partial = open_reasoning(vocabulary)
    whole = joined(partial, finished(tokenized(vocabulary, RAW, at)), text)
    again = truncated(whole, len(partial.reasoning), in_reasoning=True)
    assert again is not None
    assert again.segments == partial.segments


def test_reasoning_closed_by_the_last_token_is_closed() -> None:
    vocabulary = Vocabulary()
    partial = open_reasoning(vocabulary)
    closed = replace(partial, segments=(*partial.segments, Segment("", vocabulary.ids([CLOSING]))))
    assert is_in_reasoning(partial)
    assert not is_in_reasoning(closed)
    both = joined(closed, Completion.of("42"), "So ")
    assert (both.reasoning, both.text) == ("hm ", "So 42")


@pytest.mark.parametrize("at", [[1], [4], [4, 12], [1, 6, 7, 12], list(range(1, 12))])
def test_a_continuation_that_ends_with_the_delimiter_has_no_boundary_after_it(
    at: list[int],
) -> None:
    vocabulary = Vocabulary()
    first = open_reasoning(vocabulary)
    more = finished(tokenized(vocabulary, f"well{CLOSING}", [a for a in at if a < 12]), "length")
    both = joined(first, more)
    assert (both.reasoning, both.text) == ("hm well", "")
    assert not is_in_reasoning(both)
    short = truncated(both, 7, in_reasoning=True)
    assert short is not None
    assert vocabulary.text(prefix_parts(short)) == f"{OPENING}hm well"
    conclusion = joined(both, finished(tokenized(vocabulary, "So 42", [2])))
    assert (conclusion.reasoning, conclusion.text) == ("hm well", "So 42")
    assert_truncated_anywhere(vocabulary, conclusion, f"{OPENING}hm well")


def test_an_inserted_delimiter_closes_the_reasoning_and_stays_in_the_prefix() -> None:
    vocabulary = Vocabulary()
    more = finished(tokenized(vocabulary, "42}. So", [2]))
    both = joined(open_reasoning(vocabulary), more, f"\n{CLOSING}\n\nIt is {{")
    assert both.text == "\n\nIt is {42}. So"
    assert both.reasoning == f"hm \n{CLOSING}"
    assert vocabulary.text(prefix_parts(both)) == f"{OPENING}hm \n{CLOSING}\n\nIt is {{42}}. So"
    assert reopened(both) is not None


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_delimiter_of_several_tokens_keeps_their_log_probabilities(reason: FinishReason) -> None:
    vocabulary = Vocabulary()
    parts = [
        replace(each, logprobs=(-float(i),), confidences=(float(i),), source=3)
        for i, each in enumerate(tokenized(vocabulary, RAW, [2, 7, 14]))
    ]
    both = joined(open_reasoning(vocabulary), finished(parts, reason))
    assert list(both.logprobs) == [0, -1, -2, -3]
    assert list(both.confidences) == [0, 1, 2, 3]
    assert {each.source for each in both.segments[2:] if each.text} == {3}


def test_separate_reasoning_of_a_continuation_is_kept() -> None:
    segments = (Segment("well", (3,), is_reasoning=True), Segment("", (4,)), Segment("42", (5,)))
    both = joined(open_reasoning(Vocabulary()), finished(segments, "length"), "Wait. ")
    assert (both.reasoning, both.text) == ("hm Wait. well", "42")
    assert prefix_parts(both) == (1, 2, "Wait. ", 3, 4, 5)


def test_a_different_delimiter_may_close_the_reasoning() -> None:
    vocabulary = Vocabulary()
    more = finished(tokenized(vocabulary, "well[/THINK]42", [4, 12]), "length")
    both = joined(open_reasoning(vocabulary), more, closing="[/THINK]")
    assert (both.reasoning, both.text) == ("hm well", "42")


@given(st.lists(st.sampled_from(["a", "", "b c"]), max_size=8))
def test_boundaries_are_where_tokens_end(words: list[str]) -> None:
    vocabulary = Vocabulary()
    segments = [Segment(w, (i,)) for w, i in zip(words, vocabulary.ids(words), strict=True)]
    assert boundaries(finished(segments, "length")) == list(accumulate(map(len, words)))
    merged = Completion(messages=(), segments=(Segment("ab", (1, 2)), Segment("c", ())))
    assert boundaries(merged) == [3]

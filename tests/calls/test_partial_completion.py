"""Segments of partial completions, by the deltas that delivered them."""

from dataclasses import replace

import pytest

from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.strategies.api.engine import Delta
from secondpass.strategies.api.values import (
    Completion,
    FunctionCall,
    Sampling,
    Segment,
    ToolCall,
)
from tests.calls.calls_support import CALL

RESUMABLE = replace(CALL, resumable=True)
STOPPED = Sampling(max_tokens=20, stop=("END", "D"))


def completion_of(call: object, *deltas: Delta) -> Completion:
    partial = PartialCompletion(call, 0, 7)  # type: ignore[arg-type]
    for delta in deltas:
        partial.add(delta)
    return partial.completion


def shape(completion: Completion) -> list[tuple[str, tuple[int, ...] | None, bool]]:
    assert all(each.source == 7 for each in completion.segments)
    return [(each.text, each.token_ids, each.is_reasoning) for each in completion.segments]


def text(text: str, *ids: int, **more: object) -> Delta:
    return Delta(text=text, token_ids=ids, tokens=len(ids), **more)  # type: ignore[arg-type]


def reasoning(text: str, *ids: int, **more: object) -> Delta:
    return Delta(reasoning=text, token_ids=ids, tokens=len(ids), **more)  # type: ignore[arg-type]


def test_a_resumable_completion_has_one_segment_per_delta() -> None:
    completion = completion_of(
        RESUMABLE,
        Delta(usage=None),
        reasoning("Hm", 1),
        reasoning("...", 2),
        text("", 3),  # end of the reasoning
        text("", 4),  # part of a character
        text("ä", 5),
        text(" yes", 6, 7),
        text("", 8, finish_reason="stop"),
    )
    assert shape(completion) == [
        ("Hm", (1,), True),
        ("...", (2,), True),
        ("", (3,), False),
        ("", (4,), False),
        ("ä", (5,), False),
        (" yes", (6, 7), False),
        ("", None, False),
    ]
    assert (completion.text, completion.reasoning) == ("ä yes", "Hm...")
    assert completion.token_ids == (1, 2, 3, 4, 5, 6, 7)
    assert completion.usage.completion == 8


def test_other_completions_merge_deltas_of_one_kind() -> None:
    completion = completion_of(
        CALL,
        reasoning("Hm", 1),
        reasoning("...", 2),
        text("", 3),
        Delta(),
        text("yes", 4),
        text("", 5),
        text("!", 6),
        text("", 8, finish_reason="stop"),
    )
    assert shape(completion) == [
        ("Hm...", (1, 2, 3), True),
        ("yes!", (4, 5, 6), False),
        ("", None, False),
    ]


@pytest.mark.parametrize("call", [CALL, RESUMABLE], ids=["merged", "resumable"])
def test_a_token_of_both_kinds_belongs_to_the_first_segment(call: object) -> None:
    both = Delta(reasoning="...", text="So", token_ids=(2,), tokens=1, logprobs=(-0.5,))
    completion = completion_of(call, both, text(" it", 3, logprobs=(-0.1,)))
    assert shape(completion) == [("...", (2,), True), ("So", (), False), (" it", (3,), False)]
    assert completion.logprobs == (-0.5, -0.1)
    assert shape(completion_of(call, replace(both, token_ids=()))) == [
        ("...", None, True),
        ("So", None, False),
    ]


def test_merged_text_with_an_unknown_token_has_no_ids() -> None:
    completion = completion_of(CALL, text("yes", 1), Delta(text=" and", tokens=1), text(" no", 3))
    assert shape(completion) == [("yes and no", None, False)]


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "content_filter"])
@pytest.mark.parametrize("call", [CALL, RESUMABLE], ids=["merged", "resumable"])
def test_the_last_tokens_are_unknown_unless_a_limit_ended_the_completion(
    call: object, reason: str
) -> None:
    ended = completion_of(call, text("a", 1), text("b", 2, finish_reason=reason))
    assert shape(ended) == [("a", (1,), False), ("b", None, False)]
    limited = completion_of(call, text("a", 1), text("b", 2, finish_reason="length"))
    assert limited.token_ids == (1, 2)
    assert limited.is_truncated


@pytest.mark.parametrize("call", [CALL, RESUMABLE], ids=["merged", "resumable"])
def test_an_empty_last_delta_has_the_kind_of_the_previous_segment(call: object) -> None:
    completion = completion_of(call, reasoning("Hm", 1), text("", 2, finish_reason="stop"))
    assert shape(completion) == [("Hm", (1,), True), ("", None, True)]
    assert shape(completion_of(call, text("a", 1), Delta(finish_reason="stop"))) == [
        ("a", (1,), False)
    ]
    assert shape(completion_of(call, text("", 1, finish_reason="stop"))) == [("", None, False)]


def test_text_that_engines_delay_has_no_ids() -> None:
    delayed = replace(CALL, sampling=STOPPED)
    assert shape(completion_of(delayed, text("a", 1), text("", 2), text("bc", 3))) == [
        ("abc", None, False)
    ]
    resumable = replace(RESUMABLE, sampling=STOPPED)
    assert completion_of(resumable, text("a", 1), text("b", 2)).token_ids == (1, 2)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a ", "END"], [("a ", (0,), False)]),
        (["a", " E", "N", "D"], [("a", (0,), False), (" ", None, False)]),
        (["a", "", "END"], [("a", (0,), False), ("", (1,), False)]),
        (["a", " EN", "", "D"], [("a", (0,), False), (" ", None, False)]),
        (["END"], []),
        (["xD"], [("x", None, False)]),
        (["no stop"], [("no stop", None, False)]),
    ],
)
def test_excluded_stop_strings_are_removed(
    texts: list[str], expected: list[tuple[str, tuple[int, ...] | None, bool]]
) -> None:
    call = replace(RESUMABLE, sampling=STOPPED, excluded_stop=("END", "D"))
    deltas = [text(each, i) for i, each in enumerate(texts)]
    deltas[-1] = replace(deltas[-1], finish_reason="stop")
    completion = completion_of(call, *deltas)
    assert [(e.text, e.token_ids, e.is_reasoning) for e in completion.segments] == expected
    limited = [*deltas[:-1], replace(deltas[-1], finish_reason="length")]
    assert completion_of(call, *limited).text == "".join(texts)


def test_other_stop_strings_are_kept() -> None:
    call = replace(RESUMABLE, sampling=STOPPED)
    assert completion_of(call, text("a END", 1, finish_reason="stop")).text == "a END"


@pytest.mark.parametrize("call", [CALL, RESUMABLE], ids=["merged", "resumable"])
def test_each_stream_has_its_own_segments(call: object) -> None:
    partial = PartialCompletion(call, 3, 0)  # type: ignore[arg-type]
    partial.add(text("a", 1))
    partial.open(4)
    partial.add(text("b", 2))
    assert partial.completion.segments == (Segment("a", (1,)), Segment("b", (2,)))
    assert [each.source for each in partial.completion.segments] == [0, 4]
    assert partial.completion.index == 3


@pytest.mark.parametrize("call", [CALL, RESUMABLE], ids=["merged", "resumable"])
def test_log_probabilities_and_confidences_stay_with_their_tokens(call: object) -> None:
    first = reasoning("a", 1, logprobs=(-1.0,), confidences=(5.0,))
    last = text("b", 2, logprobs=(-2.0,), confidences=(6.0,), finish_reason="stop")
    completion = completion_of(call, first, last)
    assert [(e.logprobs, e.confidences) for e in completion.segments] == [
        ((-1.0,), (5.0,)),
        ((-2.0,), (6.0,)),
    ]


def test_tool_calls_are_collected() -> None:
    calls = [
        ToolCall(id=str(i), function=FunctionCall(name="add", arguments="{}")) for i in range(2)
    ]
    completion = completion_of(
        CALL,
        text("Let me add.", 1),
        Delta(tool_calls=(calls[0],)),
        Delta(tool_calls=(calls[1],), finish_reason="tool_calls"),
    )
    assert completion.tool_calls == tuple(calls)
    assert completion.finish_reason == "tool_calls"
    assert completion.text == "Let me add."


def test_a_token_without_text_has_the_kind_of_the_previous_segment() -> None:
    both = Delta(reasoning="Hm", text="So", token_ids=(1,), tokens=1)
    assert shape(completion_of(CALL, both, text("", 2), text(" yes", 3))) == [
        ("Hm", (1,), True),
        ("So", (), False),
        (" yes", (2, 3), False),
    ]
    assert shape(completion_of(CALL, reasoning("Hm", 1), text("", 2), text("So", 3))) == [
        ("Hm", (1, 2), True),
        ("So", (3,), False),
    ]

"""What segments a completion has, by the deltas that delivered it."""

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


def built(call: object, *deltas: Delta) -> Completion:
    partial = PartialCompletion(call, 0, 7)  # type: ignore[arg-type]
    for delta in deltas:
        partial.add(delta)
    return partial.completion


def shape(completion: Completion) -> list[tuple[str, tuple[int, ...] | None, bool]]:
    assert all(each.source == 7 for each in completion.segments)
    return [(each.text, each.token_ids, each.is_reasoning) for each in completion.segments]


def text(text: str, *ids: int, **more: object) -> Delta:
    return Delta(text=text, token_ids=ids, tokens=len(ids), **more)  # type: ignore[arg-type]


def thought(text: str, *ids: int, **more: object) -> Delta:
    return Delta(reasoning=text, token_ids=ids, tokens=len(ids), **more)  # type: ignore[arg-type]


def test_a_resumable_completion_has_a_segment_for_each_delta() -> None:
    completion = built(
        RESUMABLE,
        Delta(usage=None),
        thought("Hm", 1),
        thought("...", 2),
        text("", 3),  # closes the reasoning
        text("", 4),  # a part of a character
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


def test_other_completions_merge_what_is_of_one_kind() -> None:
    completion = built(
        CALL,
        thought("Hm", 1),
        thought("...", 2),
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
def test_a_token_of_both_kinds_is_held_by_the_first_of_two_segments(call: object) -> None:
    both = Delta(reasoning="...", text="So", token_ids=(2,), tokens=1, logprobs=(-0.5,))
    completion = built(call, both, text(" it", 3, logprobs=(-0.1,)))
    assert shape(completion) == [("...", (2,), True), ("So", (), False), (" it", (3,), False)]
    assert completion.logprobs == (-0.5, -0.1)
    assert shape(built(call, replace(both, token_ids=()))) == [
        ("...", None, True),
        ("So", None, False),
    ]


def test_a_merged_text_with_an_unknown_token_is_unknown() -> None:
    completion = built(CALL, text("yes", 1), Delta(text=" and", tokens=1), text(" no", 3))
    assert shape(completion) == [("yes and no", None, False)]


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "content_filter"])
@pytest.mark.parametrize("call", [CALL, RESUMABLE], ids=["merged", "resumable"])
def test_the_last_tokens_are_unknown_unless_a_limit_ended_it(call: object, reason: str) -> None:
    ended = built(call, text("a", 1), text("b", 2, finish_reason=reason))
    assert shape(ended) == [("a", (1,), False), ("b", None, False)]
    limited = built(call, text("a", 1), text("b", 2, finish_reason="length"))
    assert limited.token_ids == (1, 2)
    assert limited.is_truncated


@pytest.mark.parametrize("call", [CALL, RESUMABLE], ids=["merged", "resumable"])
def test_an_empty_end_is_of_the_kind_before_it(call: object) -> None:
    completion = built(call, thought("Hm", 1), text("", 2, finish_reason="stop"))
    assert shape(completion) == [("Hm", (1,), True), ("", None, True)]
    assert shape(built(call, text("a", 1), Delta(finish_reason="stop"))) == [("a", (1,), False)]
    assert shape(built(call, text("", 1, finish_reason="stop"))) == [("", None, False)]


def test_text_that_engines_hold_back_has_no_ids() -> None:
    held = replace(CALL, sampling=STOPPED)
    assert shape(built(held, text("a", 1), text("", 2), text("bc", 3))) == [("abc", None, False)]
    kept = replace(RESUMABLE, sampling=STOPPED)
    assert built(kept, text("a", 1), text("b", 2)).token_ids == (1, 2)


@pytest.mark.parametrize(
    ("pieces", "expected"),
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
def test_excluded_stop_strings_are_removed_from_the_end(
    pieces: list[str], expected: list[tuple[str, tuple[int, ...] | None, bool]]
) -> None:
    call = replace(RESUMABLE, sampling=STOPPED, excluded_stop=("END", "D"))
    deltas = [text(piece, i) for i, piece in enumerate(pieces)]
    deltas[-1] = replace(deltas[-1], finish_reason="stop")
    completion = built(call, *deltas)
    assert [(e.text, e.token_ids, e.is_reasoning) for e in completion.segments] == expected
    limited = [*deltas[:-1], replace(deltas[-1], finish_reason="length")]
    assert built(call, *limited).text == "".join(pieces)


def test_a_stop_string_that_is_not_excluded_stays() -> None:
    call = replace(RESUMABLE, sampling=STOPPED)
    assert built(call, text("a END", 1, finish_reason="stop")).text == "a END"


@pytest.mark.parametrize("call", [CALL, RESUMABLE], ids=["merged", "resumable"])
def test_each_stream_has_segments_of_its_own(call: object) -> None:
    partial = PartialCompletion(call, 3, 0)  # type: ignore[arg-type]
    partial.add(text("a", 1))
    partial.open(4)
    partial.add(text("b", 2))
    assert partial.completion.segments == (Segment("a", (1,)), Segment("b", (2,)))
    assert [each.source for each in partial.completion.segments] == [0, 4]
    assert partial.completion.index == 3


@pytest.mark.parametrize("call", [CALL, RESUMABLE], ids=["merged", "resumable"])
def test_log_probabilities_and_confidences_stay_with_their_tokens(call: object) -> None:
    first = thought("a", 1, logprobs=(-1.0,), confidences=(5.0,))
    last = text("b", 2, logprobs=(-2.0,), confidences=(6.0,), finish_reason="stop")
    completion = built(call, first, last)
    assert [(e.logprobs, e.confidences) for e in completion.segments] == [
        ((-1.0,), (5.0,)),
        ((-2.0,), (6.0,)),
    ]


def test_tool_calls_are_collected() -> None:
    calls = [
        ToolCall(id=str(i), function=FunctionCall(name="add", arguments="{}")) for i in range(2)
    ]
    completion = built(
        CALL,
        text("Let me add.", 1),
        Delta(tool_calls=(calls[0],)),
        Delta(tool_calls=(calls[1],), finish_reason="tool_calls"),
    )
    assert completion.tool_calls == tuple(calls)
    assert completion.finish_reason == "tool_calls"
    assert completion.text == "Let me add."


def test_a_token_without_text_is_of_the_kind_of_what_is_before_it() -> None:
    both = Delta(reasoning="Hm", text="So", token_ids=(1,), tokens=1)
    assert shape(built(CALL, both, text("", 2), text(" yes", 3))) == [
        ("Hm", (1,), True),
        ("So", (), False),
        (" yes", (2, 3), False),
    ]
    assert shape(built(CALL, thought("Hm", 1), text("", 2), text("So", 3))) == [
        ("Hm", (1, 2), True),
        ("So", (3,), False),
    ]

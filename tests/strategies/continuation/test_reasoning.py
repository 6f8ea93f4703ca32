"""State of a completion's reasoning, and points of reflection prompts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.model_profiles import OTHER, profile_of
from secondpass.strategies.api.values import Completion, FinishReason, Segment
from secondpass.strategies.continuation.reasoning import reasoning_state, reflection_point
from secondpass.strategies.continuation.segments import joined

REASONING = profile_of("Qwen3-8B")
CLOSING = REASONING.thinking[1]
OPEN = Completion(
    messages=(), segments=(Segment("Hm. ", (1,), is_reasoning=True),), finish_reason="length"
)


@pytest.mark.parametrize(
    ("text", "finish", "state"),
    [
        ("<think> Hm.", "stop", "open"),
        ("Hm.", "length", "open"),  # the opening delimiter may be part of the prompt
        ("Hm.", "stop", "none"),
        (f"Hm. {CLOSING} 42", "length", "closed"),
    ],
)
def test_delimiters_in_the_text_determine_the_state_of_the_reasoning(
    text: str, finish: FinishReason, state: str
) -> None:
    assert reasoning_state(Completion.of(text, finish_reason=finish), REASONING) == state
    assert reasoning_state(Completion.of("Hm.", finish_reason="length"), OTHER) == "none"


@given(st.lists(st.integers(0, 22), max_size=6), st.sampled_from(["stop", "length"]))
def test_a_reflection_prompt_never_follows_the_delimiter_of_separate_reasoning(
    at: list[int], reason: FinishReason
) -> None:
    raw = f"Well.{CLOSING}\n\nSo 42."
    edges = [0, *sorted(at), len(raw)]
    segments = [
        Segment(raw[begin:end], (number,)) for number, (begin, end) in enumerate(pairwise(edges), 2)
    ]
    if reason == "stop":
        segments[-1] = Segment(segments[-1].text)
    more = Completion(messages=(), segments=tuple(segments), finish_reason=reason)
    both = joined(OPEN, more)
    assert reasoning_state(both, REASONING) == "closed"
    point = reflection_point(both, REASONING)
    assert point is not None
    assert (point.reasoning, point.text) == ("Hm. Well.", "")
    assert reasoning_state(point, REASONING) == "open"
    assert reflection_point(both, REASONING, after=len("Hm. Well.")) is None

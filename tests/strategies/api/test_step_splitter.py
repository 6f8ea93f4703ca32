"""Steps do not depend on how a text is divided into deltas."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.step_splitter import StepSplitter, split_steps


def test_steps_are_paragraphs() -> None:
    assert split_steps("One.\nStill one.\n\n\n  Two.\n \nThree.\n\n") == [
        "One.\nStill one.",
        "Two.",
        "Three.",
    ]
    assert split_steps("  \n\n ") == []


def test_a_code_fence_is_never_split() -> None:
    text = "Look:\n\n```python\na = 1\n\nb = 2\n```\n\nDone."
    assert split_steps(text) == ["Look:", "```python\na = 1\n\nb = 2\n```", "Done."]


def steps_by_definition(text: str) -> list[str]:
    """Split at every blank line with an even number of fences before it."""
    steps, begin = [], 0
    for boundary in re.finditer(r"\n[ \t]*\n\s*", text):
        if text.count("```", 0, boundary.start()) % 2 == 0:
            steps.append(text[begin : boundary.start()].strip())
            begin = boundary.end()
    steps.append(text[begin:].strip())
    return [step for step in steps if step]


CHUNKS = st.lists(
    st.sampled_from(["a", " b.", "\n", "\n\n", " \n", "```", "`", "\n \n\n", "\f\n", "c"]),
    max_size=30,
)


@given(CHUNKS)
def test_steps_do_not_depend_on_the_chunks_of_the_text(chunks: list[str]) -> None:
    text = "".join(chunks)
    assert split_steps(text) == steps_by_definition(text)
    for parts in (chunks, list(text), [text]):
        splitter = StepSplitter()
        steps = [step for part in parts for step in splitter.feed(part)]
        assert steps + splitter.close() == split_steps(text)


@given(CHUNKS)
def test_a_step_is_returned_as_soon_as_the_next_one_starts(chunks: list[str]) -> None:
    splitter, steps, text = StepSplitter(), [], ""
    for chunk in chunks:
        text += chunk
        steps += splitter.feed(chunk)
        assert steps == steps_by_definition(text)[:-1]


def test_a_long_text_takes_linear_time() -> None:
    started = time.process_time()
    splitter, found = StepSplitter(), 0
    for number in range(20_000):
        found += len(splitter.feed("\n\nso " if number % 8 == 0 else "word "))
    assert found == 2499
    assert time.process_time() - started < 2

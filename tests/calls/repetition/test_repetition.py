"""Loops are found within a bounded number of copies; structured text never counts as a loop."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from random import Random

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from secondpass.service.calls.repetition import (
    INTERVAL,
    MAX_PATTERN,
    MIN_BYTES,
    MIN_COUNT,
    RepetitionDetector,
    ends_with_loop,
)
from tests.calls.repetition.structured_text import WRITERS, Writer


def stop_of(text: str, sizes: Iterable[int]) -> int | None:
    """Return the characters after which a detector that is fed chunks of these sizes finds a loop."""
    detector, at = RepetitionDetector(), 0
    for size in sizes:
        if at >= len(text):
            break
        if (end := detector.add(text[at : at + size])) is not None:
            return at + end
        at += size
    return None


def required(period: int) -> int:
    """Return the bytes of copies that make a loop."""
    return max(MIN_BYTES, MIN_COUNT * period)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_ten_thousand_lines_of_structured_text_contain_no_loop(write: Writer) -> None:
    random, lines, written = Random(f"lines of {write.__name__}"), 0, list[str]()
    while lines < 10_000:
        written.extend(write(random, random.randint(20, 400)))
        lines = len(written) if write.__name__ != "brackets" else 25 * len(written)
    text = "\n".join(written)
    assert stop_of(text, iter(lambda: random.randint(1, 40), 0)) is None


@given(
    seed=st.integers(0, 2**32),
    writers=st.lists(st.sampled_from(WRITERS), min_size=1, max_size=6),
    size=st.integers(1, 64),
)
@settings(max_examples=60)
def test_mixed_structured_text_never_contains_a_loop(
    seed: int, writers: list[Writer], size: int
) -> None:
    random = Random(seed)
    lines = [line for write in writers for line in islice(write(random, 300), 300)]
    assert stop_of("\n".join(lines), iter(lambda: size, 0)) is None


@given(
    pattern=st.text(min_size=1, max_size=40) | st.binary(min_size=1, max_size=500).map(str),
    start=st.text(max_size=300),
    size=st.integers(1, 700),
)
@example(pattern="a", start="", size=1)
@example(pattern="\ud800", start="", size=3)
@example(pattern="ab" * 500 + "c", start="ab" * 300, size=7)
@example(pattern="x" * (MAX_PATTERN - 1) + "y", start="", size=512)
@settings(max_examples=80)
def test_copies_of_any_pattern_are_a_loop_at_the_next_search(
    pattern: str, start: str, size: int
) -> None:
    period = len(pattern.encode(errors="surrogatepass"))
    assume(period <= MAX_PATTERN)
    copies = -(-required(period) // period)
    text = start + pattern * (copies + 2 * (INTERVAL + size) // len(pattern) + 1)
    found = stop_of(text, iter(lambda: size, 0))
    assert found is not None
    assert found <= len(start) + copies * len(pattern) + INTERVAL
    assert found % INTERVAL == 0


@given(
    pattern=st.text(min_size=1, max_size=300),
    start=st.text(max_size=2000),
    copies=st.integers(1, 9000),
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=40),
)
@settings(max_examples=80)
def test_the_end_of_a_loop_does_not_depend_on_the_parts_of_the_text(
    pattern: str, start: str, copies: int, sizes: list[int]
) -> None:
    text = start + pattern * min(copies, 9000 // len(pattern))
    by_character = stop_of(text, iter(lambda: 1, 0))
    assert stop_of(text, [*sizes, len(text)]) == by_character


@given(
    pattern=st.binary(min_size=1, max_size=MAX_PATTERN),
    count=st.integers(1, 5000),
    start=st.binary(max_size=MIN_BYTES),
)
@example(pattern=b"ab", count=MIN_BYTES // 2 - 1, start=b"\x00" * MIN_BYTES)
@settings(max_examples=200)
def test_search_agrees_with_the_definition(pattern: bytes, count: int, start: bytes) -> None:
    data = (start + pattern * min(count, 12_000 // len(pattern)))[-8192:]
    expected = any(
        len(data) >= (size := required(period))
        and data[-size:-period] == data[len(data) - size + period :]
        for period in range(1, MAX_PATTERN + 1)
    )
    assert ends_with_loop(data) == expected


def test_a_loop_needs_four_copies_and_4096_bytes() -> None:
    assert ends_with_loop(b"ab" * 2048)
    assert not ends_with_loop(b"x" + b"ab" * 2047 + b"a")
    paragraph = bytes(range(256)) * 8
    paragraph = paragraph[:-1] + b"."
    assert ends_with_loop(paragraph * 4)
    assert not ends_with_loop(b"-" + (paragraph * 4)[1:])

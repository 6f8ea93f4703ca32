"""Counts of streamed replies: running, repeated and final ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.engines.openai.reply_counts import CountProbe, read_counts
from secondpass.service.engines.openai.usage import UsageMeter, count_of, usage_of
from secondpass.strategies.api.values import ReportedUsage


@given(
    st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.integers()) | st.integers()
)
def test_only_a_whole_number_is_a_count(value: Any) -> None:
    count = count_of(value)
    if type(value) is int and 0 <= value <= 10**9:
        assert count == value
    else:
        assert count is None


@pytest.mark.parametrize(
    ("reply", "usage"),
    [
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 2}}, ReportedUsage(9, 0, 2)),
        ({"x_groq": {"usage": {"prompt_tokens": 9}}}, ReportedUsage(9, 0, None)),
        ({"usage": {"completion_tokens": 2}}, ReportedUsage(None, 0, 2)),
        ({"usage": {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}}, ReportedUsage(9, 4, None)),
        ({"usage": {"prompt_tokens": 9, "cached_tokens": 4}}, ReportedUsage(9, 4, None)),
        ({"usage": {"prompt_tokens": 3, "cached_tokens": 4}}, ReportedUsage(3, 0, None)),
        ({"usage": {"prompt_tokens": None, "completion_tokens": "2"}}, None),
        ({"usage": {"prompt_tokens": 9.0, "completion_tokens": 2.0}}, None),
        ({"usage": {}}, None),
        ({"usage": None, "x_groq": None}, None),
        ({"usage": [1]}, None),
    ],
)
def test_usage_is_read_at_each_place(reply: dict[str, Any], usage: ReportedUsage | None) -> None:
    assert usage_of(reply) == usage


steps = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=20)
"""Completion and number of tokens of each chunk."""


@given(steps, st.booleans())
def test_the_growth_of_running_counts_adds_up_to_the_tokens(
    chunks: list[tuple[int, int]], per_choice: bool
) -> None:
    meter = UsageMeter(3, per_choice=per_choice)
    totals = [0, 0, 0]
    grown = 0
    for index, tokens in chunks:
        totals[index] += tokens
        meter.add_text(index)
        count = totals[index] if per_choice else sum(totals)
        grown += meter.add_report(index, ReportedUsage(7, 0, count))
    assert grown == sum(totals)
    if chunks:
        assert meter.running == ReportedUsage(7, 0, sum(totals))
    is_complete = all(totals) if per_choice else bool(chunks)
    final = meter.final
    assert (final.completion if final else None) == (sum(totals) if is_complete else None)


@given(steps, st.integers(0, 3), st.booleans())
def test_a_count_that_stays_below_the_chunks_with_text_is_not_final(
    chunks: list[tuple[int, int]], constant: int, per_choice: bool
) -> None:
    meter = UsageMeter(3, per_choice=per_choice)
    for index, _ in chunks:
        meter.add_text(index)
        meter.add_report(index, ReportedUsage(7, 0, constant))
    final = meter.final
    if final is not None and final.completion is not None:
        assert final.completion >= len(chunks)
    if chunks:
        assert meter.whole(ReportedUsage(7, 0, 0)) == ReportedUsage(7, 0, None)


@given(steps)
def test_text_after_the_last_count_leaves_the_completion_unreported(
    chunks: list[tuple[int, int]],
) -> None:
    meter = UsageMeter(1, per_choice=False)
    for count, _ in enumerate(chunks, 1):
        meter.add_text(0)
        meter.add_report(0, ReportedUsage(7, 0, count))
    meter.add_text(0)
    final = meter.final
    assert final is None or final.completion is None


def _chunk(index: Any, text: str, count: int | None, reason: str | None = None) -> dict[str, Any]:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
    return {"choices": [choice], "usage": {"completion_tokens": count}}


@pytest.mark.parametrize(
    ("chunks", "counts"),
    [
        ([], CountProbe()),
        ([_chunk(0, "a", 1), _chunk(0, "b", 2)], CountProbe(is_running=True)),
        ([_chunk(0, "a", 1), _chunk(0, "b", 2, "stop")], CountProbe()),
        ([_chunk(0, "a", 0), _chunk(0, "b", 0)], CountProbe()),
        ([_chunk(0, "a", 1), _chunk(0, "b", 1)], CountProbe()),
        ([_chunk(None, "a", None), _chunk(None, "b", None)], CountProbe()),
        ([_chunk(0, "a", None, "stop"), _chunk(1, "b", None, "stop")], CountProbe(has_n=True)),
        ([_chunk(0, "a", None, "stop"), _chunk(1, "", None, "stop")], CountProbe()),
        (
            [_chunk(0, "a", 4, "stop"), _chunk(1, "b", 4, "stop")],
            CountProbe(has_n=True, per_choice=True),
        ),
        ([_chunk(0, "a", 4, "stop"), _chunk(1, "b", 8, "stop")], CountProbe(has_n=True)),
        ([_chunk(0, "a", 8, "stop"), _chunk(1, "b", 8, "stop")], CountProbe(has_n=True)),
        ([_chunk(0, "a", 9, "stop"), _chunk(1, "b", 9, "stop")], CountProbe()),
        ([_chunk(0, "a", None, "stop"), _chunk(1, "b", 8, "stop")], CountProbe(has_n=True)),
        # A count of one of two completions:
        ([_chunk(0, "a", None, "stop"), _chunk(1, "b", 1, "stop")], CountProbe()),
        # Two tokens each, or two in all:
        ([_chunk(0, "a", 1, "stop"), _chunk(1, "b", 2, "stop")], CountProbe()),
    ],
)
def test_a_probe_shows_n_and_what_a_count_covers(
    chunks: list[dict[str, Any]], counts: CountProbe
) -> None:
    assert read_counts(chunks) == counts

"""Counts that an engine does not report are estimated one by one."""

from dataclasses import replace
from typing import Any

import pytest

from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import ReportedUsage, Usage
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, CallHarness, PlannedEngine

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("reports", "usage", "is_estimated"),
    [
        ([ReportedUsage(completion=3)], Usage(58, 0, 3), True),
        ([ReportedUsage(prompt=7, cached=2)], Usage(7, 2, 1), True),
        ([ReportedUsage(), ReportedUsage()], Usage(58, 0, 1), True),
        ([ReportedUsage(prompt=7, cached=2), ReportedUsage(completion=3)], Usage(7, 2, 3), False),
        ([ReportedUsage(7, 0, 9), ReportedUsage(completion=3)], Usage(7, 0, 3), False),
    ],
    ids=["no prompt", "no completion", "neither", "in two parts", "corrected"],
)
@ON_BOTH_BACKENDS
async def test_each_count_that_the_engine_does_not_report_is_estimated(
    reports: list[ReportedUsage], usage: Usage, is_estimated: bool
) -> None:
    def plan(_call: Call, _number: int) -> Any:
        yield Delta(text="yes", finish_reason="stop")
        yield from [Delta(usage=report) for report in reports]

    engine = PlannedEngine(plan=plan, lacking=frozenset({"token_counts"}))
    harness = CallHarness(engine, {"max_tokens": 100})
    await harness.perform()
    (record,) = harness.records
    assert (record.usage, record.is_estimated) == (usage, is_estimated)
    assert record.withheld == (0 if reports[-1].completion else 19)
    harness.assert_consistent()


@pytest.mark.parametrize(
    ("counted", "final", "tokens", "is_estimated"),
    [
        (6, None, 6, False),
        (2, None, 6, True),
        (2, ReportedUsage(7, 0, 8), 8, False),
        (2, ReportedUsage(7, 0, None), 6, True),
        (0, None, 6, True),
    ],
    ids=["all", "some", "some, then a final count", "some, then no final count", "none"],
)
@ON_BOTH_BACKENDS
async def test_text_after_the_last_running_count_is_estimated_and_the_rest_withheld(
    counted: int, final: ReportedUsage | None, tokens: int, is_estimated: bool
) -> None:
    def plan(_call: Call, _number: int) -> Any:
        for position in range(6):
            yield Delta(text="word ", tokens=int(position < counted))
        yield Delta(finish_reason="stop")
        if final is not None:
            yield Delta(usage=final)

    harness = CallHarness(PlannedEngine(plan=plan), {"max_tokens": 100})
    await harness.perform()
    (record,) = harness.records
    assert record.usage.completion == tokens
    assert record.withheld == (20 - tokens if is_estimated else 0)
    assert record.wasted == 0
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_running_counts_of_one_completion_do_not_cover_another() -> None:
    def plan(call: Call, _number: int) -> Any:
        for _ in range(5):
            for index in range(call.n):
                yield Delta(index, "word ", tokens=int(index == 0))
        yield from [Delta(index, finish_reason="stop") for index in range(call.n)]

    harness = CallHarness(PlannedEngine(plan=plan), {"max_tokens": 100})
    await harness.perform(replace(CALL, n=2))
    (record,) = harness.records
    assert (record.usage.completion, record.is_estimated) == (10, True)
    harness.assert_consistent()

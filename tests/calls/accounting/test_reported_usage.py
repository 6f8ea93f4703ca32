"""Counts that an engine does not report are estimated one by one."""

from typing import Any

import pytest

from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import ReportedUsage, Usage
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CallHarness, PlannedEngine

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

"""Attempts whose engine exceeds its cap, and attempts whose tokens are unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from secondpass.service.calls.delivered import Delivered
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    EngineUnavailable,
    StreamInterrupted,
)
from secondpass.strategies.api.values import FunctionCall, ReportedUsage, ToolCall, Usage
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, CallHarness, Plan, PlannedEngine, counting

pytestmark = pytest.mark.anyio


def harness_of(plan: Plan, limits: dict[str, Any], *, is_counted: bool = False) -> CallHarness:
    lacking = frozenset() if is_counted else frozenset({"token_counts"})
    return CallHarness(PlannedEngine(plan=plan, lacking=lacking), limits)  # type: ignore[arg-type]


def reporting(*reports: ReportedUsage, text: str = "yes") -> Plan:
    """Return a plan of n finished completions, then the reports."""

    def plan(call: Call, _: int) -> Iterable[Delta]:
        yield from (Delta(index, text, finish_reason="stop") for index in range(call.n))
        yield from (Delta(usage=report) for report in reports)

    return plan


@ON_BOTH_BACKENDS
async def test_an_overrun_hands_the_finished_completion_over_and_ends_the_run() -> None:
    harness = harness_of(reporting(ReportedUsage(10, 0, 90)), {"max_tokens": 50})
    with pytest.raises(BudgetExhausted, match="tokens"):
        await harness.perform()
    assert harness.texts == ["yes"]
    (record,) = harness.records
    assert (record.end, record.usage, record.overrun) == ("finished", Usage(10, 0, 90), 40)
    assert not record.is_estimated
    assert harness.budget.overrun("tokens") == 40
    with pytest.raises(BudgetExhausted):
        await harness.perform()
    assert len(harness.engine.calls) == 1
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_prompt_tokens_beyond_their_limit_are_an_overrun() -> None:
    harness = harness_of(reporting(ReportedUsage(300, 0, 1)), {"max_prompt_tokens": 100})
    with pytest.raises(BudgetExhausted, match="prompt_tokens"):
        await harness.perform()
    assert harness.texts == ["yes"]
    assert harness.records[0].overrun == 200
    assert harness.budget.overrun("prompt_tokens") == 200


@ON_BOTH_BACKENDS
async def test_a_batch_requests_no_more_than_the_limit_has_room_for() -> None:
    harness = harness_of(reporting(ReportedUsage(10, 0, 12)), {"max_tokens": 50}, is_counted=True)
    await harness.perform(replace(CALL, n=4))
    assert [call.sampling.max_tokens for call in harness.engine.calls] == [12]
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_concurrent_calls_together_request_no_more_than_the_limit() -> None:
    harness = harness_of(counting(), {"max_tokens": 50}, is_counted=True)
    harness.stats.lengths.add(("test", "actor", "solve", harness.engine.model), 4)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(harness.perform)
    assert [call.sampling.max_tokens for call in harness.engine.calls] == [20, 20, 10]
    assert len(harness.texts) == 3
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_completion_beyond_its_cap_is_whole_while_the_limit_has_room() -> None:
    def plan(_: Call, __: int) -> Iterable[Delta]:
        for position in range(40):
            yield Delta(text="a ", tokens=1, finish_reason="stop" if position == 39 else None)

    harness = harness_of(plan, {"max_tokens": 50}, is_counted=True)
    await harness.perform()
    assert harness.texts == ["a " * 40]
    assert (harness.records[0].usage.completion, harness.records[0].overrun) == (40, 0)


@ON_BOTH_BACKENDS
@pytest.mark.parametrize(
    ("failure", "withheld"),
    [(StreamInterrupted("broken"), 20), (EngineUnavailable("refused"), 0)],
)
async def test_an_attempt_without_a_token_costs_nothing_and_a_broken_stream_is_withheld(
    failure: Exception, withheld: int
) -> None:
    def plan(_: Call, number: int) -> Iterable[Delta | Exception]:
        yield failure if number == 0 else Delta(text="yes", finish_reason="stop")
        yield Delta(usage=ReportedUsage(10, 0, 1))

    harness = harness_of(plan, {"max_tokens": 100})
    await harness.perform()
    first, second = harness.records
    assert (first.usage, first.withheld) == (Usage(), withheld)
    assert first.is_estimated is bool(withheld)
    assert (second.usage, second.withheld) == (Usage(10, 0, 1), 0)
    assert [record.first_attempt for record in harness.records] == [first.call, first.call]
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_failed_attempt_with_running_counts_is_charged_what_was_counted() -> None:
    harness = harness_of(counting([3]), {"max_tokens": 100}, is_counted=True)
    await harness.perform()
    assert [record.usage.completion for record in harness.records] == [3, 4]
    assert not any(harness.budget.withheld.values())


@ON_BOTH_BACKENDS
async def test_a_stream_without_the_counts_that_its_engine_usually_reports_is_estimated() -> None:
    def plan(_: Call, number: int) -> Iterable[Delta | Exception]:
        yield from [Delta(text=" word")] * 3
        yield StreamInterrupted("broken") if not number else Delta(finish_reason="stop")

    harness = harness_of(plan, {"max_tokens": 100}, is_counted=True)
    await harness.perform()
    assert [record.usage.completion for record in harness.records] == [3, 3]
    assert [record.withheld for record in harness.records] == [17, 17]


@ON_BOTH_BACKENDS
async def test_a_report_of_no_tokens_does_not_hide_delivered_text() -> None:
    harness = harness_of(reporting(ReportedUsage(10, 0, 0)), {"max_tokens": 100})
    await harness.perform()
    (record,) = harness.records
    assert (record.usage.completion, record.withheld, record.is_estimated) == (1, 19, True)


@pytest.mark.parametrize(
    ("texts", "cap", "tokens"),
    [
        (["The", " answer", " is", " 42"], 100, 4),  # one token a delta
        (["The answer is 42, as shown above. " * 4], 100, 34),  # joined tokens: bytes
        (["答案是四十二"], 100, 5),  # 18 bytes
        (["", ""], 100, 0),
        (["a"] * 9, 5, 5),
    ],
)
def test_delivered_tokens_are_estimated_from_deltas_or_bytes(
    texts: list[str], cap: int, tokens: int
) -> None:
    for as_reasoning in (False, True):
        delivered = Delivered(2)
        for text in texts:
            delta = Delta(1, reasoning=text) if as_reasoning else Delta(1, text)
            delivered.add(delta)
        assert delivered.estimate(cap) == tokens
        assert delivered.has_text == bool(tokens)


def test_tool_calls_are_delivered_tokens() -> None:
    delivered = Delivered(1)
    call = ToolCall(id="1", function=FunctionCall(name="find", arguments="{" + "x" * 35))
    delivered.add(Delta(tool_calls=(call,)))
    assert delivered.estimate(100) == 10

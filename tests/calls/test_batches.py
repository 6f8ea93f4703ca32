"""Interrupted batches: finished completions are kept, missing ones are requested again."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import BudgetExhausted, CallRejected, StreamInterrupted
from secondpass.strategies.api.values import ReportedUsage, Sampling
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, CallHarness, PlannedEngine

pytestmark = pytest.mark.anyio
BATCH = replace(CALL, n=5, index=10)
SEEDED = replace(BATCH, sampling=Sampling(max_tokens=20, seed=100))


def drawn(
    call: Call, number: int, *, finished: Iterable[int], is_interrupted: bool
) -> Iterable[Any]:
    """Yield two tokens per completion, with its seed or request as text.

    If interrupted, only the `finished` positions have a finish reason.
    """
    for position in range(call.n):
        seed = call.sampling.seed
        text = f"{number}-{position}" if seed is None else str(seed + position)
        usage = ReportedUsage(prompt=10, completion=2 * position + 2)
        yield Delta(index=position, text=text, tokens=1, token_ids=(1,))
        reason: Any = "stop" if position in finished or not is_interrupted else None
        yield Delta(position, ".", "", 1, (2,), reason, usage)
    if is_interrupted:
        yield StreamInterrupted("interrupted")


def interrupted(**finished: Iterable[int]) -> CallHarness:
    """Interrupt request i with the positions `_i` finished; other requests finish."""

    def plan(call: Call, number: int) -> Iterable[Any]:
        done = finished.get(f"_{number}")
        return drawn(call, number, finished=done or (), is_interrupted=done is not None)

    return CallHarness(PlannedEngine(plan=plan))


def indices(harness: CallHarness) -> list[int]:
    return [completion.index for completion in harness.completions]


@pytest.mark.parametrize("finished", [[], [0], [1, 3], [0, 1, 2, 3]])
@ON_BOTH_BACKENDS
async def test_only_missing_completions_are_requested_again(finished: list[int]) -> None:
    harness = interrupted(_0=finished)
    await harness.perform(BATCH)

    missing = [10 + position for position in range(5) if position not in finished]
    assert Counter(indices(harness)) == Counter(range(10, 15))
    assert indices(harness)[len(finished) :] == missing
    assert [call.n for call in harness.engine.calls] == [5, len(missing)]
    assert harness.engine.calls[1].index == missing[0]
    assert [record.usage.completion for record in harness.records] == [10, 2 * len(missing)]
    assert harness.budget.spent["tokens"] == harness.engine.generated  # type: ignore[attr-defined]
    assert harness.budget.spent["samples"] == 5
    assert harness.wasted == 2 * len(missing)
    assert harness.failures == []
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_batch_interrupted_twice_hands_each_completion_over_once() -> None:
    harness = interrupted(_0=[4, 0], _1=[1])
    await harness.perform(BATCH)
    assert indices(harness) == [10, 14, 12, 11, 13]
    assert [call.n for call in harness.engine.calls] == [5, 3, 2]
    assert harness.texts == ["0-0.", "0-4.", "1-1.", "2-0.", "2-1."]
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_batch_that_fails_keeps_its_finished_completions() -> None:
    harness = interrupted(_0=[2], _1=[], _2=[0])
    with pytest.raises(StreamInterrupted):
        await harness.perform(BATCH)
    assert indices(harness) == [12, 10]
    assert len(harness.failures) == 1
    assert harness.wasted == harness.budget.spent["tokens"] - 4
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_an_interrupted_seeded_batch_returns_the_same_completions() -> None:
    whole, broken = interrupted(), interrupted(_0=[1, 3])
    await whole.perform(SEEDED)
    await broken.perform(SEEDED)

    by_index = {completion.index: completion.text for completion in broken.completions}
    assert by_index == {completion.index: completion.text for completion in whole.completions}
    assert len(broken.completions) == 5
    later = [(call.n, call.index, call.sampling.seed) for call in broken.engine.calls[1:]]
    assert later == [(1, 10, 100), (1, 12, 102), (1, 14, 104)]
    assert [record.attempt for record in broken.records] == [1, 2, 2, 2]
    assert broken.budget.spent["samples"] == 5
    assert broken.budget.spent["tokens"] == broken.engine.generated  # type: ignore[attr-defined]
    broken.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_seeded_batch_without_finished_completions_is_retried_as_one_request() -> None:
    harness = interrupted(_0=[])
    await harness.perform(SEEDED)
    assert [call.n for call in harness.engine.calls] == [5, 5]
    assert len(harness.completions) == 5
    harness.assert_consistent()


@pytest.mark.parametrize("interruptions", [1, 2])
@ON_BOTH_BACKENDS
async def test_each_missing_completion_has_the_remaining_attempts(interruptions: int) -> None:
    seen: Counter[int] = Counter()

    def plan(call: Call, number: int) -> Iterable[Any]:
        seen[call.index] += call.n == 1
        is_interrupted = call.n > 1 or (call.index == 13 and seen[13] <= interruptions)
        return drawn(
            call, number, finished=[0, 1, 2] if call.n > 1 else [], is_interrupted=is_interrupted
        )

    harness = CallHarness(PlannedEngine(plan=plan))
    if interruptions == 1:
        await harness.perform(SEEDED)
    else:
        with pytest.raises(StreamInterrupted):
            await harness.perform(SEEDED)
    attempts = sorted((record.index, record.attempt, record.retried) for record in harness.records)
    assert attempts == [(10, 1, True), (13, 2, True), (13, 3, False), (14, 2, False)]
    assert sorted(indices(harness)) == [10, 11, 12, *([13] if interruptions == 1 else []), 14]
    assert len(harness.failures) == interruptions - 1
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_failed_missing_completion_keeps_the_others() -> None:
    def plan(call: Call, number: int) -> Iterable[Any]:
        if number and call.index == 10:
            return [CallRejected("no")]
        return drawn(call, number, finished=[1], is_interrupted=not number)

    harness = CallHarness(PlannedEngine(plan=plan))
    with pytest.raises(CallRejected) as error:
        await harness.perform(SEEDED)
    assert indices(harness) == [11, 12, 13, 14]
    assert harness.failures == [error.value]
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_an_empty_completion_among_others_is_not_a_failure() -> None:
    def plan(call: Call, number: int) -> Iterable[Any]:
        if number and call.index == 10:
            return [Delta(tokens=1, finish_reason="stop")]
        return drawn(call, number, finished=[1], is_interrupted=not number)

    harness = CallHarness(PlannedEngine(plan=plan))
    await harness.perform(SEEDED)
    assert indices(harness) == [11, 12, 13, 14]
    assert harness.failures == []
    harness.assert_consistent()


@pytest.mark.parametrize("call", [BATCH, SEEDED], ids=["unseeded", "seeded"])
@ON_BOTH_BACKENDS
async def test_a_retry_does_not_charge_finished_samples_again(call: Call) -> None:
    harness = interrupted(_0=[0, 2])
    harness.budget.limit = {"samples": 5}
    await harness.perform(call)
    assert harness.budget.spent["samples"] == 5
    assert len(harness.completions) == 5
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_retry_beyond_the_budget_keeps_finished_completions() -> None:
    harness = interrupted(_0=[0, 2])
    harness.budget.limit = {"calls": 1}
    with pytest.raises(BudgetExhausted) as error:
        await harness.perform(BATCH)
    assert error.value.kind == "calls"
    assert indices(harness) == [10, 12]
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_text_after_the_finish_reason_is_dropped_and_charged() -> None:
    def plan(_call: Call, _number: int) -> Iterable[Any]:
        for _ in range(2):
            yield Delta(index=0, text="yes", tokens=1, finish_reason="stop")
        yield Delta(index=1, text="no", tokens=1, finish_reason="stop")

    harness = CallHarness(PlannedEngine(plan=plan))
    await harness.perform(replace(CALL, n=2))
    assert harness.texts == ["yes", "no"]
    assert harness.budget.spent["tokens"] == 3
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_an_interrupted_batch_without_streamed_counts_is_charged_an_estimate() -> None:
    def plan(call: Call, number: int) -> Iterable[Any]:
        for position in range(call.n):
            is_finished = position == 0 or number
            yield Delta(position, "abcd", finish_reason="stop" if is_finished else None)
        yield (
            Delta(usage=ReportedUsage(prompt=3, completion=4 * call.n))
            if number
            else StreamInterrupted("interrupted")
        )

    harness = CallHarness(
        PlannedEngine(plan=plan, lacking=frozenset({"token_counts"})), {"max_tokens": 500}
    )
    await harness.perform(BATCH)
    first, second = harness.records
    assert (first.usage.completion, first.is_estimated, first.wasted) == (5, True, 4)
    assert (first.withheld, harness.budget.withheld["tokens"]) == (95, 95)
    assert (second.usage.completion, second.is_estimated, second.wasted) == (16, False, 0)
    assert len(harness.completions) == 5
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_cancelling_a_split_batch_closes_all_its_streams() -> None:
    harness = interrupted(_0=[1])
    harness.engine.first_token = 1
    with anyio.CancelScope() as scope:
        await harness.calls.perform(
            SEEDED,
            harness.completions.append,
            on_delta=lambda *_: scope.cancel() if len(harness.engine.calls) > 2 else None,
        )
    assert scope.cancelled_caught
    assert harness.engine.closed == len(harness.engine.calls)  # type: ignore[attr-defined]
    assert len(set(indices(harness))) == len(harness.completions)
    harness.assert_consistent()

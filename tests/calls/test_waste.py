"""Waste accounting: tokens handed over, continued or kept in a candidate are used."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.calls.waste import Waste, split_by_weight
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import BudgetExhausted, StreamInterrupted
from secondpass.strategies.api.values import Completion, ReportedUsage, Segment, Usage
from secondpass.strategies.continuation.segments import truncated
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import (
    CALL,
    WORDS,
    CallHarness,
    PlannedEngine,
    counting,
    lease_request,
)

pytestmark = pytest.mark.anyio
RESUMABLE = replace(CALL, resumable=True, visible=True)


def harness_of(**options: Any) -> CallHarness:
    return CallHarness(PlannedEngine(plan=counting(**options)))


async def cancel(harness: CallHarness, after: int) -> Completion:
    """Cancel a resumable call after `after` deltas; return the partial completion."""

    def record(delta: Delta, partial: PartialCompletion) -> None:
        harness.deltas.append((delta, partial))
        if len(harness.deltas) == after:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await harness.calls.perform(RESUMABLE, harness.completions.append, on_delta=record)
    return harness.deltas[-1][1].completion


@ON_BOTH_BACKENDS
async def test_tokens_of_a_cancelled_call_are_wasted() -> None:
    harness = harness_of()
    await cancel(harness, 3)
    assert harness.wasted == 3 == harness.records[0].wasted


@ON_BOTH_BACKENDS
async def test_kept_tokens_of_a_truncated_completion_are_used() -> None:
    harness = harness_of()
    completion = await cancel(harness, 3)
    for kept in ("one", "one two", "one"):
        part = truncated(completion, len(kept))
        assert part is not None
        harness.calls.waste.keep(part)
    assert harness.wasted == 1


@ON_BOTH_BACKENDS
async def test_tokens_kept_before_their_call_ends_are_not_recorded_as_wasted() -> None:
    harness = harness_of()

    def keep(_: Delta, partial: Any) -> None:
        harness.calls.waste.keep(partial.completion)
        if partial.tokens == 3:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await harness.calls.perform(RESUMABLE, harness.completions.append, on_delta=keep)
    assert harness.records[0].wasted == harness.wasted == 0


@ON_BOTH_BACKENDS
async def test_a_finished_completion_is_used_unless_dropped() -> None:
    harness = harness_of()
    await harness.perform()
    assert harness.wasted == 0
    harness.calls.waste.drop(harness.completions[0])
    assert harness.wasted == 4
    harness.calls.waste.keep(harness.completions[0])
    assert harness.wasted == 0


@ON_BOTH_BACKENDS
async def test_kept_tokens_of_a_dropped_completion_are_used() -> None:
    harness = harness_of()
    await harness.perform(RESUMABLE)
    harness.calls.waste.drop(harness.completions[0])
    part = truncated(harness.completions[0], len("one two"))
    assert part is not None
    harness.calls.waste.keep(part)
    assert harness.wasted == 2


@ON_BOTH_BACKENDS
async def test_a_completion_of_two_attempts_is_used_or_dropped_as_one() -> None:
    harness = harness_of(failing_after=[2])
    await harness.perform(RESUMABLE)
    assert len(harness.records) == 2
    assert harness.wasted == 0
    harness.calls.waste.drop(harness.completions[0])
    assert harness.wasted == 4
    part = truncated(harness.completions[0], len("one two three"))
    assert part is not None
    harness.calls.waste.keep(part)
    assert harness.wasted == 1


@ON_BOTH_BACKENDS
async def test_kept_text_without_token_ids_is_counted_by_characters() -> None:
    harness = harness_of(change=lambda delta: replace(delta, token_ids=()))
    await harness.perform(RESUMABLE)
    harness.calls.waste.drop(harness.completions[0])
    (part,) = [replace(harness.completions[0], segments=harness.completions[0].segments[:2])]
    harness.calls.waste.keep(part)
    assert len("one two") / len("".join(WORDS)) * 4 == pytest.approx(1.56, abs=0.01)
    assert harness.wasted == 2


@ON_BOTH_BACKENDS
async def test_tokens_counted_at_the_end_are_split_by_characters() -> None:
    def plan(_: Call, __: int) -> Any:
        yield Delta(0, "a" * 30, finish_reason="stop")
        yield Delta(1, " " * 10, finish_reason="stop")
        yield Delta(usage=ReportedUsage(prompt=1, completion=8))

    harness = CallHarness(PlannedEngine(plan=plan, lacking=frozenset({"token_counts"})))
    await harness.perform(replace(CALL, n=2))
    assert harness.records[0].wasted == harness.wasted == 2  # the second one is empty


@ON_BOTH_BACKENDS
async def test_a_delta_beyond_the_budget_is_charged_and_ends_the_call() -> None:
    harness = CallHarness(
        PlannedEngine(plan=counting()), {"max_tokens": 2}, is_usable=lambda _: True
    )

    def plan(_: Call, __: int) -> Any:
        yield Delta(text="one two", tokens=2)
        yield Delta(text=" three", tokens=1)
        yield Delta(text=" four", tokens=1)

    harness.engine.plan = plan  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="spent"):
        await harness.perform()
    assert harness.texts == ["one two three"]
    (record,) = harness.records
    assert (record.end, record.usage.completion, record.overrun) == ("truncated", 3, 1)
    assert record.wasted == harness.wasted == 0


@ON_BOTH_BACKENDS
@pytest.mark.parametrize(("released", "overrun"), [(0, 3), (4, 3)])
async def test_waste_never_exceeds_the_spent_tokens(released: int, overrun: int) -> None:
    """The engine reports tokens beyond the budget; a sibling releases `released` tokens too late."""
    harness = CallHarness(PlannedEngine(), {"max_tokens": 4 + released})
    harness.stats.lengths.add(("test", "actor", "solve", harness.engine.model), 2)
    sibling = (
        await harness.budget.lease(lease_request(released, cap=released)) if released else None
    )

    def plan(*_: Any) -> Any:
        try:
            yield Delta(text="one", tokens=2, usage=ReportedUsage(prompt=10, completion=2))
            yield Delta(text=" two", tokens=5, usage=ReportedUsage(prompt=10, completion=7))
        finally:
            if sibling is not None:
                sibling.settle(Usage())

    harness.engine.plan = plan  # type: ignore[attr-defined]
    with pytest.raises(BudgetExhausted):
        await harness.perform()
    assert harness.records[0].overrun == overrun
    assert harness.budget.spent["tokens"] == 7
    assert harness.wasted == 7 == harness.records[0].wasted


def test_inserted_text_has_no_source() -> None:
    waste = Waste()
    source = waste.open("actor")
    waste.deliver(source, 2, 6)
    waste.keep(Completion(messages=(), segments=(Segment("long inserted text"),)))
    assert waste.wasted() == {"actor": 2}
    waste.keep(Completion(messages=(), segments=(Segment("abc", (1,), source=source),)))
    assert waste.wasted() == {"actor": 1}


def test_waste_is_counted_by_role() -> None:
    waste = Waste()
    for role in ("actor", "judge"):
        waste.deliver(waste.open(role), 3)
    waste.use([1])
    assert waste.wasted() == {"actor": 3, "judge": 0}


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [(7, [1, 1, 1], [2, 2, 3]), (5, [0, 0], [5, 0]), (5, [0, 2], [0, 5]), (0, [3], [0])],
)
def test_split_parts_sum_to_the_total(total: int, weights: list[int], expected: list[int]) -> None:
    assert split_by_weight(total, weights) == expected


def test_parts_of_two_sources_are_kept_separately() -> None:
    waste = Waste()
    first, second = waste.open("actor"), waste.open("actor")
    waste.deliver(first, 4, 4)
    waste.deliver(second, 5, 5)
    kept = (
        Segment("a", (1,), source=first),
        Segment("b", (2,), source=first),
        Segment("Wait."),
        Segment("c", (3,), source=second),
    )
    waste.keep(Completion(messages=(), segments=kept))
    assert (waste.of([first]), waste.of([second])) == (2, 4)
    assert waste.wasted() == {"actor": 6}


def test_tokens_without_text_are_used_with_the_whole_text() -> None:
    waste = Waste()
    source = waste.open("actor")
    waste.deliver(source, 3, 2)  # the third token is an end token
    kept = (Segment("a", (1,), source=source), Segment("b", (2,), source=source))
    waste.keep(Completion(messages=(), segments=kept[:1]))
    assert waste.of([source]) == 2
    waste.keep(Completion(messages=(), segments=kept))
    assert waste.of([source]) == 0


@ON_BOTH_BACKENDS
@pytest.mark.parametrize("is_finished", [True, False])
async def test_uncounted_tokens_of_an_unfinished_stream_are_wasted(
    is_finished: bool,
) -> None:
    def plan(*_: Any) -> Any:
        yield Delta(text="one two", tokens=2, usage=ReportedUsage(prompt=10, completion=2))
        yield Delta(finish_reason="stop" if is_finished else None)
        yield Delta(usage=ReportedUsage(prompt=10, completion=5))

    harness = CallHarness(PlannedEngine(plan=plan), attempts=1)
    if is_finished:
        await harness.perform()
    else:
        with pytest.raises(StreamInterrupted):
            await harness.perform()
    assert harness.budget.spent["tokens"] == 5
    assert harness.wasted == (0 if is_finished else 5)
    harness.calls.waste.keep(harness.deltas[0][1].completion)
    assert harness.wasted == (0 if is_finished else 3)

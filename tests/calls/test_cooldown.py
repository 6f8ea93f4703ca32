"""Waiting period of an overloaded engine: shared by all calls, followed by one trial."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.calls.cooldown import Cooldown
from secondpass.service.calls.retry import RetryPolicy
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import EngineUnavailable, SecondpassError
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, CallHarness, PlannedEngine

pytestmark = pytest.mark.anyio

POLICY = RetryPolicy()
ANSWER = Delta(text="42", tokens=1, finish_reason="stop")


def busy(retry_after: float | None = None) -> EngineUnavailable:
    return EngineUnavailable("status 429: busy", retry_after=retry_after, is_overloaded=True)


def overloaded_for(requests: int, retry_after: float | None = None) -> CallHarness:
    """Return a harness whose engine is overloaded for its first `requests` requests."""

    def plan(_: Call, number: int) -> Iterable[Delta | Exception]:
        yield busy(retry_after) if number < requests else ANSWER

    return CallHarness(PlannedEngine(plan=plan))


async def perform(harness: CallHarness, n: int) -> list[SecondpassError]:
    """Make `n` calls at once and return the errors of those that fail."""
    failures: list[SecondpassError] = []

    async def one(index: int) -> None:
        try:
            await harness.perform(replace(CALL, index=index))
        except SecondpassError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        for index in range(n):
            group.start_soon(one, index)
    return failures


@pytest.mark.parametrize("retry_after", [None, 0.3, 0.0])
@pytest.mark.parametrize("n", [1, 8])
@ON_BOTH_BACKENDS
async def test_an_engine_that_is_always_overloaded_receives_one_trial_per_further_attempt(
    n: int, retry_after: float | None
) -> None:
    harness = overloaded_for(1000, retry_after)
    failures = await perform(harness, n)
    assert len(failures) == n
    assert all(isinstance(each, EngineUnavailable) and each.is_overloaded for each in failures)
    most = n + 2 if retry_after != 0 else 3 * n
    assert n + 2 <= len(harness.engine.calls) <= most
    assert sum(record.attempts for record in harness.records) == len(harness.engine.calls)
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_no_call_starts_before_retry_after_has_passed() -> None:
    starts: list[float] = []

    def plan(_: Call, number: int) -> Iterable[Delta | Exception]:
        starts.append(anyio.current_time())
        yield ANSWER if number else busy(0.3)

    harness = CallHarness(PlannedEngine(plan=plan))
    async with anyio.create_task_group() as group:
        group.start_soon(perform, harness, 1)
        await anyio.sleep(0.05)
        assert await perform(harness, 4) == []
    assert len(starts) == 6
    assert min(starts[1:]) - starts[0] >= 0.3
    assert max(starts) - starts[0] < 2


@ON_BOTH_BACKENDS
async def test_calls_start_once_the_trial_is_accepted_or_has_run_for_a_second() -> None:
    cooldown = Cooldown()
    with pytest.raises(EngineUnavailable):
        async with cooldown.passed(POLICY):
            raise busy(0.05)
    order: list[str] = []

    async def call(name: str, seconds: float) -> None:
        async with cooldown.passed(POLICY):
            order.append(name)
            await anyio.sleep(seconds)

    with anyio.fail_after(3):
        async with anyio.create_task_group() as group:
            group.start_soon(call, "trial", 2)
            await anyio.sleep(0.1)
            assert order == ["trial"]
            group.start_soon(call, "next", 0)
            await anyio.sleep(0.1)
            assert order == ["trial"]
    assert order == ["trial", "next"]


@ON_BOTH_BACKENDS
async def test_a_cancelled_trial_is_replaced() -> None:
    cooldown = Cooldown()
    with pytest.raises(EngineUnavailable):
        async with cooldown.passed(POLICY):
            raise busy(0.0)
    with anyio.move_on_after(0.01):
        async with cooldown.passed(POLICY):
            await anyio.sleep(5)
    with anyio.fail_after(1):
        async with cooldown.passed(POLICY) as waited:
            assert waited < 1


@pytest.mark.parametrize(("max_wait", "deadline"), [(1.0, 60.0), (60.0, 0.5)])
@ON_BOTH_BACKENDS
async def test_a_call_that_cannot_wait_long_enough_fails_at_once(
    max_wait: float, deadline: float
) -> None:
    cooldown = Cooldown()
    with pytest.raises(EngineUnavailable):
        async with cooldown.passed(POLICY):
            raise busy(20)
    start = anyio.current_time()
    with anyio.fail_after(deadline), pytest.raises(EngineUnavailable) as refused:
        async with cooldown.passed(RetryPolicy(max_backoff=max_wait)):
            pytest.fail("the call started")
    assert anyio.current_time() - start < 0.2
    assert refused.value.is_overloaded
    assert refused.value.retry_after == pytest.approx(20, abs=0.2)


@ON_BOTH_BACKENDS
async def test_a_call_queued_for_a_slot_waits_when_the_engine_becomes_overloaded() -> None:
    starts: list[float] = []

    def plan(_: Call, number: int) -> Iterable[Delta | Exception]:
        starts.append(anyio.current_time())
        yield busy(0.3) if not number else ANSWER

    harness = CallHarness(PlannedEngine(plan=plan), slots=1)
    assert await perform(harness, 3) == []
    assert len(starts) == 4
    assert min(starts[1:]) - starts[0] >= 0.3
    assert harness.upstream.admission.in_flight == 0
    harness.assert_consistent()


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["ok", "busy", "broken"]), max_size=12),
    st.integers(1, 6),
)
def test_a_period_always_ends_and_leaves_no_slot_or_lease(replies: list[str], n: int) -> None:
    results: dict[str, Any] = {
        "ok": lambda: ANSWER,
        "busy": lambda: busy(0.001),
        "broken": lambda: EngineUnavailable("reset"),
    }

    def plan(_: Call, number: int) -> Iterable[Delta | Exception]:
        yield results[replies[number] if number < len(replies) else "ok"]()

    async def run() -> None:
        harness = CallHarness(PlannedEngine(plan=plan), slots=2)
        with anyio.fail_after(5):
            await perform(harness, n)
            await anyio.sleep(0.002)
            async with harness.upstream.slot((0, 0)):
                pass
        assert harness.upstream.admission.in_flight == 0
        harness.assert_consistent()

    anyio.run(run)

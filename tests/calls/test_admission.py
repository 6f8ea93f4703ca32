from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import get_args

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.calls.admission import FORWARDED_RANK, HIGHEST_RANK, Admission, rank_of
from secondpass.service.engines.scripted.engine import Fault, Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import SecondpassError
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, CallHarness

pytestmark = pytest.mark.anyio
FAULTS: dict[str, Fault] = {fault: fault for fault in get_args(Fault)}


def call(index: int = 0, *, purpose: str = "solve") -> Call:
    return replace(CALL, purpose=purpose, index=index)


def read(index: int = 0, *, purpose: str = "solve") -> Call:
    return replace(call(index, purpose=purpose), role="judge", labels=("A", "B"))


async def make(harness: CallHarness, call: Call) -> None:
    if call.labels:
        await harness.calls.read(call)
    else:
        await harness.perform(call)


@dataclass
class Gated(ScriptedEngine):
    """Generates nothing until its gate is opened."""

    gate: anyio.Event = field(default_factory=anyio.Event, init=False)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        self.calls.append(call)
        await self.gate.wait()
        yield Delta(text="yes", labels={"A": 1.0}, finish_reason="stop")


@ON_BOTH_BACKENDS
async def test_calls_are_admitted_by_label_reads_then_index_then_arrival() -> None:
    engine = Gated()
    harness = CallHarness(engine, slots=1)
    admission = harness.upstream.admission
    queued = [
        call(5, purpose="fifth"),
        call(2, purpose="second"),
        call(2, purpose="third"),
        read(9, purpose="read"),
        call(0, purpose="first"),
    ]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make, harness, call(purpose="running"))
        await anyio.wait_all_tasks_blocked()
        for later in queued:
            tasks.start_soon(make, harness, later)
            await anyio.wait_all_tasks_blocked()
        assert (admission.in_flight, admission.waiting) == (1, 5)
        engine.gate.set()

    served = [call.purpose for call in engine.calls]
    assert served == ["running", "read", "first", "second", "third", "fifth"]
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_usage_record_contains_the_seconds_queued() -> None:
    harness = CallHarness(ScriptedEngine(first_token=0.3), slots=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.perform)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(harness.perform)

    first, second = harness.records
    assert first.queued == 0.0
    assert 0.1 < second.queued < 5
    assert 0.1 < second.seconds < 5


@ON_BOTH_BACKENDS
async def test_a_call_cancelled_in_the_queue_counts_neither_as_call_nor_sample() -> None:
    engine = Gated()
    harness = CallHarness(engine, {"max_calls": 2, "max_samples": 2, "max_tokens": 50}, slots=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.perform)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.1):
            await harness.perform(call(1))
        (record,) = harness.records
        assert (record.end, record.attempts, record.usage.completion) == ("cancelled", 0, 0)
        assert 0.05 < record.queued < 5
        assert record.seconds == 0
        assert (harness.budget.spent["calls"], harness.budget.spent["samples"]) == (1, 1)
        engine.gate.set()
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_forwarded_request_is_queued_like_a_first_draft() -> None:
    admission = Admission(1)
    served: list[str] = []

    async def wait(name: str, rank: tuple[int, int] | None) -> None:
        async with admission.slot() if rank is None else admission.slot(rank) as waited:
            assert admission.in_flight == 1
            assert waited >= 0
            served.append(name)

    async with anyio.create_task_group() as tasks, admission.slot() as waited:
        assert waited == 0.0
        for name, rank in [("later", (1, 1)), ("forwarded", None), ("read", (0, 3))]:
            tasks.start_soon(wait, name, rank)
            await anyio.wait_all_tasks_blocked()
    assert served == ["read", "forwarded", "later"]
    assert (admission.in_flight, admission.waiting) == (0, 0)


@ON_BOTH_BACKENDS
async def test_a_waiter_cancelled_while_being_admitted_passes_its_slot_on() -> None:
    admission = Admission(1)
    scope = anyio.CancelScope()
    served: list[str] = []

    async def first() -> None:
        with scope:
            async with admission.slot():
                served.append("first")

    async def second() -> None:
        async with admission.slot():
            served.append("second")

    async with anyio.create_task_group() as tasks, admission.slot():
        tasks.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()  # not delivered yet when the slot is released
    assert served == ["second"]
    assert (admission.in_flight, admission.waiting) == (0, 0)


@ON_BOTH_BACKENDS
async def test_no_call_waits_without_a_limit() -> None:
    admission = Admission()
    async with admission.slot(), admission.slot(), admission.slot() as waited:
        assert (admission.in_flight, admission.waiting, waited) == (3, 0, 0.0)
    assert admission.in_flight == 0


def test_a_limit_below_one_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Admission(0)


class Watched(ScriptedEngine):
    """Records its maximum number of concurrent calls."""

    max_running = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        self.max_running = max(self.max_running, len(self.running) + 1)
        async with aclosing(super().stream(call)) as deltas:
            async for delta in deltas:
                yield delta


@dataclass(frozen=True)
class Lane:
    """One call of a plan: its start, fault and cancellation (times in ms)."""

    start: int
    index: int
    is_read: bool
    fault: Fault | None
    timeout: int | None
    cancelled_after: int | None


lanes = st.builds(
    Lane,
    start=st.integers(0, 5),
    index=st.integers(0, 3),
    is_read=st.booleans(),
    fault=st.sampled_from([None, None, "refuse", "unavailable", "interrupt"]),
    timeout=st.one_of(st.none(), st.integers(0, 6)),
    cancelled_after=st.one_of(st.none(), st.integers(1, 3)),
)


async def consume(harness: CallHarness, lane: Lane) -> None:
    await anyio.sleep(lane.start / 1000)
    kind = read if lane.is_read else call
    planned = kind(lane.index, purpose=lane.fault or "none")
    seen: list[Delta] = []
    with anyio.move_on_after(None if lane.timeout is None else lane.timeout / 1000) as scope:

        def record(delta: Delta, _: object) -> None:
            seen.append(delta)
            if len(seen) == lane.cancelled_after:
                scope.cancel()

        with suppress(SecondpassError):
            await harness.calls.perform(planned, harness.completions.append, on_delta=record)


@given(limit=st.integers(1, 4), plan=st.lists(lanes, max_size=12))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_slots_are_never_exceeded_and_never_lost(
    backend: str, limit: int, plan: list[Lane]
) -> None:
    def script(call: Call, _: int) -> Reply:
        return Reply("one two three four", fault=FAULTS.get(call.purpose))

    async def check() -> None:
        engine = Watched(script, per_token=0.0005)
        harness = CallHarness(engine, slots=limit, attempts=2)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for lane in plan:
                    tasks.start_soon(consume, harness, lane)

        assert engine.max_running <= limit
        assert engine.running == {}
        harness.assert_consistent()

    anyio.run(check, backend=backend)


def test_a_prompt_count_is_queued_like_the_first_label_read() -> None:
    read = replace(CALL, labels=("yes", "no"), index=0)
    assert rank_of(read) == HIGHEST_RANK
    assert HIGHEST_RANK < FORWARDED_RANK == rank_of(replace(CALL, index=0))

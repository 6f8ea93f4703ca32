from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import get_args

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.calls.admission import FIRST, PLAIN, Admission, rank_of
from secondpass.service.engines.scripted.engine import Fault, Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import SecondpassError
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, Books

pytestmark = pytest.mark.anyio
FAULTS: dict[str, Fault] = {fault: fault for fault in get_args(Fault)}


def call(index: int = 0, *, purpose: str = "solve") -> Call:
    return replace(CALL, purpose=purpose, index=index)


def read(index: int = 0, *, purpose: str = "solve") -> Call:
    return replace(call(index, purpose=purpose), role="judge", labels=("A", "B"))


async def make(books: Books, of: Call) -> None:
    if of.labels:
        await books.calls.read(of)
    else:
        await books.perform(of)


@dataclass
class Gated(ScriptedEngine):
    """Writes nothing before its gate is opened."""

    gate: anyio.Event = field(default_factory=anyio.Event, init=False)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        self.calls.append(call)
        await self.gate.wait()
        yield Delta(text="yes", labels={"A": 1.0}, finish_reason="stop")


@ON_BOTH_BACKENDS
async def test_label_reads_are_served_first_then_low_indices_then_the_first_to_come() -> None:
    engine = Gated()
    books = Books(engine, places=1)
    admission = books.upstream.admission
    queued = [
        call(5, purpose="fifth"),
        call(2, purpose="second"),
        call(2, purpose="third"),
        read(9, purpose="read"),
        call(0, purpose="first"),
    ]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make, books, call(purpose="running"))
        await anyio.wait_all_tasks_blocked()
        for later in queued:
            tasks.start_soon(make, books, later)
            await anyio.wait_all_tasks_blocked()
        assert (admission.in_flight, admission.waiting) == (1, 5)
        engine.gate.set()

    served = [seen.purpose for seen in engine.calls]
    assert served == ["running", "read", "first", "second", "third", "fifth"]
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_only_a_call_that_had_to_wait_was_queued_and_for_how_long() -> None:
    books = Books(ScriptedEngine(first_token=0.3), places=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(books.perform)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(books.perform)

    first, second = books.bills
    assert first.queued == 0.0
    assert 0.1 < second.queued < 5
    assert 0.1 < second.seconds < 5


@ON_BOTH_BACKENDS
async def test_a_call_that_is_cancelled_in_the_queue_was_no_request() -> None:
    engine = Gated()
    books = Books(engine, {"max_calls": 2, "max_samples": 2, "max_tokens": 50}, places=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(books.perform)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.1):
            await books.perform(call(1))
        (bill,) = books.bills
        assert (bill.end, bill.attempts, bill.usage.completion) == ("cancelled", 0, 0)
        assert 0.05 < bill.queued < 5
        assert bill.seconds == 0
        assert (books.budget.spent["calls"], books.budget.spent["samples"]) == (1, 1)
        engine.gate.set()
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_plain_request_waits_like_a_first_draft_and_holds_its_slot() -> None:
    admission = Admission(1)
    served: list[str] = []

    async def wait(name: str, rank: tuple[int, int] | None) -> None:
        async with admission.slot() if rank is None else admission.slot(rank) as waited:
            assert admission.in_flight == 1
            assert waited >= 0
            served.append(name)

    async with anyio.create_task_group() as tasks, admission.slot() as waited:
        assert waited == 0.0
        for name, rank in [("later", (1, 1)), ("plain", None), ("read", (0, 3))]:
            tasks.start_soon(wait, name, rank)
            await anyio.wait_all_tasks_blocked()
    assert served == ["read", "plain", "later"]
    assert (admission.in_flight, admission.waiting) == (0, 0)


@ON_BOTH_BACKENDS
async def test_a_waiter_that_is_cancelled_as_it_is_admitted_passes_its_slot_on() -> None:
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
        scope.cancel()  # it has not seen that yet when the slot becomes free
    assert served == ["second"]
    assert (admission.in_flight, admission.waiting) == (0, 0)


@ON_BOTH_BACKENDS
async def test_without_a_limit_nothing_waits() -> None:
    admission = Admission()
    async with admission.slot(), admission.slot(), admission.slot() as waited:
        assert (admission.in_flight, admission.waiting, waited) == (3, 0, 0.0)
    assert admission.in_flight == 0


def test_no_engine_without_a_slot() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Admission(0)


class Watched(ScriptedEngine):
    """Remembers the most calls that it ever had at once."""

    most = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        self.most = max(self.most, len(self.running) + 1)
        async with aclosing(super().stream(call)) as deltas:
            async for delta in deltas:
                yield delta


@dataclass(frozen=True)
class Lane:
    """One call of the plan: when it starts, how it fails, and when it is abandoned (times in ms)."""

    start: int
    index: int
    is_read: bool
    fault: Fault | None
    patience: int | None
    leaves_after: int | None


lanes = st.builds(
    Lane,
    start=st.integers(0, 5),
    index=st.integers(0, 3),
    is_read=st.booleans(),
    fault=st.sampled_from([None, None, "refuse", "unavailable", "interrupt"]),
    patience=st.one_of(st.none(), st.integers(0, 6)),
    leaves_after=st.one_of(st.none(), st.integers(1, 3)),
)


async def consume(books: Books, lane: Lane) -> None:
    await anyio.sleep(lane.start / 1000)
    kind = read if lane.is_read else call
    of = kind(lane.index, purpose=lane.fault or "none")
    seen: list[Delta] = []
    with anyio.move_on_after(None if lane.patience is None else lane.patience / 1000) as scope:

        def look(delta: Delta, _: object) -> None:
            seen.append(delta)
            if len(seen) == lane.leaves_after:
                scope.cancel()

        with suppress(SecondpassError):
            await books.calls.perform(of, books.done.append, on_delta=look)


@given(limit=st.integers(1, 4), plan=st.lists(lanes, max_size=12))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_slots_are_never_exceeded_and_never_lost(
    backend: str, limit: int, plan: list[Lane]
) -> None:
    def script(of: Call, _: int) -> Reply:
        return Reply("one two three four", fault=FAULTS.get(of.purpose))

    async def check() -> None:
        engine = Watched(script, per_token=0.0005)
        books = Books(engine, places=limit, attempts=2)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for lane in plan:
                    tasks.start_soon(consume, books, lane)

        assert engine.most <= limit
        assert engine.running == {}
        books.assert_closed()

    anyio.run(check, backend=backend)


def test_a_count_of_a_prompt_waits_like_the_first_read() -> None:
    read = replace(CALL, labels=("yes", "no"), index=0)
    assert rank_of(read) == FIRST
    assert FIRST < PLAIN == rank_of(replace(CALL, index=0))

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import get_args

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.calls.admission import LimitedEngine
from secondpass.service.engines.scripted.engine import Fault, Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta, PlainRequest
from secondpass.strategies.api.errors import EngineError, EngineUnavailable
from secondpass.strategies.api.values import Message
from secondpass.testing.support import ON_BOTH_BACKENDS

pytestmark = pytest.mark.anyio
FAULTS: dict[str, Fault] = {fault: fault for fault in get_args(Fault)}
QUESTION = (Message(role="user", content="What is 6 x 7?"),)


def call(index: int = 0, *, labels: tuple[str, ...] = (), purpose: str = "solve") -> Call:
    return Call(role="actor", purpose=purpose, messages=QUESTION, index=index, labels=labels)


async def run(engine: LimitedEngine, of: Call) -> list[Delta]:
    async with aclosing(engine.stream(of)) as deltas:
        return [delta async for delta in deltas]


@dataclass
class Gated(ScriptedEngine):
    """Writes nothing before its gate is opened."""

    gate: anyio.Event = field(default_factory=anyio.Event, init=False)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        self.calls.append(call)
        await self.gate.wait()
        yield Delta(finish_reason="stop")


@ON_BOTH_BACKENDS
async def test_label_reads_are_served_first_then_low_indices_then_the_first_to_come() -> None:
    inner = Gated()
    engine = LimitedEngine(inner, 1)
    queued = [
        call(5, purpose="fifth"),
        call(2, purpose="second"),
        call(2, purpose="third"),
        call(9, labels=("A", "B"), purpose="read"),
        call(0, purpose="first"),
    ]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, engine, call(purpose="running"))
        await anyio.wait_all_tasks_blocked()
        for later in queued:
            tasks.start_soon(run, engine, later)
            await anyio.wait_all_tasks_blocked()
        assert (engine.in_flight, engine.waiting) == (1, 5)
        inner.gate.set()

    served = [seen.purpose for seen in inner.calls]
    assert served == ["running", "read", "first", "second", "third", "fifth"]
    assert (engine.in_flight, engine.waiting) == (0, 0)


@ON_BOTH_BACKENDS
async def test_only_a_call_that_had_to_wait_is_told_so_and_for_how_long() -> None:
    engine = LimitedEngine(ScriptedEngine(first_token=0.3), 1)
    replies: list[list[Delta]] = []

    async def keep() -> None:
        replies.append(await run(engine, call()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(keep)

    assert all(delta.notice is None for delta in replies[0])
    assert [delta.notice for delta in replies[1][:3]] == ["queued", "admitted", None]
    assert 0.1 < replies[1][1].waited < 5


@ON_BOTH_BACKENDS
async def test_a_call_over_the_longest_queue_is_refused_at_once() -> None:
    engine = LimitedEngine(ScriptedEngine(first_token=0.3), 1, max_waiting=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, engine, call())
        tasks.start_soon(run, engine, call())
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(EngineUnavailable, match="overloaded") as refused:
            await run(engine, call())
        assert refused.value.retry_after == 1.0


@ON_BOTH_BACKENDS
async def test_a_forwarded_request_takes_a_place_until_its_block_is_left() -> None:
    engine = LimitedEngine(ScriptedEngine(), 1)
    body = b'{"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}'
    async with engine.forward(PlainRequest("chat/completions", body)) as reply:
        assert engine.in_flight == 1
        assert [piece async for piece in reply.chunks]
        assert engine.in_flight == 1
    assert engine.in_flight == 0


@ON_BOTH_BACKENDS
async def test_a_stream_that_is_left_early_gives_its_place_back() -> None:
    inner = ScriptedEngine()
    engine = LimitedEngine(inner, 1)
    stream = engine.stream(call())
    await anext(stream)
    assert engine.in_flight == 1
    await stream.aclose()
    assert (engine.in_flight, inner.running) == (0, {})


def test_no_engine_without_a_place() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LimitedEngine(ScriptedEngine(), 0)


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
    """One call of the plan: when it starts, how it fails, and when its consumer leaves (times in ms)."""

    start: int
    index: int
    labels: tuple[str, ...]
    fault: Fault | None
    patience: int | None
    leaves_after: int | None


lanes = st.builds(
    Lane,
    start=st.integers(0, 5),
    index=st.integers(0, 3),
    labels=st.sampled_from([(), ("A", "B")]),
    fault=st.sampled_from([None, None, "refuse", "unavailable", "cut"]),
    patience=st.one_of(st.none(), st.integers(0, 6)),
    leaves_after=st.one_of(st.none(), st.integers(1, 3)),
)


async def consume(engine: LimitedEngine, lane: Lane) -> None:
    await anyio.sleep(lane.start / 1000)
    of = call(lane.index, labels=lane.labels, purpose=lane.fault or "none")
    with anyio.move_on_after(None if lane.patience is None else lane.patience / 1000):
        with suppress(EngineError):
            async with aclosing(engine.stream(of)) as deltas:
                seen = 0
                async for _ in deltas:
                    seen += 1
                    if seen == lane.leaves_after:
                        break


@given(limit=st.integers(1, 4), plan=st.lists(lanes, max_size=12))
@settings(max_examples=40)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_places_are_never_exceeded_and_never_lost(
    backend: str, limit: int, plan: list[Lane]
) -> None:
    def script(of: Call, _: int) -> Reply:
        return Reply("one two three four", fault=FAULTS.get(of.purpose))

    async def check() -> None:
        inner = Watched(script, per_token=0.0005)
        engine = LimitedEngine(inner, limit)
        with anyio.fail_after(3):
            async with anyio.create_task_group() as tasks:
                for lane in plan:
                    tasks.start_soon(consume, engine, lane)

        assert inner.most <= limit
        assert inner.running == {}
        assert (engine.in_flight, engine.waiting) == (0, 0)

    anyio.run(check, backend=backend)

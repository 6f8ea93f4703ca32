"""Run a strategy over a pool: the same runs as ever, without a model, in the time that their computations take."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import anyio

from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.events import Subscriber, Trace
from secondpass.service.common.limits import Limits
from secondpass.service.equivalence.checker import Allowance, Equivalence
from secondpass.service.lab.pools.clock import pause_clock, wait_until_idle
from secondpass.service.lab.pools.format import PoolQuestion
from secondpass.service.lab.pools.pool import Pool, PoolFile
from secondpass.service.lab.pools.recording_engine import RecordingEngine
from secondpass.service.lab.pools.replay_engine import ReplayEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec, Shared
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import CallRejected, CapabilityMissing, SecondpassError
from secondpass.strategies.api.values import Message, Role, Sampling

DEFAULT_MAX_TOKENS = 2048
_ROLES: tuple[Role, ...] = ("actor", "critic", "judge", "reward")


class TimelessEquivalence(Equivalence):
    """Comparisons that take none of a virtual loop's time, since their processes live in another one."""

    async def same(self, a: str, b: str, allowance: Allowance | None = None) -> bool:
        with pause_clock():
            return await super().same(a, b, allowance)


class LoopTrace(Trace):
    """A trace whose times are the event loop's. To be made on it."""

    def __init__(self, *subscribers: Subscriber) -> None:
        super().__init__(*subscribers)
        self._start = anyio.current_time()

    @property
    def elapsed(self) -> float:
        return anyio.current_time() - self._start


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A run over a pool: its outcome, or the error that ended it without an answer. `seconds` are the loop's.

    `lacking` are the draws that the pool does not hold, as `ReplayEngine.lacking` gives them; with any, there is no
    outcome, and `failure` names the first.
    """

    outcome: Outcome | None
    failure: SecondpassError | None
    trace: Trace
    seconds: float
    missing: tuple[Call, ...] = ()


class HaltingEngine(ReplayEngine):
    """A replay that halts where the pool ends, so that nobody goes on from a refusal that no model gave.

    A call that the pool does not hold waits until the rest of the run has come as far as it can (on a `VirtualLoop`),
    and then ends the run by cancelling `scope`. `lacking` are all such calls.
    """

    def __init__(self, pool: Pool, *, shuffle: int | None) -> None:
        super().__init__(pool, shuffle=shuffle)
        self.scope = anyio.CancelScope()
        self.missing: list[Call] = []
        self.refusal: CallRejected | None = None

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """The recorded deltas; never any for a call that is not in the pool."""
        await self._halt_without(call)
        async with aclosing(super().stream(call)) as deltas:
            async for delta in deltas:
                yield delta

    async def count_prompt(self, call: Call) -> int:
        """Prompt tokens as they were recorded."""
        await self._halt_without(call)
        return await super().count_prompt(call)

    async def _halt_without(self, call: Call) -> None:
        try:
            self.find(call)
        except CallRejected as error:
            self.refusal = self.refusal or error
            self.missing += self.missing_calls(call)
            await wait_until_idle()
            self.scope.cancel()
            await anyio.lowlevel.checkpoint()


def with_recording(upstream: Upstream, book: PoolFile) -> Upstream:
    """`upstream` with an engine that files what it finishes in the pool, for the replays that lack it.

    Raises BadLine where it serves another model, and CapabilityMissing where a replay takes it to do more than it can.
    """
    engine = upstream.engine
    recorder = RecordingEngine(engine, book)
    if missing := ReplayEngine(book.pool).capabilities - engine.capabilities:
        raise CapabilityMissing(engine.name, missing)
    return replace(upstream, engine=recorder)


async def replay_run(
    pool: Pool,
    asked: PoolQuestion,
    strategy: str,
    params: Mapping[str, Any],
    equivalence: Equivalence,
    *,
    shuffle: int | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    calibration: Calibration | None = None,
) -> Replayed:
    """Run a strategy on one question of the pool; on a `VirtualLoop` in no time.

    `shuffle` as in ReplayEngine. With a `seed` the run is like one that has it: judges get the prompts of that run
    again, which they were recorded with, and samples are given to the strategy by their index; without one, as they
    are finished. Every call has the pool's own `max_tokens`, or what is left of `limits`. `calibration` is what was
    measured of the pool's model as a judge. Nothing is learned from one run for the next one, so that their order does
    not matter. A call that was not recorded ends the run, even where it would have been cancelled later: see
    `Replayed`. Raises KeyError for a strategy that there is not, ValidationError for its params.
    """
    engine = HaltingEngine(pool, shuffle=shuffle)
    chosen = STRATEGIES[strategy]
    sampling = pool.header.sampling or Sampling()
    spec = RunSpec(
        id=f"{asked.id}#{shuffle}",
        strategy=chosen,
        params=chosen.params.model_validate(params),
        messages=client_messages(pool, asked),
        task=asked.task.as_task(),
        upstreams=dict.fromkeys(_ROLES, Upstream(engine)),
        limits=limits or Limits(),
        sampling=sampling.model_copy(update={"seed": seed}),
        max_tokens_per_call=sampling.max_tokens or DEFAULT_MAX_TOKENS,
        task_is_explicit=pool.header.formatted,
        calibrations={} if calibration is None else dict.fromkeys(_ROLES, calibration),
    )
    trace = LoopTrace()
    run = LiveRun(spec, Shared(equivalence), trace)
    outcome: Outcome | None = None
    failure: SecondpassError | None = None
    with engine.scope:
        try:
            outcome = await execute(run)
        except SecondpassError as error:
            failure = error
    if engine.refusal is not None:
        outcome, failure = None, engine.refusal
    return Replayed(
        outcome=outcome,
        failure=failure,
        trace=trace,
        seconds=trace.elapsed,
        missing=tuple(engine.missing),
    )


def client_messages(pool: Pool, asked: PoolQuestion) -> tuple[Message, ...]:
    """What the client said: the question itself where the answer format was added to it."""
    if pool.header.formatted:
        return (Message(role="user", content=asked.question),)
    return asked.messages

"""Run a strategy over a pool, without a model and in virtual time."""

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
from secondpass.service.runs.run_spec import RunSpec, SharedResources
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.forms.form import NormalForm
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import CallRejected, CapabilityMissing, SecondpassError
from secondpass.strategies.api.values import Message, Role, Sampling

DEFAULT_MAX_TOKENS = 2048
_ROLES: tuple[Role, ...] = ("actor", "critic", "judge", "reward")


class VirtualTimeEquivalence(Equivalence):
    """Equivalence checker whose evaluations, made in other processes, take no virtual time."""

    async def resolved(self, form: NormalForm, allowance: Allowance) -> NormalForm:
        with pause_clock():
            return await super().resolved(form, allowance)


class LoopTrace(Trace):
    """Trace with the times of the event loop it is created on."""

    def __init__(self, *subscribers: Subscriber) -> None:
        super().__init__(*subscribers)
        self._start = anyio.current_time()

    @property
    def elapsed(self) -> float:
        return anyio.current_time() - self._start


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Result of a replayed run: its outcome, or the error that ended it.

    `seconds` is the duration on the loop's clock. `missing` contains the draws that are not in the pool, see
    `ReplayEngine.missing_calls`. If there are any, `outcome` is None and `failure` describes the first.
    """

    outcome: Outcome | None
    failure: SecondpassError | None
    trace: Trace
    seconds: float
    missing: tuple[Call, ...] = ()


class HaltingEngine(ReplayEngine):
    """Replay engine that ends the run at a missing call instead of rejecting the call.

    A rejection would let the strategy continue on a path that no model produced. A missing call waits until the rest of
    the run is idle (on a `VirtualLoop`) and then cancels `scope`. `missing` collects all such calls.
    """

    def __init__(self, pool: Pool, *, shuffle: int | None) -> None:
        super().__init__(pool, shuffle=shuffle)
        self.scope = anyio.CancelScope()
        self.missing: list[Call] = []
        self.rejection: CallRejected | None = None

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Stream the recorded deltas; a missing call ends the run."""
        await self._require(call)
        async with aclosing(super().stream(call)) as deltas:
            async for delta in deltas:
                yield delta

    async def count_prompt(self, call: Call) -> int:
        """Return the recorded number of prompt tokens."""
        await self._require(call)
        return await super().count_prompt(call)

    async def _require(self, call: Call) -> None:
        try:
            self.find(call)
        except CallRejected as error:
            self.rejection = self.rejection or error
            self.missing += self.missing_calls(call)
            await wait_until_idle()
            self.scope.cancel()
            await anyio.lowlevel.checkpoint()


def with_recording(upstream: Upstream, pool_file: PoolFile) -> Upstream:
    """Return `upstream` with an engine that records finished calls in the pool.

    Raises:
        BadLine: The engine serves another model than the pool's.
        CapabilityMissing: The engine lacks a capability of the pool.
    """
    engine = upstream.engine
    recorder = RecordingEngine(engine, pool_file)
    if missing := ReplayEngine(pool_file.pool).capabilities - engine.capabilities - {"n"}:
        raise CapabilityMissing(engine.name, missing)
    return replace(upstream, engine=recorder)


async def replay_run(
    pool: Pool,
    question: PoolQuestion,
    strategy: str,
    params: Mapping[str, Any],
    equivalence: Equivalence,
    *,
    shuffle: int | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    calibration: Calibration | None = None,
) -> Replayed:
    """Run a strategy on one question of the pool; a `VirtualLoop` takes no real time for it.

    With a `seed` the run equals a live run with that seed: judges receive the recorded prompts, and samples are delivered
    by index. Without one they are delivered as they finish. Every call has the pool's `max_tokens`, or what remains of
    `limits`. Runs share no state, so their order does not matter. A missing call ends the run, even if the strategy
    would have cancelled it later; see `Replayed`. `shuffle` permutes the samples as in `ReplayEngine`. `calibration` is
    that of the pool's model as a judge.

    Raises:
        KeyError: The strategy does not exist.
        ValidationError: `params` are invalid.
    """
    engine = HaltingEngine(pool, shuffle=shuffle)
    chosen = STRATEGIES[strategy]
    sampling = pool.header.sampling or Sampling()
    spec = RunSpec(
        id=f"{question.id}#{shuffle}",
        strategy=chosen,
        params=chosen.params.model_validate(params),
        messages=client_messages(pool, question),
        task=question.task.as_task(),
        upstreams=dict.fromkeys(_ROLES, Upstream(engine)),
        limits=limits or Limits(),
        sampling=sampling.model_copy(update={"seed": seed}),
        max_tokens_per_call=sampling.max_tokens or DEFAULT_MAX_TOKENS,
        task_is_explicit=pool.header.formatted,
        calibrations={} if calibration is None else dict.fromkeys(_ROLES, calibration),
    )
    trace = LoopTrace()
    run = LiveRun(spec, SharedResources(equivalence), trace)
    outcome: Outcome | None = None
    failure: SecondpassError | None = None
    with engine.scope:
        try:
            outcome = await execute(run)
        except SecondpassError as error:
            failure = error
    if engine.rejection is not None:
        outcome, failure = None, engine.rejection
    return Replayed(
        outcome=outcome,
        failure=failure,
        trace=trace,
        seconds=trace.elapsed,
        missing=tuple(engine.missing),
    )


def client_messages(pool: Pool, question: PoolQuestion) -> tuple[Message, ...]:
    """Return the client's messages, without the answer-format instruction that the run adds itself."""
    if pool.header.formatted:
        return (Message(role="user", content=question.question),)
    return question.messages

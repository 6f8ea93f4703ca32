"""Overhead of a run per delta, with the scripted engine at the rate of a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anyio

from benchmarks.pairs import Pairs, table
from secondpass.service.calls.admission import Admission
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.events import Trace
from secondpass.service.common.limits import Limits
from secondpass.service.config.settings import Settings
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.observe.metrics import Metrics
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec, SharedResources
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call, Engine
from secondpass.strategies.api.values import SOLVE, Message, Sampling

RATE = 20_000.0
SEQUENCES = 256
QUESTION = (Message(role="user", content="What is 6 times 7?"),)

HEADER = (
    "in process",
    "added ms",
    "deltas/s direct",
    "deltas/s through",
    "rate ratio",
    "CPU-µs a delta",
    "added CPU-µs a delta",
)


@dataclass(frozen=True, slots=True)
class Case:
    """`runs` concurrent runs, each one call with `n` completions, at `rate` tokens/s (None: unpaced)."""

    name: str
    strategy: str
    params: Mapping[str, Any]
    runs: int
    n: int = 1
    rate: float | None = RATE


@dataclass(frozen=True, slots=True)
class Measurement:
    """Wall time and CPU time in seconds, and the deltas delivered in that time."""

    seconds: float
    cpu: float
    deltas: int

    @property
    def rate(self) -> float:
        """Deltas per second."""
        return self.deltas / self.seconds

    @property
    def cost(self) -> float:
        """CPU microseconds per delta."""
        return self.cpu / self.deltas * 1e6


@dataclass(frozen=True, slots=True)
class Served:
    """State that the runs of one service share."""

    upstream: Upstream
    shared: SharedResources
    metrics: Metrics
    limits: Limits


Work = Callable[[Case, Engine, Served], Coroutine[Any, Any, None]]

_EIGHT = {"n": 8, "stop": "none"}

CASES = (
    Case("single, 256 runs, 20,000/s", "single", {}, SEQUENCES),
    Case("8 samples, 32 runs, 20,000/s", "self_consistency", _EIGHT, SEQUENCES // 8, 8),
    Case("single, 256 runs, unpaced", "single", {}, SEQUENCES, rate=None),
    Case("8 samples, 32 runs, unpaced", "self_consistency", _EIGHT, SEQUENCES // 8, 8, rate=None),
)


async def measure(case: Case, pairs: int, tokens: int) -> Pairs[Measurement]:
    """Measure direct and through runs alternately, `pairs` times, with `tokens` deltas per sequence."""
    direct, through = [], []
    for _ in range(pairs):
        direct.append(await _measured(case, tokens, _read))
        through.append(await _measured(case, tokens, _run))
    return Pairs(case.name, direct, through)


async def _measured(case: Case, tokens: int, work: Work) -> Measurement:
    text = "so " * (tokens - 1) + "\\boxed{42}"
    engine = ScriptedEngine(script=lambda _call, _index: Reply(text), rate=case.rate)
    served = Served(
        upstream=Upstream(engine, Admission(SEQUENCES)),
        shared=SharedResources(Equivalence()),
        metrics=Metrics(),
        limits=Settings(engine="scripted", model="scripted").operator_maxima,
    )
    cpu, wall = time.process_time(), time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(case.runs):
            group.start_soon(work, case, engine, served)
    seconds = time.perf_counter() - wall
    return Measurement(seconds, time.process_time() - cpu, engine.delivered)


async def _read(case: Case, engine: Engine, _: Served) -> None:
    """Read and discard every delta of one call."""
    sampling = Sampling(max_tokens=2048)
    call = Call(role="actor", purpose=SOLVE, messages=QUESTION, sampling=sampling, n=case.n)
    async with aclosing(engine.stream(call)) as deltas:
        async for _delta in deltas:
            pass


async def _run(case: Case, _: Engine, served: Served) -> None:
    """Execute one run with the same components as the service."""
    strategy, upstream = STRATEGIES[case.strategy], served.upstream
    spec = RunSpec(
        id="run",
        strategy=strategy,
        params=strategy.params.model_validate(case.params),
        messages=QUESTION,
        task=Task(kind="math"),
        upstreams={"actor": upstream, "critic": upstream, "judge": upstream},
        limits=served.limits,
    )
    trace = Trace(served.metrics.subscriber(strategy.name))
    await execute(LiveRun(spec, served.shared, trace))


def report(measured: Sequence[Pairs[Measurement]]) -> str:
    """Return the table; brackets contain the extremes of the pairs."""
    return table(HEADER, map(_row, measured))


def _row(pairs: Pairs[Measurement]) -> tuple[str, ...]:
    direct, through = pairs.medians(lambda one: one.rate)
    costs = pairs.medians(lambda one: one.cost)
    return (
        pairs.name,
        pairs.compared(lambda one, other: (other.seconds - one.seconds) * 1e3).shown(".0f"),
        f"{direct:.0f}",
        f"{through:.0f}",
        pairs.compared(lambda one, other: other.rate / one.rate).shown(".2f"),
        " → ".join(f"{cost:.1f}" for cost in costs),
        pairs.compared(lambda one, other: other.cost - one.cost).shown(".1f"),
    )

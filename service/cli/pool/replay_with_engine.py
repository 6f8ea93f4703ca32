"""Replays over a pool that is extended by an engine.

Each run is replayed until it needs a sample that the pool lacks. The sample is drawn to its end, and the run is replayed
again from the start. The last replay therefore needs no engine, and every later replay of the run is identical. Samples that
the strategy cancels are in the pool too, so a later replay can cancel them at the same point.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from secondpass.service.calls.upstream import Upstream
from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.cli.common.local_service import local_service
from secondpass.service.cli.pool.options import ReplayOptions
from secondpass.service.cli.pool.progress import ProgressCounter, print_status, report_progress
from secondpass.service.cli.pool.runs import PlannedRun, ReplayPlan, ReplayResult, replay_planned
from secondpass.service.common.concurrency import task_group
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.http.state import Service
from secondpass.service.lab.evaluation.records import RunRecord
from secondpass.service.lab.pools.clock import VirtualLoop
from secondpass.service.lab.pools.format import Header, Sample
from secondpass.service.lab.pools.pool import Pool, PoolFile, open_pool
from secondpass.service.lab.pools.record import new_pass
from secondpass.service.lab.pools.replay_run import VirtualTimeEquivalence, with_recording
from secondpass.service.lab.pools.sample_drawer import DrawKey, SampleDrawer, draw_key
from secondpass.strategies.api.errors import CapabilityMissing, EngineError

CONCURRENCY = 64
"""Default number of concurrent runs, and of concurrent calls."""


async def replay_with_engine(
    options: ReplayOptions, header: Header, plan: ReplayPlan
) -> list[RunRecord]:
    """Return the records of the planned runs, in order.

    Raises:
        Failure: The engine is not ready or does not match the pool.
        BadLine: The pool has another header, or another process writes to it.
    """
    async with local_service(options.serve_flags, options.wait) as service:
        with open_pool(Path(options.pool), header) as pool_file:
            upstream = _upstream(options, service, pool_file)
            if dropped := pool_file.dropped_bytes:
                print_status(f"{options.pool}: removed an incomplete last line ({dropped} bytes)")
            width = options.runs_at_once or CONCURRENCY
            async with _replay_thread(pool_file.pool, plan) as replays:
                return await _replay_all(upstream, pool_file, plan, replays, width)


def _upstream(options: ReplayOptions, service: Service, pool_file: PoolFile) -> Upstream:
    """Return the actor's upstream, which records into the pool.

    Raises Failure for settings under which the pool's runs would make other calls.
    """
    actor = service.roles["actor"]
    for role, node in service.roles.items():
        if node is not actor:
            raise Failure(
                f"after --: roles.{role}: all roles must have the actor's engine, because a pool has one model",
                REFUSED,
            )
    configured = service.settings.calibrations
    if configured is not None and str(configured) != options.calibrations:
        raise Failure("after --: calibrations: use --calibrations before --", REFUSED)
    if not pool_file.pool.passes:
        raise Failure(f"{options.pool}: the pool has no recorded samples", REFUSED)
    try:
        return with_recording(actor.upstream, pool_file)
    except CapabilityMissing as error:
        raise Failure(f"{error}, which the pool was recorded with", REFUSED) from error


class _ReplayThread:
    """Thread that replays one run at a time on a virtual clock, while the engine runs in real time."""

    def __init__(
        self, pool: Pool, plan: ReplayPlan, portal: BlockingPortal, equivalence: Equivalence
    ) -> None:
        self._work = partial(replay_planned, pool, plan)
        self._portal, self._equivalence = portal, equivalence
        self._lock = anyio.Lock()

    async def replay(self, run: PlannedRun) -> ReplayResult:
        """Replay the run over the current pool."""
        async with self._lock:
            return await anyio.to_thread.run_sync(
                self._portal.call, self._work, run, self._equivalence
            )


@asynccontextmanager
async def _replay_thread(pool: Pool, plan: ReplayPlan) -> AsyncIterator[_ReplayThread]:
    with ExitStack() as stack:
        portal = stack.enter_context(
            start_blocking_portal("asyncio", {"loop_factory": VirtualLoop})
        )
        equivalence = stack.enter_context(
            portal.wrap_async_context_manager(VirtualTimeEquivalence(workers=2))
        )
        yield _ReplayThread(pool, plan, portal, equivalence)


async def _replay_all(
    upstream: Upstream,
    pool_file: PoolFile,
    plan: ReplayPlan,
    replays: _ReplayThread,
    width: int,
) -> list[RunRecord]:
    engine = upstream.engine
    records: dict[int, RunRecord] = {}
    runs = plan.runs
    counter = ProgressCounter(len(runs), "runs")
    print_status(f"{len(runs)} runs; {engine.model} draws missing samples, {width} at a time")
    with report_progress(counter) as advance:

        def on_sample(sample: Sample) -> None:
            if not counter.calls:
                pool_file.add(new_pass(engine, [], [], 0, {"asked by": "replay"}))
            counter.add_call(sample.tokens)
            advance(0)

        drawer = SampleDrawer(upstream, width, on_sample)
        queue = iter(enumerate(runs))

        async def work() -> None:
            for number, run in queue:
                records[number] = await _replay_until_complete(run, replays, drawer)
                advance(1)

        async with task_group() as group:
            for _ in range(min(width, len(runs))):
                group.start_soon(work)
    return [records[number] for number in range(len(runs))]


async def _replay_until_complete(
    run: PlannedRun, replays: _ReplayThread, drawer: SampleDrawer
) -> RunRecord:
    """Replay the run and draw missing samples until none is missing.

    Stops with a failed run if a draw fails, or if a sample is still missing after its draw.
    """
    drawn: set[DrawKey] = set()
    while True:
        result = await replays.replay(run)
        missing = {draw_key(call) for call in result.missing}
        if not missing or missing & drawn:
            return result.record
        try:
            await drawer.draw(result.missing)
        except EngineError as error:
            return replace(result.record, error=str(error))
        drawn |= missing

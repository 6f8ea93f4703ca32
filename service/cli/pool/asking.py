"""Replays that ask an engine for what their pool lacks.

Each run is replayed as far as the pool goes, what it lacks is drawn, and it is replayed again, until it lacks nothing.
So its last replay is what any later one is, and what a strategy would have cancelled is there to be cancelled again.
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
from secondpass.service.cli.common.own_service import own_service
from secondpass.service.cli.pool.options import ReplayOptions
from secondpass.service.cli.pool.progress import Tally, progress, say
from secondpass.service.cli.pool.runs import ReplayPlan, Trial, Tried, attempt
from secondpass.service.common.concurrency import task_group
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.http.state import Service
from secondpass.service.lab.evaluation.records import RunRecord
from secondpass.service.lab.pools.clock import VirtualLoop
from secondpass.service.lab.pools.format import Header, Sample
from secondpass.service.lab.pools.pool import Pool, PoolFile, open_pool
from secondpass.service.lab.pools.record import new_pass
from secondpass.service.lab.pools.replay_run import TimelessEquivalence, with_recording
from secondpass.service.lab.pools.sample_drawer import DrawKey, SampleDrawer, draw_key
from secondpass.strategies.api.errors import CapabilityMissing, EngineError

CONCURRENCY = 64


async def replay_and_ask(
    options: ReplayOptions, header: Header, plan: ReplayPlan
) -> list[RunRecord]:
    """The attempts of the plan, in its order. Raises Failure, BadLine where the engine or the pool cannot be used."""
    async with own_service(options.serve_flags, options.wait) as service:
        with open_pool(Path(options.pool), header) as book:
            upstream = _upstream(options, service, book)
            if book.dropped_bytes:
                say(f"{options.pool}: the last line was cut ({book.dropped_bytes} bytes)")
            width = options.runs_at_once or CONCURRENCY
            async with _virtual(book.pool, plan) as replays:
                return await _ask(upstream, book, plan, replays, width)


def _upstream(options: ReplayOptions, service: Service, book: PoolFile) -> Upstream:
    """The engine that is asked, and records. Raises Failure for one whose replies would not be those of the pool's runs."""
    actor = service.roles["actor"]
    for role, node in service.roles.items():
        if node is not actor:
            raise Failure(f"after --: roles.{role}: a pool has one model, and one engine", REFUSED)
    named = service.settings.calibrations
    if named is not None and str(named) != options.calibrations:
        raise Failure("after --: calibrations: name them before --, as --calibrations", REFUSED)
    if not book.pool.passes:
        raise Failure(f"{options.pool}: nothing was recorded into it yet", REFUSED)
    try:
        return with_recording(actor.upstream, book)
    except CapabilityMissing as error:
        raise Failure(f"{error}, which the pool was recorded with", REFUSED) from error


class _Replays:
    """Replays in a thread with a virtual clock of its own, one at a time: the engine is asked in real time meanwhile."""

    def __init__(
        self, pool: Pool, plan: ReplayPlan, portal: BlockingPortal, equivalence: Equivalence
    ) -> None:
        self._work = partial(attempt, pool, plan)
        self._portal, self._equivalence = portal, equivalence
        self._turn = anyio.Lock()

    async def attempt(self, trial: Trial) -> Tried:
        """What the run comes to over the pool as it now is."""
        async with self._turn:
            return await anyio.to_thread.run_sync(
                self._portal.call, self._work, trial, self._equivalence
            )


@asynccontextmanager
async def _virtual(pool: Pool, plan: ReplayPlan) -> AsyncIterator[_Replays]:
    with ExitStack() as stack:
        portal = stack.enter_context(
            start_blocking_portal("asyncio", {"loop_factory": VirtualLoop})
        )
        equivalence = stack.enter_context(
            portal.wrap_async_context_manager(TimelessEquivalence(workers=2))
        )
        yield _Replays(pool, plan, portal, equivalence)


async def _ask(
    upstream: Upstream, book: PoolFile, plan: ReplayPlan, replays: _Replays, width: int
) -> list[RunRecord]:
    engine = upstream.engine
    found: dict[int, RunRecord] = {}
    trials = plan.trials
    tally = Tally(len(trials), "runs")
    say(f"{len(trials)} runs; what the pool lacks is asked of {engine.model}, {width} at once")
    with progress(tally) as step:

        def on_sample(sample: Sample) -> None:
            if not tally.calls:
                book.add(new_pass(engine, [], [], 0, {"asked by": "replay"}))
            tally.drew(sample.tokens)
            step(0)

        drawer = SampleDrawer(upstream, width, on_sample)
        queue = iter(enumerate(trials))

        async def work() -> None:
            for number, trial in queue:
                found[number] = await _complete(trial, replays, drawer)
                step(1)

        async with task_group() as group:
            for _ in range(min(width, len(trials))):
                group.start_soon(work)
    return [found[number] for number in range(len(trials))]


async def _complete(trial: Trial, replays: _Replays, drawer: SampleDrawer) -> RunRecord:
    """Replay and draw until nothing is lacking, or a draw fails, or did not bring what was lacking."""
    drawn: set[DrawKey] = set()
    while True:
        tried = await replays.attempt(trial)
        lacking = {draw_key(call) for call in tried.lacking}
        if not lacking or lacking & drawn:
            return tried.attempt
        try:
            await drawer.draw(tried.lacking)
        except EngineError as error:
            return replace(tried.attempt, error=str(error))
        drawn |= lacking

"""What a strategy needs is checked before its first call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from secondpass.service.common.events import Trace
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import Shared
from secondpass.strategies.api.errors import CapabilityMissing, RoleMissing
from secondpass.strategies.api.registry import Needs, Params
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate
from secondpass.testing.support import make_run

pytestmark = pytest.mark.anyio


async def body(run: Run, params: Params) -> Candidate:
    """Ask once."""
    return run.candidate(await run.ask(SOLVE))


def needing(engine: ScriptedEngine, needs: Needs, *, without: bool = False) -> LiveRun:
    run = make_run(engine)
    upstreams = dict(run.spec.upstreams)
    if without:
        del upstreams["reward"]
    spec = replace(
        run.spec,
        strategy=replace(run.spec.strategy, body=body, needs=needs),
        upstreams=upstreams,
    )
    return LiveRun(spec, Shared(Equivalence()), Trace())


async def test_a_capability_that_a_role_lacks_refuses_the_run() -> None:
    engine = ScriptedEngine(lacking=frozenset({"labels"}))
    with pytest.raises(CapabilityMissing, match="labels"):
        await execute(needing(engine, {"judge": {"labels"}}))
    assert not engine.calls


@pytest.mark.parametrize("needs", [{"reward": set()}, {"reward": {"reward"}}])
async def test_a_role_that_no_engine_plays_refuses_the_run(needs: Needs) -> None:
    engine = ScriptedEngine()
    with pytest.raises(RoleMissing, match="reward"):
        await execute(needing(engine, needs, without=True))
    assert not engine.calls


async def test_what_is_there_lets_the_run_start() -> None:
    engine = ScriptedEngine()
    needs: Needs = {"actor": {"prefix"}, "judge": {"labels", "schema"}, "reward": set()}
    assert (await execute(needing(engine, needs))).candidate.answer == "42"

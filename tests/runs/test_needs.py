"""Checks before and after a strategy: needs, prompts, return values and stop reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from secondpass.service.common.errors import EngineFailed
from secondpass.service.common.events import Trace
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import SharedResources
from secondpass.strategies.api.errors import (
    CapabilityMissing,
    RoleFailed,
    RoleMissing,
    VerdictUnreadable,
)
from secondpass.strategies.api.registry import Needs, Params
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Sampling
from secondpass.testing.support import make_run
from tests.runs.run_variants import with_body

pytestmark = pytest.mark.anyio


async def body(run: Run, params: Params) -> Candidate:
    """Ask once."""
    return run.candidate(await run.ask(SOLVE))


def run_with_needs(engine: ScriptedEngine, needs: Needs, *, lacks_reward: bool = False) -> LiveRun:
    run = make_run(engine)
    upstreams = dict(run.spec.upstreams)
    if lacks_reward:
        del upstreams["reward"]
    spec = replace(
        run.spec,
        strategy=replace(run.spec.strategy, body=body, needs=needs),
        upstreams=upstreams,
    )
    return LiveRun(spec, SharedResources(Equivalence()), Trace())


async def test_missing_capability_rejects_the_run() -> None:
    engine = ScriptedEngine(lacking=frozenset({"labels"}))
    with pytest.raises(CapabilityMissing, match="labels"):
        await execute(run_with_needs(engine, {"judge": {"labels"}}))
    assert not engine.calls


@pytest.mark.parametrize("needs", [{"reward": set()}, {"reward": {"reward"}}])
async def test_missing_role_rejects_the_run(needs: Needs) -> None:
    engine = ScriptedEngine()
    with pytest.raises(RoleMissing, match="reward"):
        await execute(run_with_needs(engine, needs, lacks_reward=True))
    assert not engine.calls


async def test_run_starts_if_all_needs_are_met() -> None:
    engine = ScriptedEngine()
    needs: Needs = {"actor": {"prefix"}, "judge": {"labels", "schema"}, "reward": set()}
    assert (await execute(run_with_needs(engine, needs))).candidate.answer == "42"


async def test_unknown_role_raises_an_error_listing_the_roles() -> None:
    run = make_run()
    role: Any = "referee"
    message = "^role: must be one of actor, critic, judge, reward, not 'referee'$"
    with pytest.raises(ValueError, match=message):
        await run.ask(SOLVE, role=role)
    with pytest.raises(ValueError, match=message):
        run.model(role)


async def test_solve_prompt_accepts_no_values() -> None:
    run = make_run()
    with pytest.raises(ValueError, match="'solve' is the client's own conversation"):
        await run.ask(SOLVE, question="What?")


@pytest.mark.parametrize("reason", ["threshold", "deadline", "budget_tokens"])
async def test_strategy_cannot_set_a_reserved_stop_reason(reason: Any) -> None:
    run = make_run()
    with pytest.raises(ValueError, match=r"^stop_reason: must be one of finished, accepted"):
        run.stop_reason = reason
    assert run.stop_reason == "finished"


@pytest.mark.parametrize("kind", ["NoneType", "Completion"])
async def test_strategy_must_return_a_candidate(kind: str) -> None:
    async def return_other(run: Run, _: Params) -> Any:
        draft = await run.ask(SOLVE)
        return draft if kind == "Completion" else None

    run = with_body(make_run(), return_other)
    with pytest.raises(TypeError, match=f"^strategy '.*' must return a Candidate, not {kind}$"):
        await execute(run)


@pytest.mark.parametrize(
    ("own", "requested", "note"),
    [
        (0.7, 0.2, "0.7, from the strategy's params; the requested 0.2 has no effect"),
        (0.7, 0.7, None),
        (0.7, None, None),
    ],
)
async def test_overridden_client_temperature_is_noted(
    own: float, requested: float | None, note: str | None
) -> None:
    params = {"temperature": own, "n": 2}
    run = make_run(None, "self_consistency", params, sampling=Sampling(temperature=requested))
    assert (await execute(run)).notes.get("temperature") == note


async def test_error_raised_by_a_strategy_is_counted_unless_it_is_role_failed() -> None:
    async def raise_unreadable(run: Run, _: Params) -> Candidate:
        run.elect(run.candidate(await run.ask(SOLVE)))
        raise VerdictUnreadable("hm", role="critic")

    assert (await execute(with_body(make_run(), raise_unreadable))).degraded == {"critic": 1}

    async def raise_role_failed(run: Run, _: Params) -> Candidate:
        run.elect(run.candidate(await run.ask(SOLVE)))
        raise RoleFailed("no critic", role="critic")

    run = with_body(make_run(), raise_role_failed)
    with pytest.raises(EngineFailed):
        await execute(run)
    assert not run.degraded

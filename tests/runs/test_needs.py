"""What a strategy needs is checked before its first call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from secondpass.service.common.errors import AllCallsFailed
from secondpass.service.common.events import Trace
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import Shared
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
from tests.runs.changed import of_body

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


async def test_a_role_that_does_not_exist_is_an_error_that_names_the_roles() -> None:
    run = make_run()
    role: Any = "referee"
    named = "^role: one of actor, critic, judge, reward, not 'referee'$"
    with pytest.raises(ValueError, match=named):
        await run.ask(SOLVE, role=role)
    with pytest.raises(ValueError, match=named):
        run.model(role)


async def test_the_clients_conversation_takes_no_values() -> None:
    run = make_run()
    with pytest.raises(ValueError, match="'solve' is the client's own conversation"):
        await run.ask(SOLVE, question="What?")


@pytest.mark.parametrize("reason", ["threshold", "deadline", "budget_tokens"])
async def test_a_strategy_gives_no_other_reason_than_its_own(reason: Any) -> None:
    run = make_run()
    with pytest.raises(ValueError, match=r"^stop_reason: one of finished, accepted"):
        run.stop_reason = reason
    assert run.stop_reason == "finished"


@pytest.mark.parametrize("kind", ["NoneType", "Completion"])
async def test_a_strategy_must_return_a_candidate(kind: str) -> None:
    async def returns(run: Run, _: Params) -> Any:
        draft = await run.ask(SOLVE)
        return draft if kind == "Completion" else None

    run = of_body(make_run(), returns)
    with pytest.raises(TypeError, match=f"^strategy '.*' must return a Candidate, not {kind}$"):
        await execute(run)


@pytest.mark.parametrize(
    ("own", "wanted", "note"),
    [
        (0.7, 0.2, "0.7, from the strategy's params; the requested 0.2 has no effect"),
        (0.7, 0.7, None),
        (0.7, None, None),
    ],
)
async def test_a_temperature_of_the_clients_that_has_no_effect_is_noted(
    own: float, wanted: float | None, note: str | None
) -> None:
    params = {"temperature": own, "n": 2}
    run = make_run(None, "self_consistency", params, sampling=Sampling(temperature=wanted))
    assert (await execute(run)).notes.get("temperature") == note


async def test_an_error_that_leaves_a_strategy_is_counted_but_not_a_role_that_it_insists_on() -> (
    None
):
    async def unreadable(run: Run, _: Params) -> Candidate:
        run.elect(run.candidate(await run.ask(SOLVE)))
        raise VerdictUnreadable("hm", role="critic")

    assert (await execute(of_body(make_run(), unreadable))).degraded == {"critic": 1}

    async def insists(run: Run, _: Params) -> Candidate:
        run.elect(run.candidate(await run.ask(SOLVE)))
        raise RoleFailed("no critic", role="critic")

    run = of_body(make_run(), insists)
    with pytest.raises(AllCallsFailed):
        await execute(run)
    assert not run.degraded

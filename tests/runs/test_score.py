"""The verb `score`: scored texts, required capabilities, accounting and events."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.common import errors
from secondpass.service.common.events import VerdictRecorded
from secondpass.service.common.limits import Price
from secondpass.service.engines.scripted.engine import Fault, Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import (
    BudgetExhausted,
    CapabilityMissing,
    EngineError,
    RoleMissing,
    SecondpassError,
    UnusableCompletion,
)
from secondpass.strategies.api.registry import Params, Strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Message, Role
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    call_records,
    make_run,
    upstream,
)
from tests.runs.run_variants import with_spec

pytestmark = pytest.mark.anyio

USER = Message(role="user", content="Which review is right?")


async def scored(run: Run, _: Params) -> Candidate:
    """Return the draft with the highest score."""
    async with run.sample(SOLVE, 3) as drafts:
        async for draft in drafts:
            score = await run.score(draft)
            run.propose(run.candidate(draft, score=score, score_kind="reward"))
    return run.best


SCORED = Strategy(
    "scored", scored, Params, None, "reward", "select", {}, streams=False, module=__name__
)


def run_of(engine: Any, judge: Any = None, /, **limits: Any) -> LiveRun:
    """Return a run of SCORED with `judge` (default: the same engine) as its reward model."""
    actor = upstream(engine)
    upstreams = {"actor": actor, "reward": upstream(judge) if judge else actor}
    run = make_run(engine, **limits)
    return with_spec(run, strategy=SCORED, params=Params(), upstreams=upstreams)


# -- scored texts -------------------------------------------------------------------------------------------


async def test_completion_is_scored_as_the_last_turn_of_its_conversation() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    draft = await run.ask(SOLVE)
    assert await run.score(draft) == 1.0
    call = engine.calls[-1]
    assert call.messages == (*run.messages, Message(role="assistant", content=draft.text))
    assert (call.role, call.purpose, call.reward) == ("reward", "reward", True)
    assert call.needs == {"reward"}
    assert call.sampling.max_tokens is None


async def test_candidate_is_scored_as_an_answer_to_the_client_or_to_given_messages() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    candidate = Candidate(text="It is 42.", index=3)
    assert await run.score(candidate) == 1.0
    answer = Message(role="assistant", content="It is 42.")
    assert engine.calls[-1].messages == (*run.messages, answer)
    await run.score(candidate, messages=(USER,))
    assert engine.calls[-1].messages == (USER, answer)


async def test_text_is_scored_as_an_answer_to_the_client_or_to_given_messages() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    assert await run.score("It is 41.") == 0.0
    assert engine.calls[-1].messages[:-1] == run.messages
    draft = await run.ask(SOLVE)
    for review in (draft, draft.text):
        await run.score(review, messages=(USER,))
        assert engine.calls[-1].messages == (
            USER,
            Message(role="assistant", content=draft.text),
        )


async def test_step_stream_is_scored_as_a_partial_completion() -> None:
    engine = ScriptedEngine(per_token=0.001)
    run = make_run(engine)
    async with run.steps(SOLVE) as stream:
        async for _ in stream:
            await run.score(stream)
            break
    (scored_call,) = (call for call in engine.calls if call.reward)
    assert scored_call.messages[-1].text.startswith("Let me work it out step by step.")


async def test_score_is_in_the_verdict_event_and_the_usage_record() -> None:
    run = make_run()
    await run.score("It is 42.")
    (verdict,) = (event for event in run.trace.events if isinstance(event, VerdictRecorded))
    assert (verdict.role, verdict.purpose, verdict.reward) == ("reward", "reward", 1.0)
    assert verdict.labels is None
    assert call_records(run)[-1].reward == 1.0


@ON_BOTH_BACKENDS
async def test_score_calls_are_admitted_before_drafts() -> None:
    engine = ScriptedEngine(per_token=0.002)
    run = make_run(upstream(engine, places=1))
    async with anyio.create_task_group() as group:
        group.start_soon(run.ask, SOLVE)
        await anyio.sleep(0.005)
        group.start_soon(run.ask, SOLVE)
        await anyio.sleep(0.005)
        group.start_soon(run.score, "42")
    assert [call.reward for call in engine.calls] == [False, True, False]


# -- required capabilities ----------------------------------------------------------------------------------


async def test_missing_reward_role_raises_an_error_naming_it() -> None:
    run = with_spec(make_run(), upstreams={"actor": upstream(ScriptedEngine())})
    with pytest.raises(RoleMissing, match=r"no engine plays the role 'reward'.*roles\.reward"):
        await run.score("42")
    assert run.budget.spent["calls"] == 0


async def test_engine_without_the_capability_raises_an_error_naming_both() -> None:
    judge = ScriptedEngine(name="judge", lacking=frozenset({"reward"}))
    run = run_of(ScriptedEngine(), judge)
    with pytest.raises(CapabilityMissing, match="engine 'judge' lacks the capability reward"):
        await execute(run)
    assert not judge.calls
    assert not run.budget.holdings


async def test_missing_reward_raises_instead_of_counting_as_zero() -> None:
    engine = ScriptedEngine(lambda _call, _index: Reply("It is 42."))
    run = make_run(engine)
    with pytest.raises(UnusableCompletion, match="reward"):
        await run.score("42")
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("fault", ["unavailable", "interrupt", "refuse"])
async def test_failed_reward_model_is_reported_under_its_role(fault: Fault) -> None:
    actor = ScriptedEngine()
    judge = ScriptedEngine(lambda _call, _index: Reply("", fault=fault, reward=1.0), name="rm")
    run = run_of(actor, upstream(judge, attempts=2))
    with pytest.raises(SecondpassError) as raised:
        await execute(run)
    assert getattr(raised.value, "role", None) == "reward"
    assert_accounting_is_complete(run, actor)
    assert not judge.running


# -- accounting ---------------------------------------------------------------------------------------------


async def test_score_costs_its_prompt_and_one_call() -> None:
    engine = ScriptedEngine()
    run = make_run(engine, prices={"reward": Price(prompt=1e6, completion=1e9)}, max_cost=1000.0)
    await run.score("It is 42.")
    (call,) = engine.calls
    prompt = await engine.count_prompt(call)
    assert run.budget.spent == {
        "tokens": 0,
        "prompt_tokens": prompt,
        "calls": 1,
        "samples": 0,
        "cost": prompt,
    }
    assert engine.delivered == 0


async def test_score_requires_no_completion_tokens_or_samples() -> None:
    engine = ScriptedEngine(lambda _call, _index: Reply("word", reward=0.5))
    run = make_run(engine, max_tokens=1, max_samples=1)
    await run.ask(SOLVE)
    assert run.budget.left("tokens") == run.budget.left("samples") == 0
    assert await run.score("word") == 0.5


@pytest.mark.parametrize(
    ("limits", "kind"),
    [({"max_calls": 1}, "calls"), ({"max_prompt_tokens": 30}, "prompt_tokens")],
)
async def test_score_over_the_budget_raises_without_a_call(
    limits: dict[str, Any], kind: str
) -> None:
    engine = ScriptedEngine()
    run = make_run(engine, **limits)
    await run.score("42")
    with pytest.raises(BudgetExhausted) as raised:
        await run.score("word " * 20)
    assert raised.value.kind == kind
    assert len(engine.calls) == 1


@pytest.mark.parametrize("completion", [0.0, 5.0])
async def test_score_over_the_cost_limit_raises_without_a_call(completion: float) -> None:
    engine = ScriptedEngine()
    price: dict[Role, Price] = {"reward": Price(prompt=1.0, completion=completion)}
    await make_run(engine).score("42")
    tokens = await engine.count_prompt(engine.calls.pop())
    assert await make_run(engine, prices=price, max_cost=tokens / 1e6).score("42") == 1.0
    run = make_run(engine, prices=price, max_cost=(tokens - 1) / 1e6)
    with pytest.raises(BudgetExhausted, match="cost"):
        await run.score("42")
    assert len(engine.calls) == 1


@ON_BOTH_BACKENDS
async def test_cancelled_score_is_charged_its_estimated_prompt() -> None:
    engine = ScriptedEngine(first_token=10.0)
    run = make_run(engine)
    with anyio.move_on_after(0.02):
        await run.score("It is 42.")
    (record,) = call_records(run)
    assert record.end == "cancelled"
    assert record.is_estimated
    assert record.usage.prompt > 0
    assert record.usage.completion == 0
    assert_accounting_is_complete(run, engine)


FAULTS: list[Fault] = ["interrupt", "unavailable", "refuse"]


@dataclass
class World:
    """Drafts and their scores, over an engine with random lengths and faults."""

    seed: int
    limits: dict[str, Any]
    faults: float
    deadline: int | None
    places: int
    is_counted: bool
    engine: ScriptedEngine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = ScriptedEngine(
            self.script,
            per_token=0.0001,
            first_token=0.0002,
            lacking=frozenset() if self.is_counted else frozenset({"token_counts"}),
        )

    def script(self, call: Call, index: int) -> Reply:
        """Return words and a score, or a fault."""
        chance = random.Random(f"{self.seed}-{index}-{call.reward}-{len(self.engine.calls)}")
        words = " ".join(["word"] * chance.randint(1, 30))
        is_faulty = chance.random() < self.faults
        fault = chance.choice(FAULTS) if is_faulty else None
        return Reply(words, fault=fault, reward=chance.gauss(0, 1))

    async def play(self) -> LiveRun:
        """Execute a run, however it ends."""
        stacked = upstream(self.engine, attempts=2, places=self.places)
        prices = {"actor": Price(1.0, 3.0), "reward": Price(2.0, 7.0)}
        run = run_of(stacked, prices=prices, deadline_ms=self.deadline, **self.limits)
        with suppress(errors.NoAnswer, EngineError):
            await execute(run)
        return run


WORLDS = st.builds(
    World,
    seed=st.integers(0, 2**16),
    limits=st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.integers(1, 100),
            "max_prompt_tokens": st.integers(1, 300),
            "max_calls": st.integers(1, 8),
            "max_samples": st.integers(1, 4),
            "max_cost": st.integers(1, 500).map(lambda millionths: millionths / 1e6),
        },
    ),
    faults=st.sampled_from([0.0, 0.3, 1.0]),
    deadline=st.sampled_from([None, None, 2, 10]),
    places=st.sampled_from([1, 2, 8]),
    is_counted=st.booleans(),
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_scores_never_exceed_a_limit_or_cost_completion_tokens(backend: str) -> None:
    @settings(max_examples=120, derandomize=True)
    @given(WORLDS)
    def check(world: World) -> None:
        run = anyio.run(world.play, backend=backend)
        assert_accounting_is_complete(run, world.engine)
        assert run.budget.spent["calls"] == len(world.engine.calls)
        rewards = [record for record in call_records(run) if record.role == "reward"]
        assert all(record.usage.completion == record.wasted == 0 for record in rewards)
        samples = [
            b for b in call_records(run) if b.role == "actor" and b.attempts and not b.retried
        ]
        assert run.budget.spent["samples"] == len(samples)

    check()

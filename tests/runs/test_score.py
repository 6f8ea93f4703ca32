"""The verb `score`: what is scored, which engines can, and that it is billed and reported as everything else."""

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
from secondpass.service.common.events import VerdictSeen
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
    assert_books_are_closed,
    bills,
    make_run,
    upstream,
)
from tests.runs.changed import changed

pytestmark = pytest.mark.anyio

USER = Message(role="user", content="Which review is right?")


async def scored(run: Run, _: Params) -> Candidate:
    """The draft that the reward model likes best."""
    async with run.sample(SOLVE, 3) as drafts:
        async for draft in drafts:
            score = await run.score(draft)
            run.propose(run.candidate(draft, score=score, score_kind="reward"))
    return run.best


SCORED = Strategy(
    "scored", scored, Params, None, "reward", "select", {}, streams=False, module=__name__
)


def run_of(engine: Any, judge: Any = None, /, **limits: Any) -> LiveRun:
    """A run of SCORED in which `judge` (default: the same engine) plays the reward model."""
    actor = upstream(engine)
    upstreams = {"actor": actor, "reward": upstream(judge) if judge else actor}
    run = make_run(engine, **limits)
    return changed(run, strategy=SCORED, params=Params(), upstreams=upstreams)


# -- what is scored -----------------------------------------------------------------------------------------


async def test_a_completion_is_scored_as_the_last_turn_of_its_conversation() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    draft = await run.ask(SOLVE)
    assert await run.score(draft) == 1.0
    call = engine.calls[-1]
    assert call.messages == (*run.messages, Message(role="assistant", content=draft.text))
    assert (call.role, call.purpose, call.reward) == ("reward", "reward", True)
    assert call.needs == {"reward"}
    assert call.sampling.max_tokens is None


async def test_a_candidate_is_scored_as_an_answer_to_the_client() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    candidate = Candidate(text="It is 42.", index=3)
    assert await run.score(candidate) == 1.0
    answer = Message(role="assistant", content="It is 42.")
    assert engine.calls[-1].messages == (*run.messages, answer)
    await run.score(candidate, messages=(USER,))
    assert engine.calls[-1].messages == (USER, answer)


async def test_a_text_is_scored_as_an_answer_to_the_client_or_to_other_messages() -> None:
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


async def test_a_step_stream_is_scored_as_far_as_it_is_written() -> None:
    engine = ScriptedEngine(per_token=0.001)
    run = make_run(engine)
    async with run.steps(SOLVE) as stream:
        async for _ in stream:
            await run.score(stream)
            break
    (scored_call,) = (call for call in engine.calls if call.reward)
    assert scored_call.messages[-1].text.startswith("Let me work it out step by step.")


async def test_a_score_is_an_event_and_in_its_bill() -> None:
    run = make_run()
    await run.score("It is 42.")
    (verdict,) = (event for event in run.trace.events if isinstance(event, VerdictSeen))
    assert (verdict.role, verdict.purpose, verdict.reward) == ("reward", "reward", 1.0)
    assert verdict.labels is None
    assert bills(run)[-1].reward == 1.0


@ON_BOTH_BACKENDS
async def test_rewards_are_admitted_before_drafts() -> None:
    engine = ScriptedEngine(per_token=0.002)
    run = make_run(upstream(engine, places=1))
    async with anyio.create_task_group() as group:
        group.start_soon(run.ask, SOLVE)
        await anyio.sleep(0.005)
        group.start_soon(run.ask, SOLVE)
        await anyio.sleep(0.005)
        group.start_soon(run.score, "42")
    assert [call.reward for call in engine.calls] == [False, True, False]


# -- which engines can score --------------------------------------------------------------------------------


async def test_without_the_role_it_is_an_error_that_names_it() -> None:
    run = changed(make_run(), upstreams={"actor": upstream(ScriptedEngine())})
    with pytest.raises(RoleMissing, match=r"no engine plays the role 'reward'.*roles\.reward"):
        await run.score("42")
    assert run.budget.spent["calls"] == 0


async def test_an_engine_that_cannot_is_an_error_that_names_it_and_the_capability() -> None:
    judge = ScriptedEngine(name="judge", lacking=frozenset({"reward"}))
    run = run_of(ScriptedEngine(), judge)
    with pytest.raises(CapabilityMissing, match="engine 'judge' lacks the capability reward"):
        await execute(run)
    assert not judge.calls
    assert not run.budget.holdings


async def test_no_reward_is_an_error_and_no_zero() -> None:
    engine = ScriptedEngine(lambda _call, _index: Reply("It is 42."))
    run = make_run(engine)
    with pytest.raises(UnusableCompletion, match="reward"):
        await run.score("42")
    assert_books_are_closed(run, engine)


@pytest.mark.parametrize("fault", ["unavailable", "interrupt", "refuse"])
async def test_a_reward_model_that_is_down_is_named_by_its_role(fault: Fault) -> None:
    actor = ScriptedEngine()
    judge = ScriptedEngine(lambda _call, _index: Reply("", fault=fault, reward=1.0), name="rm")
    run = run_of(actor, upstream(judge, attempts=2))
    with pytest.raises(SecondpassError) as raised:
        await execute(run)
    assert getattr(raised.value, "role", None) == "reward"
    assert_books_are_closed(run, actor)
    assert not judge.running


# -- what it costs ------------------------------------------------------------------------------------------


async def test_it_costs_its_prompt_and_one_call_and_no_completion() -> None:
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


async def test_it_needs_no_tokens_and_no_samples_to_be_left() -> None:
    engine = ScriptedEngine(lambda _call, _index: Reply("word", reward=0.5))
    run = make_run(engine, max_tokens=1, max_samples=1)
    await run.ask(SOLVE)
    assert run.budget.left("tokens") == run.budget.left("samples") == 0
    assert await run.score("word") == 0.5


@pytest.mark.parametrize(
    ("limits", "kind"),
    [({"max_calls": 1}, "calls"), ({"max_prompt_tokens": 30}, "prompt_tokens")],
)
async def test_what_does_not_fit_is_not_asked(limits: dict[str, Any], kind: str) -> None:
    engine = ScriptedEngine()
    run = make_run(engine, **limits)
    await run.score("42")
    with pytest.raises(BudgetExhausted) as raised:
        await run.score("word " * 20)
    assert raised.value.kind == kind
    assert len(engine.calls) == 1


@pytest.mark.parametrize("completion", [0.0, 5.0])
async def test_a_prompt_that_the_money_does_not_buy_is_not_asked(completion: float) -> None:
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
async def test_a_cancelled_one_charges_its_prompt_as_an_estimate() -> None:
    engine = ScriptedEngine(first_token=10.0)
    run = make_run(engine)
    with anyio.move_on_after(0.02):
        await run.score("It is 42.")
    (bill,) = bills(run)
    assert bill.end == "cancelled"
    assert bill.is_estimated
    assert bill.usage.prompt > 0
    assert bill.usage.completion == 0
    assert_books_are_closed(run, engine)


FAULTS: list[Fault] = ["interrupt", "unavailable", "refuse"]


@dataclass
class World:
    """Drafts and their rewards, over engines of random lengths and faults."""

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
        """Words or a score, or a fault."""
        chance = random.Random(f"{self.seed}-{index}-{call.reward}-{len(self.engine.calls)}")
        words = " ".join(["word"] * chance.randint(1, 30))
        is_faulty = chance.random() < self.faults
        fault = chance.choice(FAULTS) if is_faulty else None
        return Reply(words, fault=fault, reward=chance.gauss(0, 1))

    async def play(self) -> LiveRun:
        """Run it to any ending."""
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
def test_rewards_never_pass_a_limit_and_never_cost_a_completion(backend: str) -> None:
    @settings(max_examples=120, derandomize=True)
    @given(WORLDS)
    def check(world: World) -> None:
        run = anyio.run(world.play, backend=backend)
        assert_books_are_closed(run, world.engine)
        assert run.budget.spent["calls"] == len(world.engine.calls)
        rewards = [bill for bill in bills(run) if bill.role == "reward"]
        assert all(bill.usage.completion == bill.wasted == 0 for bill in rewards)
        samples = [b for b in bills(run) if b.role == "actor" and b.attempts and not b.retried]
        assert run.budget.spent["samples"] == len(samples)

    check()

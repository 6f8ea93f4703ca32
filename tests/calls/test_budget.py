"""Budget invariants as properties over limits, sizes, lengths and faults, on both async backends."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from secondpass.service.calls.budget import Budget, Lease
from secondpass.service.calls.lease_request import LeaseRequest
from secondpass.service.calls.prompt_size import text_bound
from secondpass.service.common.errors import NoAnswer
from secondpass.service.common.limits import Limits, Price
from secondpass.service.engines.scripted.engine import Fault, Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import BudgetExhausted, CallRejected
from secondpass.strategies.api.values import Capability, Sampling, Usage
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    call_records,
    constant_reply,
    make_run,
    upstream,
)
from tests.calls.calls_support import lease_request, settle

FAULTS: list[Fault] = ["interrupt", "unavailable", "refuse"]
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 200),
        "max_prompt_tokens": st.integers(1, 120),
        "max_calls": st.integers(1, 6),
        "max_samples": st.integers(1, 10),
        "max_cost": st.integers(1, 300).map(lambda millionths: millionths / 1e6),
    },
)


@dataclass
class World:
    """A run over an engine with random lengths and faults."""

    seed: int
    limits: dict[str, Any]
    n: int
    width: int
    cap: int
    prompt: int
    stop: str
    faults: float
    per_delta: int
    is_counted: bool
    deadline: int | None
    engine: ScriptedEngine = field(init=False)

    def __post_init__(self) -> None:
        lacking: set[Capability] = set() if self.is_counted else {"token_counts"}
        self.engine = ScriptedEngine(
            self.script,
            tokens_per_delta=self.per_delta,
            lacking=frozenset(lacking),
            per_token=0.0001,
        )

    def script(self, _: Call, index: int) -> Reply:
        """Return up to 60 words with an answer, an empty text, or a fault."""
        rng = random.Random(f"{self.seed}-{index}-{len(self.engine.calls)}")
        words = " ".join(["word"] * rng.randint(0, 60))
        text = f"{words} \\boxed{{{rng.randint(1, 3)}}}" if rng.random() > 0.1 else ""
        is_faulty = rng.random() < self.faults
        return Reply(text, fault=rng.choice(FAULTS) if is_faulty else None)

    def check(self, backend: str) -> None:
        """Execute the run and assert its invariants."""
        run = anyio.run(self._execute, backend=backend)
        assert_accounting_is_complete(run, self.engine)
        assert run.budget.spent["calls"] == len(self.engine.calls)
        if (most := self.limits.get("max_tokens")) is not None:
            assert self.engine.delivered <= most
            assert run.budget.spent["tokens"] + run.budget.withheld["tokens"] <= most
        if (most := self.limits.get("max_samples")) is not None:
            assert run.budget.spent["samples"] <= most

    async def _execute(self) -> LiveRun:
        run = make_run(
            upstream(self.engine, attempts=2),
            "self_consistency",
            {"n": self.n, "width": self.width, "stop": self.stop},
            question=" ".join(["word"] * self.prompt),
            prices={"actor": Price(prompt=1.0, completion=3.0)},
            sampling=Sampling(max_tokens=self.cap),
            deadline_ms=self.deadline,
            **self.limits,
        )
        try:
            await execute(run)
        except (NoAnswer, CallRejected):
            assert not run.has_answer
        return run


WORLDS = st.builds(
    World,
    seed=st.integers(0, 2**16),
    limits=LIMITS,
    n=st.integers(1, 8),
    width=st.integers(1, 8),
    cap=st.integers(1, 80),
    prompt=st.sampled_from([5, 60]),
    stop=st.sampled_from(["adaptive", "esc", "lead", "none"]),
    faults=st.sampled_from([0.0, 0.3, 1.0]),
    per_delta=st.sampled_from([1, 3, 16]),
    is_counted=st.booleans(),
    deadline=st.sampled_from([None, None, 2, 10]),
)
PROPERTY = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_run_exceeds_a_limit_or_leaves_leases_and_streams_open(
    backend: str,
) -> None:
    @PROPERTY
    @given(WORLDS)
    def check(world: World) -> None:
        world.check(backend)

    check()


def test_the_invariants_fail_without_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "committed", lambda *_: 0)

    # Any failure is enough: shrinking takes seconds, and several failures would raise a group.
    # A deadline would make a failure depend on timing, which Hypothesis reports as flaky.
    @settings(PROPERTY, phases=[Phase.generate], report_multiple_bugs=False)
    @given(WORLDS.map(lambda world: replace(world, deadline=None)))
    def check(world: World) -> None:
        world.check("asyncio")

    with pytest.raises(AssertionError):
        check()


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_the_first_call_takes_whatever_budget_is_left() -> None:
    lease = await Budget(Limits(max_tokens=50)).lease(lease_request(expected=300))
    assert lease.cap == 50


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_call_without_its_expected_length_does_not_start() -> None:
    budget = Budget(Limits(max_tokens=100))
    first = await budget.lease(lease_request(expected=60))
    first.settle(Usage(completion=60))
    with pytest.raises(BudgetExhausted) as error:
        await budget.lease(lease_request(expected=60))
    assert error.value.kind == "tokens"
    assert budget.spent["calls"] == 1


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_call_waits_until_siblings_release_enough() -> None:
    budget = Budget(Limits(max_tokens=100))
    first = await budget.lease(lease_request(expected=80))
    second: list[Lease] = []

    async def wait() -> None:
        second.append(await budget.lease(lease_request(expected=60)))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not second
        first.settle(Usage(completion=10))
    assert second[0].cap == 90


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_lease_covers_every_token_that_its_call_requests() -> None:
    budget = Budget(Limits(max_tokens=100))
    lease = await budget.lease(lease_request(expected=10, cap=20, n=3))
    assert (lease.cap, budget.committed("tokens"), budget.left("tokens")) == (20, 60, 40)
    second = await budget.lease(lease_request(expected=10, cap=20, n=3))
    assert (second.cap, second.is_reduced, budget.left("tokens")) == (13, True, 1)
    lease.take(11)
    assert (budget.committed("tokens"), budget.left("tokens")) == (49 + 39, 1)
    lease.settle(Usage(completion=12))
    assert (budget.spent["tokens"], budget.left("tokens")) == (12, 49)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_tokens_beyond_a_lease_are_charged_and_are_an_overrun_only_beyond_the_limit() -> None:
    budget = Budget(Limits(max_tokens=100))
    lease = await budget.lease(lease_request(expected=10, cap=20))
    sibling = await budget.lease(lease_request(expected=10, cap=30))
    lease.take(50)
    assert (lease.overrun, budget.exceeded, budget.left("tokens")) == (0, None, 20)
    lease.settle(Usage(completion=75))
    assert (lease.overrun, lease.exceeded, budget.exceeded) == (5, "tokens", "tokens")
    assert sibling.exceeded is None
    with pytest.raises(BudgetExhausted, match="tokens"):
        await budget.lease(lease_request(expected=1))
    sibling.settle(Usage(completion=30))
    assert (budget.spent["tokens"], budget.overrun("tokens")) == (105, 5)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_no_call_starts_after_an_overrun_even_if_siblings_release_their_leases() -> None:
    budget = Budget(Limits(max_tokens=100))
    lease = await budget.lease(lease_request(expected=10, cap=20))
    sibling = await budget.lease(lease_request(expected=10, cap=80))
    async with anyio.create_task_group() as group:
        waiting: list[str] = []

        async def wait() -> None:
            with pytest.raises(BudgetExhausted):
                await budget.lease(lease_request(expected=10))
            waiting.append("refused")

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not waiting
        lease.settle(Usage(completion=21))
    assert waiting == ["refused"]
    sibling.settle(Usage(completion=1))
    assert budget.overrun("tokens") == 0
    with pytest.raises(BudgetExhausted):
        await budget.lease(lease_request(expected=10))


@pytest.mark.anyio
@ON_BOTH_BACKENDS
@pytest.mark.parametrize(
    ("limits", "kind", "overrun"),
    [
        ({"max_prompt_tokens": 60}, "prompt_tokens", 30),
        ({"max_cost": 0.00008}, "cost", 10),
        ({"max_cost": 0.00008, "max_prompt_tokens": 60}, "prompt_tokens", 30),
        ({}, None, 0),
    ],
)
async def test_prompt_tokens_beyond_a_lease_are_an_overrun_of_their_limit(
    limits: dict[str, Any], kind: str | None, overrun: int
) -> None:
    budget = Budget(Limits(**limits))
    request = LeaseRequest(
        prompt_tokens=50, cap=10, expected=lambda: 10, price=Price(prompt=1.0, completion=1.0)
    )
    lease = await budget.lease(request)
    lease.settle(Usage(prompt=90, completion=0))
    assert (lease.overrun, budget.exceeded, budget.spent["prompt_tokens"]) == (overrun, kind, 90)
    assert not budget.holdings


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_the_rest_of_a_lease_without_reported_usage_is_withheld() -> None:
    budget = Budget(Limits(max_tokens=100))
    lease = await budget.lease(lease_request(expected=10, cap=40))
    lease.settle(Usage(completion=15), is_known=False)
    assert (budget.spent["tokens"], budget.withheld["tokens"], lease.withheld) == (15, 25, 25)
    assert (budget.left("tokens"), budget.holdings) == (60, set())
    second = await budget.lease(lease_request(expected=10))
    assert second.cap == 60
    second.settle(Usage(completion=1000), is_known=False)  # an estimate never exceeds the lease
    assert (second.overrun, budget.spent["tokens"], budget.left("tokens")) == (0, 75, 0)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_costs_are_exact() -> None:
    price = Price(prompt=0.1, completion=0.3)
    budget = Budget(Limits(max_cost=0.0000031))
    lease = await budget.lease(
        LeaseRequest(prompt_tokens=1, cap=100, expected=lambda: 100, price=price)
    )
    assert lease.cap == 10
    lease.take(10)
    lease.settle(Usage(prompt=1, completion=10))
    assert budget.spent["cost"] == budget.limit["cost"]
    assert (budget.overrun("cost"), budget.exceeded) == (0, None)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
@pytest.mark.parametrize("stop", ["none", "lead"])
async def test_an_engine_without_streamed_counts_never_exceeds_the_limit(stop: str) -> None:
    engine = ScriptedEngine(constant_reply("word " * 60), lacking=frozenset({"token_counts"}))
    run = make_run(
        engine,
        "self_consistency",
        {"n": 8, "width": 8, "stop": stop},
        sampling=Sampling(max_tokens=30),
        max_tokens=40,
    )
    await settle(run)
    assert 0 < engine.delivered <= 40
    assert engine.delivered == run.budget.spent["tokens"]
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
@pytest.mark.parametrize("is_streamed", [False, True], ids=["restarted", "continued"])
@pytest.mark.parametrize("limit", [{"max_prompt_tokens": 100}, {"max_cost": 0.00013}])
async def test_a_retry_needs_budget_like_a_first_attempt(
    limit: dict[str, Any], *, is_streamed: bool
) -> None:
    first = iter(["interrupt"])
    engine = ScriptedEngine(lambda *_: Reply("one two three four", fault=next(first, None)))  # type: ignore[arg-type]
    run = make_run(
        upstream(engine, attempts=3),
        question=" ".join(["word"] * 60),
        prices={"actor": Price(prompt=1.0, completion=1.0)},
        is_streamed=is_streamed,
        **limit,
    )
    await settle(run)
    assert len(engine.calls) == run.budget.spent["calls"] == 1
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_an_interrupted_attempt_without_streamed_counts_is_charged_what_it_delivered() -> (
    None
):
    faults = iter(["interrupt", "interrupt"])
    engine = ScriptedEngine(
        lambda *_: Reply("word " * 20, fault=next(faults, None)),  # type: ignore[arg-type]
        lacking=frozenset({"token_counts"}),
    )
    run = make_run(upstream(engine, attempts=3), sampling=Sampling(max_tokens=25), max_tokens=200)
    await settle(run)
    assert [record.is_estimated for record in call_records(run)] == [True, True, False]
    assert [record.usage.completion for record in call_records(run)] == [11, 11, 21]
    assert [record.wasted for record in call_records(run)] == [11, 11, 0]
    assert [record.withheld for record in call_records(run)] == [14, 14, 0]
    assert run.budget.withheld["tokens"] == 28
    assert run.budget.spent["samples"] == 1
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_retry_beyond_the_budget_is_not_charged() -> None:
    engine = ScriptedEngine(
        lambda *_: Reply("word word", fault="interrupt"), lacking=frozenset({"token_counts"})
    )
    run = make_run(upstream(engine, attempts=3), max_tokens=2)
    await settle(run)
    (record,) = call_records(run)
    assert len(engine.calls) == record.attempts == 1
    assert run.budget.spent["prompt_tokens"] == await engine.count_prompt(engine.calls[0])
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("prefix", [(), (7, 8, 9), (7, "ab", 9), "abc"])
def test_the_prompt_bound_counts_prefix_ids_and_bytes(prefix: Any) -> None:
    call = Call(role="actor", purpose="solve", messages=())
    size = {(): 0, (7, 8, 9): 3, (7, "ab", 9): 4, "abc": 3}[prefix]
    assert text_bound(replace(call, prefix=prefix)) - text_bound(call) == size

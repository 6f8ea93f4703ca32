"""Prompt counts, label reads and rewards: retried, admitted and charged like other calls."""

import math
from dataclasses import replace

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    EngineError,
    EngineUnavailable,
    StreamInterrupted,
    UnusableCompletion,
    VerdictUnreadable,
)
from secondpass.strategies.api.values import ReportedUsage
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, CallHarness, PlannedEngine, counting

pytestmark = pytest.mark.anyio


@ON_BOTH_BACKENDS
async def test_a_failed_prompt_count_is_retried_with_a_slot() -> None:
    in_flight: list[int] = []

    class Dropping(PlannedEngine):
        async def count_prompt(self, call: Call) -> int:
            in_flight.append(harness.upstream.admission.in_flight)
            if len(in_flight) == 1:
                raise EngineUnavailable("/tokenize was dropped")
            return await super().count_prompt(call)

    harness = CallHarness(Dropping(plan=counting()), {"max_prompt_tokens": 20}, slots=1)
    await harness.perform()
    assert in_flight == [1, 1]
    assert harness.texts == ["one two three four"]
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_prompt_count_that_always_fails_fails_the_call() -> None:
    counts = 0

    class Down(PlannedEngine):
        async def count_prompt(self, call: Call) -> int:
            nonlocal counts
            counts += 1
            raise EngineUnavailable("down", role=None)

    harness = CallHarness(Down(), {"max_prompt_tokens": 20})
    with pytest.raises(EngineUnavailable) as error:
        await harness.perform()
    assert counts == harness.attempts == 3
    assert harness.failures == [error.value]
    assert error.value.role == "actor"
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_label_read_without_a_likely_label_is_unreadable() -> None:
    read = Delta(tokens=1, labels={"A": 0.0, "B": 0.0}, finish_reason="stop")
    harness = CallHarness(PlannedEngine(plan=lambda *_: [read]))
    with pytest.raises(VerdictUnreadable) as error:
        await harness.calls.read(replace(CALL, role="judge", labels=("A", "B")))
    assert error.value.role == "judge"
    assert [(record.end, record.labels) for record in harness.records] == [("finished", None)]
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_an_interrupted_label_read_is_retried() -> None:
    read = Delta(tokens=1, labels={"A": 0.3, "B": 0.1}, finish_reason="stop")
    harness = CallHarness(
        PlannedEngine(plan=lambda _, number: [read if number else StreamInterrupted("interrupted")])
    )
    labels = await harness.calls.read(replace(CALL, role="judge", labels=("A", "B")))
    assert labels.probabilities == pytest.approx({"A": 0.75, "B": 0.25})
    assert labels.mass == pytest.approx(0.4)
    assert harness.wasted == 0
    assert harness.records[-1].labels == labels
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_missing_label_read_or_reward_fails_the_call() -> None:
    harness = CallHarness(PlannedEngine(plan=lambda *_: [Delta(text="yes", finish_reason="stop")]))
    with pytest.raises(UnusableCompletion, match="no label probabilities"):
        await harness.calls.read(replace(CALL, role="judge", labels=("A", "B")))
    with pytest.raises(UnusableCompletion, match="no reward"):
        await harness.calls.reward(replace(CALL, role="reward", reward=True))
    assert [failure.role for failure in harness.failures] == ["judge", "reward"]  # type: ignore[attr-defined]


@ON_BOTH_BACKENDS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_a_reward_that_is_not_finite_fails_the_call(value: float) -> None:
    harness = CallHarness(ScriptedEngine(lambda *_: Reply("", reward=value)))
    with pytest.raises(UnusableCompletion, match="no reward that is finite"):
        await harness.calls.reward(replace(CALL, role="reward", reward=True))
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_label_probability_that_is_not_a_number_is_an_unreadable_verdict() -> None:
    harness = CallHarness(ScriptedEngine(lambda *_: Reply("", labels={"A": math.nan, "B": 0.5})))
    with pytest.raises(VerdictUnreadable):
        await harness.calls.read(replace(CALL, role="judge", labels=("A", "B")))
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_a_reward_is_not_charged_as_a_sample() -> None:
    harness = CallHarness(ScriptedEngine(), {"max_samples": 1})
    reward = await harness.calls.reward(replace(CALL, role="reward", reward=True))
    assert reward == 0.0
    assert harness.budget.spent["samples"] == 0
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_an_interrupted_reward_is_retried_without_returning_a_sample() -> None:
    scored = Delta(reward=2.5, finish_reason="stop", usage=ReportedUsage(prompt=9, completion=0))
    harness = CallHarness(
        PlannedEngine(
            plan=lambda _, number: [scored if number else StreamInterrupted("interrupted")]
        )
    )
    assert await harness.calls.reward(replace(CALL, role="reward", reward=True)) == 2.5
    assert harness.budget.spent["samples"] == 0
    assert [record.reward for record in harness.records] == [None, 2.5]
    harness.assert_consistent()


@pytest.mark.parametrize("index", [-1, 2])
@ON_BOTH_BACKENDS
async def test_a_delta_with_an_invalid_index_fails_the_call(index: int) -> None:
    harness = CallHarness(PlannedEngine(plan=lambda *_: [Delta(index=index, text="yes", tokens=1)]))
    with pytest.raises(EngineError, match="of 2 requested") as error:
        await harness.perform(replace(CALL, n=2))
    assert error.value.role == "actor"
    assert harness.wasted == 1
    harness.assert_consistent()


@pytest.mark.parametrize(
    ("ready", "has_any", "expected"),
    [(True, False, False), (False, True, False), (False, False, True)],
)
async def test_an_engine_that_never_responded_is_not_missing_capabilities(
    monkeypatch: pytest.MonkeyPatch, ready: bool, has_any: bool, expected: bool
) -> None:
    capabilities = frozenset({"prefix"}) if has_any else frozenset()
    monkeypatch.setattr(ScriptedEngine, "ready", ready)
    monkeypatch.setattr(ScriptedEngine, "capabilities", capabilities)
    assert CallHarness(PlannedEngine()).calls.can("actor", frozenset({"labels"})) is expected


async def test_each_attempt_starts_before_its_usage_record() -> None:
    harness = CallHarness(PlannedEngine(plan=counting([1])))
    await harness.perform(CALL)
    kinds = [type(event).__name__ for event in harness.trace.events]
    assert kinds == ["CallStarted", "CallFinished"] * 2

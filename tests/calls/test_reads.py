"""Counts of prompts, label reads and rewards: attempted again, admitted and counted like any call."""

from dataclasses import replace
from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    EngineError,
    EngineUnavailable,
    StreamInterrupted,
    UnusableCompletion,
    VerdictUnreadable,
)
from secondpass.strategies.api.values import Usage
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, Books, PlannedEngine, counting

pytestmark = pytest.mark.anyio


def faulty(*cuts: int | None, **how: Any) -> Books:
    return Books(PlannedEngine(plan=counting(cuts, **how)))


@ON_BOTH_BACKENDS
async def test_a_dropped_count_of_the_prompt_is_attempted_again_with_a_slot() -> None:
    held: list[int] = []

    class Dropping(PlannedEngine):
        async def count_prompt(self, call: Call) -> int:
            held.append(books.upstream.admission.in_flight)
            if len(held) == 1:
                raise EngineUnavailable("/tokenize was dropped")
            return await super().count_prompt(call)

    books = Books(Dropping(plan=counting()), {"max_prompt_tokens": 20}, places=1)
    await books.perform()
    assert held == [1, 1]
    assert books.texts == ["one two three four"]
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_count_of_the_prompt_that_keeps_failing_fails_the_call() -> None:
    counts = 0

    class Down(PlannedEngine):
        async def count_prompt(self, call: Call) -> int:
            nonlocal counts
            counts += 1
            raise EngineUnavailable("down", role=None)

    books = Books(Down(), {"max_prompt_tokens": 20})
    with pytest.raises(EngineUnavailable) as error:
        await books.perform()
    assert counts == books.attempts == 3
    assert books.failures == [error.value]
    assert error.value.role == "actor"
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_read_without_a_likely_label_is_unreadable_though_its_call_finished() -> None:
    read = Delta(tokens=1, labels={"A": 0.0, "B": 0.0}, finish_reason="stop")
    books = Books(PlannedEngine(plan=lambda *_: [read]))
    with pytest.raises(VerdictUnreadable) as error:
        await books.calls.read(replace(CALL, role="judge", labels=("A", "B")))
    assert error.value.role == "judge"
    assert [(bill.end, bill.labels) for bill in books.bills] == [("finished", None)]
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_read_that_broke_is_read_again_and_used() -> None:
    read = Delta(tokens=1, labels={"A": 0.3, "B": 0.1}, finish_reason="stop")
    books = Books(
        PlannedEngine(plan=lambda _, number: [read if number else StreamInterrupted("interrupted")])
    )
    labels = await books.calls.read(replace(CALL, role="judge", labels=("A", "B")))
    assert labels.probabilities == pytest.approx({"A": 0.75, "B": 0.25})
    assert labels.mass == pytest.approx(0.4)
    assert books.wasted == 0
    assert books.bills[-1].labels == labels
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_an_engine_that_returns_no_labels_and_no_reward_fails() -> None:
    books = Books(PlannedEngine(plan=lambda *_: [Delta(text="yes", finish_reason="stop")]))
    with pytest.raises(UnusableCompletion, match="no label probabilities"):
        await books.calls.read(replace(CALL, role="judge", labels=("A", "B")))
    with pytest.raises(UnusableCompletion, match="no reward"):
        await books.calls.reward(replace(CALL, role="reward", reward=True))
    assert [failure.role for failure in books.failures] == ["judge", "reward"]  # type: ignore[attr-defined]


@ON_BOTH_BACKENDS
async def test_a_reward_is_read_and_costs_no_sample() -> None:
    books = Books(ScriptedEngine(), {"max_samples": 1})
    reward = await books.calls.reward(replace(CALL, role="reward", reward=True))
    assert reward == 0.0
    assert books.budget.spent["samples"] == 0
    books.assert_closed()


@ON_BOTH_BACKENDS
async def test_a_reward_that_broke_is_asked_for_again_and_returns_no_sample() -> None:
    scored = Delta(reward=2.5, finish_reason="stop", usage=Usage(prompt=9))
    books = Books(
        PlannedEngine(
            plan=lambda _, number: [scored if number else StreamInterrupted("interrupted")]
        )
    )
    assert await books.calls.reward(replace(CALL, role="reward", reward=True)) == 2.5
    assert books.budget.spent["samples"] == 0
    assert [bill.reward for bill in books.bills] == [None, 2.5]
    books.assert_closed()


@pytest.mark.parametrize("index", [-1, 2])
@ON_BOTH_BACKENDS
async def test_a_delta_of_a_completion_that_was_not_asked_for_fails_the_call(index: int) -> None:
    books = Books(PlannedEngine(plan=lambda *_: [Delta(index=index, text="yes", tokens=1)]))
    with pytest.raises(EngineError, match="of 2 asked for") as error:
        await books.perform(replace(CALL, n=2))
    assert error.value.role == "actor"
    assert books.wasted == 1
    books.assert_closed()


@pytest.mark.parametrize(
    ("ready", "has_any", "can"), [(True, False, False), (False, True, False), (False, False, True)]
)
async def test_an_engine_that_has_not_answered_lacks_nothing_yet(
    monkeypatch: pytest.MonkeyPatch, ready: bool, has_any: bool, can: bool
) -> None:
    found = frozenset({"prefix"}) if has_any else frozenset()
    monkeypatch.setattr(ScriptedEngine, "ready", ready)
    monkeypatch.setattr(ScriptedEngine, "capabilities", found)
    assert Books(PlannedEngine()).calls.can("actor", frozenset({"labels"})) is can


async def test_each_attempt_is_announced_before_it_is_billed() -> None:
    books = Books(PlannedEngine(plan=counting([1])))
    await books.perform(CALL)
    kinds = [type(event).__name__ for event in books.trace.events]
    assert kinds == ["CallStarted", "CallFinished"] * 2

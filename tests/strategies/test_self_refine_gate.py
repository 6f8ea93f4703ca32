"""Whatever the settings: no answer of self_refine is one that nothing but its own revision speaks for."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE
from secondpass.strategies.self_refine import SelfRefine
from secondpass.testing.support import MATH, OPEN, assert_accounting_is_complete, make_run

ANSWERS = ("1", "2", "3", "4", None)
PARAMS = {
    name: st.sampled_from(values)
    for name, values in {
        "n": (1, 1, 2, 3),
        "max_rounds": (1, 2, 3),
        "feedback": ("auto", "review", "tests", "neutral", "none"),
        "merged": (False, False, True),
        "history": ("auto", "last", "full", "feedback_only"),
        "stop": ("either", "verdict", "unchanged", "never"),
        "gate": ("auto", "tests", "vote", "prefer", "draw"),
        "rejected": ("stop", "go_on"),
    }.items()
}


def settings_that_make_sense(params: Mapping[str, Any]) -> bool:
    try:
        SelfRefine(**params)
    except ValidationError:
        return False
    return True


class Told:
    """An engine's script, by chance, which remembers the answers of drafts, of later draws, and of each chain's revisions.

    Its judge likes larger numbers better.
    """

    def __init__(self, params: SelfRefine, seed: int) -> None:
        self._params = params
        self._seed = seed
        self.drafts: dict[int, str | None] = {}
        self.drawn: set[str | None] = set()
        self.revised: dict[int, set[str | None]] = {}

    def __call__(self, call: Call, index: int) -> Reply:
        chance = random.Random(repr((self._seed, call.purpose, index)))
        if call.purpose == "feedback":
            verdict = chance.choice(("ok", "revise", "revise", "revise", "?"))
            return Reply(json.dumps({"issues": ["a step"], "verdict": verdict}))
        if call.purpose == "prefer":
            prompt = call.messages[-1].text
            first, second = prompt.split("[CANDIDATE B")[:2]
            is_a = value_in(first) > value_in(second)
            return Reply("", labels={"A": 0.95 if is_a else 0.05, "B": 0.05 if is_a else 0.95})
        answer = chance.choice(ANSWERS)
        if call.purpose != SOLVE:
            self.revised.setdefault((index - 1) // self._params.max_rounds, set()).add(answer)
        elif index < self._params.n:
            self.drafts[index] = answer
        else:
            self.drawn.add(answer)
        if answer is None:
            return Reply(f"I do not know, say I, {call.purpose} {chr(97 + index)}.")
        return Reply(f"By {call.purpose} {index}. The answer is \\boxed{{{answer}}}.")

    def speaks_for(self, answer: str | None) -> bool:
        """Does anything but one revision speak for the answer?"""
        if answer in self.drafts.values() or answer in self.drawn:
            return True
        if sum(answer in each for each in self.revised.values()) > 1:
            return True
        return not any(self.drafts.values()) and self._params.n > 1


def solved(params: SelfRefine, told: Told, task: Task) -> Outcome:
    async def solve() -> Outcome:
        engine = ScriptedEngine(told)
        run = make_run(engine, "self_refine", params.model_dump(), task=task)
        outcome = await execute(run)
        assert_accounting_is_complete(run, engine)
        return outcome

    return anyio.run(solve)


def value_in(prompt: str) -> int:
    """The answer of a candidate in a judge's prompt; 0 for none."""
    return max((int(value) for value in "1234" if f"{{{value}}}" in prompt), default=0)


@settings(max_examples=100)
@given(st.fixed_dictionaries(PARAMS).filter(settings_that_make_sense), st.integers(0, 10**6))
def test_the_answer_is_never_the_last_one_unless_it_passed_the_gate(
    params: dict[str, Any], seed: int
) -> None:
    wanted = SelfRefine(**params)
    told = Told(wanted, seed)
    answer = solved(wanted, told, MATH).candidate.answer
    if wanted.gate == "prefer":
        least = min(int(value or 0) for value in told.drafts.values())
        assert answer in told.drafts.values() or int(answer or 0) > least
    else:
        assert told.speaks_for(answer)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(PARAMS | {"n": st.just(1)}).filter(settings_that_make_sense),
    st.integers(0, 10**6),
)
def test_in_an_open_task_only_the_judge_replaces_a_draft(params: dict[str, Any], seed: int) -> None:
    wanted = SelfRefine(**params)
    told = Told(wanted, seed)
    chosen = solved(wanted, told, OPEN).candidate.text
    is_first = chosen.startswith((f"By {SOLVE} 0", f"I do not know, say I, {SOLVE} a"))
    assert is_first or value_in(chosen) > int(told.drafts[0] or 0)

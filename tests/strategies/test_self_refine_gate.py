"""Property tests: no setting of self_refine returns an answer that only its own revision supports."""

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


def are_valid(params: Mapping[str, Any]) -> bool:
    try:
        SelfRefine(**params)
    except ValidationError:
        return False
    return True


class RandomScript:
    """Script with random replies that records the answers of drafts, later draws and revisions per chain.

    Its judge prefers larger numbers.
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

    def supports(self, answer: str | None) -> bool:
        """Return whether anything other than a single revision supports the answer."""
        if answer in self.drafts.values() or answer in self.drawn:
            return True
        if sum(answer in each for each in self.revised.values()) > 1:
            return True
        return not any(self.drafts.values()) and self._params.n > 1


def solved(params: SelfRefine, script: RandomScript, task: Task) -> Outcome:
    async def solve() -> Outcome:
        engine = ScriptedEngine(script)
        run = make_run(engine, "self_refine", params.model_dump(), task=task)
        outcome = await execute(run)
        assert_accounting_is_complete(run, engine)
        return outcome

    return anyio.run(solve)


def value_in(prompt: str) -> int:
    """Return the answer of a candidate in a judge's prompt; 0 without an answer."""
    return max((int(value) for value in "1234" if f"{{{value}}}" in prompt), default=0)


@settings(max_examples=100)
@given(st.fixed_dictionaries(PARAMS).filter(are_valid), st.integers(0, 10**6))
def test_a_revision_is_never_the_answer_unless_it_passed_the_gate(
    params: dict[str, Any], seed: int
) -> None:
    refine_params = SelfRefine(**params)
    script = RandomScript(refine_params, seed)
    answer = solved(refine_params, script, MATH).candidate.answer
    if refine_params.gate == "prefer":
        smallest = min(int(value or 0) for value in script.drafts.values())
        assert answer in script.drafts.values() or int(answer or 0) > smallest
    else:
        assert script.supports(answer)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(PARAMS | {"n": st.just(1)}).filter(are_valid),
    st.integers(0, 10**6),
)
def test_in_an_open_task_only_the_judge_replaces_a_draft(params: dict[str, Any], seed: int) -> None:
    refine_params = SelfRefine(**params)
    script = RandomScript(refine_params, seed)
    chosen = solved(refine_params, script, OPEN).candidate.text
    is_first = chosen.startswith((f"By {SOLVE} 0", f"I do not know, say I, {SOLVE} a"))
    assert is_first or value_in(chosen) > int(script.drafts[0] or 0)

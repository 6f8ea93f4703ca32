"""Gates of self_refine, deciding both ways, over the scripted engine."""

from __future__ import annotations

import json

import pytest

from secondpass.service.engines.scripted import Reply, Script, ScriptedEngine
from secondpass.service.execute import execute
from secondpass.strategies.core import SOLVE, Call
from tests.support import assert_books_are_closed, make_run

pytestmark = pytest.mark.anyio


def script(
    *, verdict: str = "revise", revised: str = "42", third: str = "42", likes: bool = True
) -> Script:
    """The first draft says 41; what comes later is as told."""

    def reply(call: Call, index: int) -> Reply:
        if call.purpose == "feedback":
            return Reply(json.dumps({"issues": ["step 1"], "verdict": verdict}))
        if call.purpose == "prefer":
            shown = call.messages[-1].text
            is_first = (shown.find(f"{{{revised}}}") < shown.find("{41}")) == likes
            return Reply("", labels={"A": 0.9 if is_first else 0.1, "B": 0.1 if is_first else 0.9})
        value = revised if call.purpose == "refine" else third if index else "41"
        return Reply(f"Round {call.purpose}. The answer is \\boxed{{{value}}}.")

    return reply


@pytest.mark.parametrize(
    ("gate", "told", "answer"),
    [
        ("auto", {}, "42"),
        ("auto", {"third": "41"}, "41"),
        ("draw", {"third": "7"}, "41"),
        ("prefer", {}, "42"),
        ("prefer", {"likes": False}, "41"),
        ("auto", {"verdict": "ok"}, "41"),
        ("auto", {"verdict": "perhaps"}, "41"),
    ],
)
async def test_a_revision_counts_only_if_it_passes_the_gate(
    gate: str, told: dict[str, str], answer: str
) -> None:
    engine = ScriptedEngine(script(**told))  # type: ignore[arg-type]
    run = make_run(engine, "self_refine", {"gate": gate})
    outcome = await execute(run)
    assert outcome.candidate.answer == answer
    assert_books_are_closed(run, engine)


async def test_an_unchanged_answer_ends_it_without_a_gate() -> None:
    engine = ScriptedEngine(script(revised="41"))
    run = make_run(engine, "self_refine", {"max_rounds": 3})
    assert (await execute(run)).candidate.answer == "41"
    assert [call.purpose for call in engine.calls] == [SOLVE, "feedback", "refine"]


async def test_a_budget_that_ends_in_a_revision_leaves_the_draft() -> None:
    engine = ScriptedEngine(script())
    run = make_run(engine, "self_refine", max_calls=2)
    outcome = await execute(run)
    assert outcome.candidate.answer == "41"
    assert_books_are_closed(run, engine)

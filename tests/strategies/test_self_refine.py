"""self_refine with a scripted engine: gates, stop conditions, votes, presets and invalid params."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE
from secondpass.strategies.self_refine import SelfRefine
from secondpass.testing.support import OPEN, assert_accounting_is_complete, make_run
from tests.strategies.self_refine_script import purposes, refine, script

pytestmark = pytest.mark.anyio


# -- the gate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "replies", "answer"),
    [
        ("auto", {}, "42"),
        ("auto", {"drawn": "41"}, "41"),
        ("draw", {"drawn": "7"}, "41"),
        ("prefer", {}, "42"),
        ("prefer", {"prefers_revision": False}, "41"),
        ("auto", {"verdict": "ok"}, "41"),
        ("auto", {"verdict": "perhaps"}, "41"),
    ],
)
async def test_a_revision_counts_only_if_it_passes_the_gate(
    gate: str, replies: dict[str, Any], answer: str
) -> None:
    outcome, _ = await refine({"gate": gate}, **replies)
    assert outcome.candidate.answer == answer


async def test_a_rejected_revision_ends_the_refinement_or_is_revised_further() -> None:
    replies = {"revised": "7 42", "drawn": "42"}
    outcome, calls = await refine({"max_rounds": 3}, **replies)
    assert outcome.candidate.answer == "41"
    assert outcome.notes["stopped"] == "a revision was rejected"
    outcome, calls = await refine({"max_rounds": 3, "rejected": "go_on"}, **replies)
    assert outcome.candidate.answer == "42"
    assert outcome.notes["gate"] == "revision 2 was accepted"
    assert purposes(calls).count("retry") == 3


async def test_a_greedy_draft_is_confirmed_by_a_draw_above_temperature_0() -> None:
    _, calls = await refine({"temperature": 0})
    assert [call.sampling.temperature for call in calls if call.purpose == SOLVE] == [0, 0.7]


async def test_in_an_open_task_the_judge_replaces_the_gate_draw() -> None:
    def reply(call: Call, index: int) -> Reply:
        if call.purpose == "prefer":
            return Reply("", labels={"A": 0.5, "B": 0.5})
        return Reply(f"{call.purpose} {index}" if call.purpose != "feedback" else json.dumps(
            {"issues": ["dull"], "verdict": "revise"}
        ))  # fmt: skip

    run = make_run(ScriptedEngine(reply), "self_refine", {"gate": "draw"}, task=OPEN)
    outcome = await execute(run)
    assert outcome.candidate.text == "solve 0"
    assert "the judge decides" in outcome.notes["gate draw"]


async def test_a_judge_with_a_position_bias_accepts_nothing() -> None:
    def reply(call: Call, index: int) -> Reply:
        if call.purpose != "prefer":
            return script()(call, index)
        first, _ = call.messages[-1].text.split("[CANDIDATE B")
        # The judge prefers the revision slightly, and the first position strongly.
        p = 0.99 if "{42}" in first else 0.9
        return Reply("", labels={"A": p, "B": 1 - p})

    run = make_run(ScriptedEngine(reply), "self_refine", {"gate": "prefer"})
    outcome = await execute(run)
    assert outcome.candidate.answer == "41"
    assert outcome.notes["gate"] == "revision 1 was rejected"


async def test_a_truncated_revision_never_replaces_an_open_answer() -> None:
    def reply(call: Call, index: int) -> Reply:
        if call.purpose == "prefer":
            is_a = "more" in call.messages[-1].text.split("[CANDIDATE B")[0]
            return Reply("", labels={"A": 0.95 if is_a else 0.05, "B": 0.05 if is_a else 0.95})
        if call.purpose == "feedback":
            return Reply('{"issues": ["dull"], "verdict": "revise"}')
        words = (f"more{i}" for i in range(300))  # truncated at 256 tokens
        return Reply("Short." if call.purpose == SOLVE else " ".join(words))

    run = make_run(ScriptedEngine(reply), "self_refine", task=OPEN)
    outcome = await execute(run)
    assert outcome.candidate.text == "Short."
    assert outcome.notes["gate"] == "revision 1 was rejected"


# -- stop conditions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "replies", "revisions"),
    [
        ("either", {"revised": "41"}, 1),
        ("either", {"verdict": "ok"}, 0),
        ("unchanged", {"revised": "41"}, 1),
        ("unchanged", {"verdict": "ok", "revised": "41"}, 1),
        ("verdict", {"revised": "41"}, 3),
        ("verdict", {"verdict": "ok"}, 0),
        ("never", {"revised": "41"}, 3),
        ("never", {"verdict": "ok", "revised": "41"}, 3),
    ],
)
async def test_stop_selects_the_stop_condition(
    stop: str, replies: dict[str, Any], revisions: int
) -> None:
    outcome, calls = await refine({"max_rounds": 3, "stop": stop}, **replies)
    assert outcome.candidate.answer == "41"
    assert purposes(calls).count("retry") == revisions
    assert purposes(calls).count(SOLVE) == 1  # no gate was called


@pytest.mark.parametrize(
    ("fails", "note"),
    [
        ("feedback", ("stopped", "no readable review")),
        ("retry", ("stopped", "the revision failed")),
        ("solve 1", ("gate", "revision 1 was rejected")),
        ("prefer", ("gate", "revision 1 was rejected")),
    ],
)
async def test_a_note_reports_the_effect_of_a_failed_call(
    fails: str, note: tuple[str, str]
) -> None:
    complete = script()

    def reply(call: Call, index: int) -> Reply:
        if fails in (call.purpose, f"{call.purpose} {index}"):
            return Reply("", fault="refuse")
        return complete(call, index)

    gate = "prefer" if fails == "prefer" else "draw"
    run = make_run(ScriptedEngine(reply), "self_refine", {"gate": gate})
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("41", "finished")
    assert outcome.notes[note[0]] == note[1]
    assert outcome.degraded


async def test_a_failed_gate_rejects_one_revision_and_not_the_next() -> None:
    complete = script(revised="42 43", drawn="42 43")

    def reply(call: Call, index: int) -> Reply:
        is_first_gate = (call.purpose, index) == (SOLVE, 1)
        return Reply("", fault="refuse") if is_first_gate else complete(call, index)

    params = {"gate": "draw", "max_rounds": 2, "rejected": "go_on"}
    outcome = await execute(make_run(ScriptedEngine(reply), "self_refine", params))
    assert outcome.candidate.answer == "43"
    assert outcome.notes["gate"] == "revision 2 was accepted"


@pytest.mark.parametrize("calls", [1, 2, 3])
async def test_a_budget_exhausted_during_a_refinement_leaves_the_draft(calls: int) -> None:
    engine = ScriptedEngine(script())
    run = make_run(engine, "self_refine", max_calls=calls)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("41", "budget_calls")
    assert_accounting_is_complete(run, engine)


# -- several drafts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drafts", "revised", "answer"),
    [
        ("41 42 43", "42 42 42", "42"),
        ("41 41 41", "42 41 41", "41"),
        ("41 43 44", "42 42 44", "44"),  # 42 and 44 have 2 of 6 votes each, but only 44 is a draft
        ("41 43 44", "42 42 42", "42"),
        ("41 43 44", "45 46 47", "41"),  # no two answers agree: the first draft wins
    ],
)
async def test_drafts_and_revisions_vote(drafts: str, revised: str, answer: str) -> None:
    outcome, calls = await refine({"n": 3, "feedback": "neutral"}, drafts=drafts, revised=revised)
    assert outcome.candidate.answer == answer
    assert outcome.confidence_kind == "vote_share"
    assert purposes(calls).count(SOLVE) == purposes(calls).count("second_turn") == 3
    assert outcome.notes["changed"].endswith("of 3 chains")


async def test_a_chain_cannot_outvote_the_others_by_repeating_itself() -> None:
    outcome, _ = await refine(
        {"n": 2, "max_rounds": 4, "stop": "never", "feedback": "none"},
        drafts="41 43",
        revised="42 42 42 42 43 43 43 43",
    )
    assert outcome.candidate.answer == "43"


# -- presets and invalid params ------------------------------------------------------------------------


def presets() -> dict[str, dict[str, Any]]:
    """Return the presets of docs/strategies/self_refine.md by name."""
    page = (Path(__file__).parents[2] / "docs" / "strategies" / "self_refine.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.count("`{") == 1]
    return {row[1].strip(): json.loads(row[2].strip().strip("`")) for row in rows}


@pytest.mark.parametrize(
    ("name", "rounds", "calls"),
    [
        ("SELF", 1, {SOLVE: 2, "feedback": 1, "refine": 1}),
        ("SCoRe, two turns", 1, {SOLVE: 2, "second_turn": 1}),
        ("SCoRe, parallel", 1, {SOLVE: 8, "second_turn": 8}),
        ("ExIt", 4, {SOLVE: 2, "improve": 4}),
        ("Self-Refine", 4, {SOLVE: 2, "feedback": 4, "refine_full": 4}),
        ("Self-Refine, mathematics", 1, {SOLVE: 2, "review_and_refine": 2}),
    ],
)
async def test_a_preset_makes_the_calls_of_its_paper(
    name: str, rounds: int, calls: dict[str, int]
) -> None:
    params = presets()[name]
    assert SelfRefine(**params).max_rounds >= rounds
    outcome, calls_made = await refine(params, drafts="41", revised="42")
    assert Counter(purposes(calls_made)) == calls
    assert outcome.candidate.answer == "42"


def test_every_preset_is_tested() -> None:
    tested = next(
        mark.args[1]
        for mark in test_a_preset_makes_the_calls_of_its_paper.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    )
    assert set(presets()) == {each[0] for each in tested}


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"merged": True, "feedback": "neutral"}, "merged"),
        ({"merged": True, "feedback": "tests"}, "merged"),
        ({"merged": True, "history": "feedback_only"}, "history"),
        ({"feedback": "neutral", "history": "feedback_only"}, "history"),
        ({"feedback": "none", "history": "feedback_only"}, "history"),
        ({"merged": True, "stop": "verdict"}, "stop"),
        ({"feedback": "none", "stop": "verdict"}, "stop"),
        ({"n": 2, "temperature": 0}, "temperature"),
        ({"gate": "vote"}, "gate"),
        ({"rejected": "go_on"}, "rejected"),
        ({"max_rounds": 9}, "max_rounds"),
        ({"n": 0}, "n"),
    ],
)
def test_invalid_params_are_named(params: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SelfRefine(**params)
    (error,) = caught.value.errors()
    message = error["msg"].removeprefix("Value error, ")
    assert [*error["loc"], message.split(":")[0]][0] == field

"""Grades from what a judge writes: what it is shown, how its verdicts are read, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import VerdictUnreadable
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.quoting import has_tokens
from secondpass.strategies.api.ranking import log_odds
from secondpass.strategies.api.values import SOLVE, Completion
from secondpass.strategies.judging.written_grades import share_before, written_grade
from secondpass.strategies.self_prm import SelfPRM
from secondpass.testing.injections import INJECTIONS
from secondpass.testing.support import OPEN, assert_accounting_is_complete, make_run
from tests.strategies.test_self_prm import SPLIT, calibrated, notes

pytestmark = pytest.mark.anyio

OWN = "I count.\n\nIt is \\boxed{7}."
PARAMS = {"grade": "first_error", "width": 1}


@given(st.integers(1, 50), st.integers(-5, 60))
def test_the_share_is_of_the_steps_before_the_first_wrong_one(steps: int, wrong: int) -> None:
    assert share_before(None, steps) == 1
    if 1 <= wrong <= steps:
        assert 0 <= share_before(wrong, steps) == (wrong - 1) / steps < 1
    else:
        with pytest.raises(VerdictUnreadable, match=f"step {wrong} of {steps}"):
            share_before(wrong, steps)


def found(wrong: int | None) -> Reply:
    return Reply(json.dumps({"reason": "Look.", "first_wrong_step": wrong}))


def judged(verdict: Callable[[str, Call], Reply], own: Reply | None = None) -> ScriptedEngine:
    """Drafts of two steps that split over 41, 41, 42, 43; `verdict` reads the prompt; the judge's own solution is OWN."""

    def script(call: Call, index: int) -> Reply:
        if call.role == "judge":
            return own or Reply(OWN) if call.purpose == SOLVE else verdict(_said(call), call)
        return Reply(f"Let me see.\n\nSo \\boxed{{{SPLIT[index]}}}.")

    return ScriptedEngine(script)


def _said(call: Call) -> str:
    return call.messages[0].text


def prefers(right: str) -> Callable[[str, Call], Reply]:
    return lambda said, _: found(None if f"{{{right}}}" in said else 1)


def asked(engine: ScriptedEngine, prompt: str) -> list[Call]:
    return [call for call in engine.calls if call.purpose.startswith(prompt)]


def verdicts(engine: ScriptedEngine) -> list[Call]:
    return asked(engine, "first_error")


def run_of(engine: ScriptedEngine, params: dict[str, Any] | None = None, **more: Any) -> LiveRun:
    return calibrated(make_run(engine, "self_prm", PARAMS | (params or {}), **more))


@pytest.mark.parametrize("right", ["41", "42", "43"])
async def test_the_answer_without_a_wrong_step_wins(right: str) -> None:
    engine = judged(prefers(right))
    run = run_of(engine)
    assert (await execute(run)).candidate.answer == right
    assert len(verdicts(engine)) == (4 if right == "43" else 2)
    assert_accounting_is_complete(run, engine)


async def test_the_judge_reads_numbered_steps_and_one_reference_as_data() -> None:
    engine = judged(prefers("42"))
    run = run_of(engine)
    await execute(run)
    references = [call for call in engine.calls if call.role == "judge" and call.purpose == SOLVE]
    assert [call.messages for call in references] == [run.messages]
    for call in verdicts(engine):
        assert call.purpose == "first_error_reference"
        lines = _said(call).splitlines()
        marks = [line.rsplit(" ", 1)[0] for line in lines if line.startswith("[")]
        assert marks == [
            *("[REFERENCE", "[END OF REFERENCE"),
            *("[STEP 1", "[END OF STEP 1", "[STEP 2", "[END OF STEP 2"),
        ]
        assert "It is \\boxed{7}." in lines
    assert notes(run)["reference"].startswith("one solution")


@pytest.mark.parametrize(
    ("reference", "own", "shown"),
    [("auto", True, True), ("auto", False, False), ("on", False, True), ("off", True, False)],
)
async def test_whether_there_is_a_reference_is_the_profiles_word_or_the_clients(
    reference: str, own: bool, shown: bool
) -> None:
    engine = judged(prefers("42"))
    run = run_of(engine, {"reference": reference})
    object.__setattr__(run.spec, "profiles", {"judge": Profile(name="x", own_reference=own)})
    await execute(run)
    assert all((call.purpose == "first_error_reference") == shown for call in verdicts(engine))
    assert ("reference" in notes(run)) == shown


@pytest.mark.parametrize(
    "own", [Reply("", fault="unavailable"), Reply(" "), Reply("..."), Reply("one " * 300)]
)
async def test_without_a_whole_reference_it_is_done_without_and_said(own: Reply) -> None:
    engine = judged(prefers("42"), own)
    run = run_of(engine)
    assert (await execute(run)).candidate.answer == "42"
    assert {call.purpose for call in verdicts(engine)} == {"first_error"}
    assert notes(run)["reference"].startswith("none:")


def ruled(is_right: bool) -> Reply:
    verdict = "correct" if is_right else "wrong"
    return Reply(json.dumps({"issues": ["Look."], "first_wrong_step": None, "verdict": verdict}))


def rules_for(right: str) -> Callable[[str, Call], Reply]:
    return lambda said, _: ruled(f"{{{right}}}" in said.split("[CANDIDATE")[1])


VERDICT = {"grade": "verdict"}


@pytest.mark.parametrize("right", ["41", "42", "43"])
@pytest.mark.parametrize("lacking", [(), ("labels", "schema")])
async def test_the_answer_that_is_called_right_wins(right: str, lacking: tuple[Any, ...]) -> None:
    engine = judged(rules_for(right))
    engine.lacking = frozenset(lacking)
    run = run_of(engine, VERDICT)
    assert (await execute(run)).candidate.answer == right
    assert len(asked(engine, "critique")) == (4 if right == "43" else 2)
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("reference", ["on", "off"])
async def test_a_verdict_is_on_the_whole_draft_beside_one_reference(reference: str) -> None:
    engine = judged(rules_for("42"))
    run = run_of(engine, VERDICT | {"reference": reference})
    await execute(run)
    is_on = reference == "on"
    for call in (calls := asked(engine, "critique")):
        assert call.purpose == ("critique_reference" if is_on else "critique")
        marks = [
            line.rsplit(" ", 1)[0] for line in _said(call).splitlines() if line.startswith("[")
        ]
        own = ["[REFERENCE", "[END OF REFERENCE"] if is_on else []
        assert marks == [*own, "[CANDIDATE", "[END OF CANDIDATE"]
        assert ("It is \\boxed{7}." in _said(call)) == is_on
    assert len(calls) == 2
    assert len(asked(engine, SOLVE)) - len(SPLIT) == is_on


async def test_the_mean_share_of_right_is_the_grade() -> None:
    engine = judged(lambda said, call: ruled("{42}" in said and call.index % 4 > 0))
    params = VERDICT | {"samples": 4, "reference": "off", "select": "argmax", "always_weigh": True}
    outcome = await execute(make_run(engine, "self_prm", PARAMS | params))
    assert (outcome.candidate.answer, outcome.candidate.score) == ("42", 0.75)
    assert outcome.candidate.score_kind == "share_of_verdicts"
    calls = asked(engine, "critique")
    assert len({(call.messages, call.index) for call in calls}) == len(calls) == 16
    assert {call.sampling.temperature for call in calls} == {0.6}


@pytest.mark.parametrize("grade", ["verdict", "first_error"])
async def test_each_verdict_is_calibrated_before_the_mean(grade: str) -> None:
    def halved(said: str, call: Call) -> Reply:
        is_right = call.index % 2 == 0
        return ruled(is_right) if grade == "verdict" else found(None if is_right else 1)

    engine = judged(halved)
    params = {"grade": grade, "samples": 2, "reference": "off", "select": "argmax"}
    # Log-odds of -13.8 and 13.8, less 13.8: one in a million in the one case, a half in the other.
    run = calibrated(make_run(engine, "self_prm", PARAMS | params), offset=log_odds(1.0))
    outcome = await execute(run)
    assert outcome.candidate.score == pytest.approx(0.25, abs=1e-5)
    assert outcome.candidate.score_kind == "p_true"


@given(st.lists(st.sampled_from(["correct", "wrong", "?"]), min_size=8, max_size=8))
def test_a_grade_is_always_the_share_of_the_verdicts_that_can_be_read(said: list[str]) -> None:
    def told(_: str, call: Call) -> Reply:
        word = said[call.index]
        return Reply("?") if word == "?" else ruled(word == "correct")

    async def grades() -> list[float | None]:
        run = make_run(judged(told), "self_prm", PARAMS | VERDICT)
        drafts = [Completion.of("So \\boxed{1}.", index=i) for i in range(2)]
        return [await written_grade(run, draft, "verdict", samples=4) for draft in drafts]

    for grade, words in zip(anyio.run(grades), (said[:4], said[4:]), strict=True):
        known = [word == "correct" for word in words if word != "?"]
        assert grade == (sum(known) / len(known) if known else None)


@pytest.mark.parametrize("grade", ["verdict", "first_error"])
@pytest.mark.parametrize("hostile", INJECTIONS)
async def test_no_draft_and_no_reference_writes_into_the_prompt(grade: str, hostile: str) -> None:
    def script(call: Call, index: int) -> Reply:
        if call.purpose == SOLVE:
            return Reply(f"{INJECTIONS[hostile]}\n\nSo \\boxed{{{SPLIT[index]}}}.")
        return ruled(True) if grade == "verdict" else found(None)

    engine = ScriptedEngine(script)
    run = run_of(engine, {"grade": grade})
    await execute(run)
    for call in engine.calls:
        if call.purpose != SOLVE:
            assert not has_tokens(call.messages[-1].text)


async def test_samples_are_different_draws_whose_mean_counts() -> None:
    def divided(said: str, call: Call) -> Reply:
        wrong = 2 if "{41}" in said and call.index % 2 else 1
        return found(None if "{42}" in said and call.index % 4 else wrong)

    engine = judged(divided)
    params = {"samples": 4, "reference": "off", "select": "argmax", "always_weigh": True}
    outcome = await execute(make_run(engine, "self_prm", PARAMS | params))
    assert (outcome.candidate.answer, outcome.candidate.score) == ("42", 0.75)
    assert outcome.candidate.score_kind == "share_before_error"
    calls = verdicts(engine)
    assert len({(call.messages, call.index) for call in calls}) == len(calls)
    assert {call.sampling.temperature for call in calls} == {0.6}


async def test_one_sample_is_drawn_as_verdicts_are() -> None:
    engine = judged(prefers("42"))
    await execute(run_of(engine))
    assert {call.sampling.temperature for call in verdicts(engine)} == {0.0}


@pytest.mark.parametrize("wrong", [0, 3, 99])
async def test_a_step_that_there_is_not_is_no_verdict_and_the_vote_stands(wrong: int) -> None:
    engine = judged(lambda *_: found(wrong))
    run = run_of(engine)
    outcome = await execute(run)
    assert outcome.candidate.answer == "41"
    assert outcome.candidate.score_kind == "vote_share"


async def test_a_sample_that_cannot_be_read_leaves_the_mean() -> None:
    def halting(said: str, call: Call) -> Reply:
        return Reply("Well.") if call.index % 2 else prefers("42")(said, call)

    engine = judged(halting)
    outcome = await execute(run_of(engine, {"samples": 2, "select": "argmax"}))
    assert outcome.candidate.answer == "42"
    assert outcome.candidate.score == pytest.approx(1.0, abs=1e-5)
    assert outcome.candidate.score_kind == "p_true"


async def test_it_needs_no_label_probabilities_and_no_schema() -> None:
    engine = judged(prefers("42"))
    engine.lacking = frozenset({"labels", "schema"})
    assert (await execute(run_of(engine))).candidate.answer == "42"


async def test_a_judge_not_known_to_be_good_is_not_asked() -> None:
    engine = judged(prefers("42"))
    outcome = await execute(make_run(engine, "self_prm", PARAMS))
    assert outcome.candidate.answer == "41"
    assert not [call for call in engine.calls if call.role == "judge"]


@pytest.mark.parametrize("grade", ["solution", "steps", "first_error", "verdict"])
async def test_in_open_tasks_no_judge_is_asked_and_a_note_says_why(grade: str) -> None:
    engine = judged(prefers("42"))
    run = run_of(engine, {"grade": grade}, task=OPEN)
    await execute(run)
    assert {call.role for call in engine.calls} == {"actor"}
    assert notes(run)["judge"].startswith("not called")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"grade": "guess"}, "grade"),
        ({"samples": 0, "grade": "first_error"}, "samples"),
        ({"samples": 17, "grade": "first_error"}, "samples"),
        ({"samples": 2}, "samples: has no effect with grade 'solution'; leave it 1"),
        ({"reference": "on", "grade": "steps"}, "reference: has no effect .* leave it 'auto'"),
        ({"without_labels": "vote", "grade": "first_error"}, "without_labels: has no effect"),
        ({"without_labels": "vote", "grade": "verdict"}, "without_labels: has no effect"),
        ({"combine": "last", "grade": "verdict"}, "combine: has no effect"),
        ({"samples": 17, "grade": "verdict"}, "samples"),
        ({"combine": "last"}, "combine: has no effect"),
        ({"abandon_below": 0.1}, "abandon_below: has no effect"),
        ({"abandon_below": 1.0, "grade": "steps"}, "abandon_below"),
        ({"decided": 1.1}, "decided"),
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"width": 0}, "width"),
        ({"temperature": 0}, "temperature"),
    ],
)
def test_params_out_of_range_or_without_effect_are_named(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SelfPRM.model_validate(params)

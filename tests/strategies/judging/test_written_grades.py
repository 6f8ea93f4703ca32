"""Grades from written verdicts: prompts of the judge, parsing of verdicts, and number of calls."""

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
from secondpass.strategies.judging.written_grades import share_before_error, written_grade
from secondpass.strategies.self_prm import SelfPRM
from secondpass.testing.injections import INJECTIONS
from secondpass.testing.support import OPEN, assert_accounting_is_complete, make_run
from tests.strategies.test_self_prm import SPLIT, calibrated, notes

pytestmark = pytest.mark.anyio

OWN = "I count.\n\nIt is \\boxed{7}."
PARAMS = {"grade": "first_error", "width": 1}


@given(st.integers(1, 50), st.integers(-5, 60))
def test_the_share_is_of_the_steps_before_the_first_wrong_one(steps: int, wrong: int) -> None:
    assert share_before_error(None, steps) == 1
    if 1 <= wrong <= steps:
        assert 0 <= share_before_error(wrong, steps) == (wrong - 1) / steps < 1
    else:
        with pytest.raises(VerdictUnreadable, match=f"from 1 to {steps}, got {wrong}"):
            share_before_error(wrong, steps)


def found(wrong: int | None) -> Reply:
    return Reply(json.dumps({"reason": "Look.", "first_wrong_step": wrong}))


def judged(verdict: Callable[[str, Call], Reply], own: Reply | None = None) -> ScriptedEngine:
    """Return an engine with drafts of two steps that answer 41, 41, 42 and 43.

    `verdict` is a function of the judge's prompt and call. `own` is the reference solution, by default OWN.
    """

    def script(call: Call, index: int) -> Reply:
        if call.role == "judge":
            return own or Reply(OWN) if call.purpose == SOLVE else verdict(_prompt(call), call)
        return Reply(f"Let me see.\n\nSo \\boxed{{{SPLIT[index]}}}.")

    return ScriptedEngine(script)


def _prompt(call: Call) -> str:
    return call.messages[0].text


def prefers(right: str) -> Callable[[str, Call], Reply]:
    return lambda prompt, _: found(None if f"{{{right}}}" in prompt else 1)


def calls_of(engine: ScriptedEngine, prompt: str) -> list[Call]:
    return [call for call in engine.calls if call.purpose.startswith(prompt)]


def verdicts(engine: ScriptedEngine) -> list[Call]:
    return calls_of(engine, "first_error")


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
        lines = _prompt(call).splitlines()
        tags = [line.rsplit(" ", 1)[0] for line in lines if line.startswith("[")]
        assert tags == [
            *("[REFERENCE", "[END OF REFERENCE"),
            *("[STEP 1", "[END OF STEP 1", "[STEP 2", "[END OF STEP 2"),
        ]
        assert "It is \\boxed{7}." in lines
    assert notes(run)["reference"].startswith("one solution")


@pytest.mark.parametrize(
    ("reference", "own", "shown"),
    [("auto", True, True), ("auto", False, False), ("on", False, True), ("off", True, False)],
)
async def test_the_profile_or_the_client_decides_about_a_reference(
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
async def test_without_a_finished_reference_none_is_used_and_a_note_reports_it(own: Reply) -> None:
    engine = judged(prefers("42"), own)
    run = run_of(engine)
    assert (await execute(run)).candidate.answer == "42"
    assert {call.purpose for call in verdicts(engine)} == {"first_error"}
    assert notes(run)["reference"].startswith("none:")


def ruled(is_right: bool) -> Reply:
    verdict = "correct" if is_right else "wrong"
    return Reply(json.dumps({"issues": ["Look."], "first_wrong_step": None, "verdict": verdict}))


def rules_for(right: str) -> Callable[[str, Call], Reply]:
    return lambda prompt, _: ruled(f"{{{right}}}" in prompt.split("[CANDIDATE")[1])


VERDICT = {"grade": "verdict"}


@pytest.mark.parametrize("right", ["41", "42", "43"])
@pytest.mark.parametrize("lacking", [(), ("labels", "schema")])
async def test_the_answer_with_the_verdict_correct_wins(
    right: str, lacking: tuple[Any, ...]
) -> None:
    engine = judged(rules_for(right))
    engine.lacking = frozenset(lacking)
    run = run_of(engine, VERDICT)
    assert (await execute(run)).candidate.answer == right
    assert len(calls_of(engine, "critique")) == (4 if right == "43" else 2)
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("reference", ["on", "off"])
async def test_a_verdict_prompt_contains_the_whole_draft_and_one_reference(reference: str) -> None:
    engine = judged(rules_for("42"))
    run = run_of(engine, VERDICT | {"reference": reference})
    await execute(run)
    is_on = reference == "on"
    calls = calls_of(engine, "critique")
    for call in calls:
        assert call.purpose == ("critique_reference" if is_on else "critique")
        tags = [
            line.rsplit(" ", 1)[0] for line in _prompt(call).splitlines() if line.startswith("[")
        ]
        own = ["[REFERENCE", "[END OF REFERENCE"] if is_on else []
        assert tags == [*own, "[CANDIDATE", "[END OF CANDIDATE"]
        assert ("It is \\boxed{7}." in _prompt(call)) == is_on
    assert len(calls) == 2
    assert len(calls_of(engine, SOLVE)) - len(SPLIT) == is_on


async def test_the_grade_is_the_share_of_verdicts_that_are_correct() -> None:
    engine = judged(lambda prompt, call: ruled("{42}" in prompt and call.index % 4 > 0))
    params = VERDICT | {"samples": 4, "reference": "off", "select": "argmax", "always_weigh": True}
    outcome = await execute(make_run(engine, "self_prm", PARAMS | params))
    assert (outcome.candidate.answer, outcome.candidate.score) == ("42", 0.75)
    assert outcome.candidate.score_kind == "share_of_verdicts"
    calls = calls_of(engine, "critique")
    assert len({(call.messages, call.index) for call in calls}) == len(calls) == 16
    assert {call.sampling.temperature for call in calls} == {0.6}


@pytest.mark.parametrize("grade", ["verdict", "first_error"])
async def test_each_verdict_is_calibrated_before_the_mean(grade: str) -> None:
    def halved(_: str, call: Call) -> Reply:
        is_right = call.index % 2 == 0
        return ruled(is_right) if grade == "verdict" else found(None if is_right else 1)

    engine = judged(halved)
    params = {"grade": grade, "samples": 2, "reference": "off", "select": "argmax"}
    # Log-odds of -13.8 and 13.8, minus an offset of 13.8: probabilities near 0 and of 0.5.
    run = calibrated(make_run(engine, "self_prm", PARAMS | params), offset=log_odds(1.0))
    outcome = await execute(run)
    assert outcome.candidate.score == pytest.approx(0.25, abs=1e-5)
    assert outcome.candidate.score_kind == "p_true"


@given(st.lists(st.sampled_from(["correct", "wrong", "?"]), min_size=8, max_size=8))
def test_a_grade_is_the_share_among_readable_verdicts(words: list[str]) -> None:
    def reply(_: str, call: Call) -> Reply:
        word = words[call.index]
        return Reply("?") if word == "?" else ruled(word == "correct")

    async def grades() -> list[float | None]:
        run = make_run(judged(reply), "self_prm", PARAMS | VERDICT)
        drafts = [Completion.of("So \\boxed{1}.", index=i) for i in range(2)]
        return [await written_grade(run, draft, "verdict", samples=4) for draft in drafts]

    for grade, own_words in zip(anyio.run(grades), (words[:4], words[4:]), strict=True):
        known = [word == "correct" for word in own_words if word != "?"]
        assert grade == (sum(known) / len(known) if known else None)


@pytest.mark.parametrize("grade", ["verdict", "first_error"])
@pytest.mark.parametrize("hostile", INJECTIONS)
async def test_no_draft_or_reference_injects_tokens_into_the_prompt(
    grade: str, hostile: str
) -> None:
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
    def split(prompt: str, call: Call) -> Reply:
        wrong = 2 if "{41}" in prompt and call.index % 2 else 1
        return found(None if "{42}" in prompt and call.index % 4 else wrong)

    engine = judged(split)
    params = {"samples": 4, "reference": "off", "select": "argmax", "always_weigh": True}
    outcome = await execute(make_run(engine, "self_prm", PARAMS | params))
    assert (outcome.candidate.answer, outcome.candidate.score) == ("42", 0.75)
    assert outcome.candidate.score_kind == "share_before_error"
    calls = verdicts(engine)
    assert len({(call.messages, call.index) for call in calls}) == len(calls)
    assert {call.sampling.temperature for call in calls} == {0.6}


async def test_one_sample_is_drawn_at_the_temperature_of_verdicts() -> None:
    engine = judged(prefers("42"))
    await execute(run_of(engine))
    assert {call.sampling.temperature for call in verdicts(engine)} == {0.0}


@pytest.mark.parametrize("wrong", [0, 3, 99])
async def test_a_step_number_out_of_range_is_unreadable_and_the_vote_decides(wrong: int) -> None:
    engine = judged(lambda *_: found(wrong))
    run = run_of(engine)
    outcome = await execute(run)
    assert outcome.candidate.answer == "41"
    assert outcome.candidate.score_kind == "vote_share"


async def test_an_unreadable_sample_is_excluded_from_the_mean() -> None:
    def half_readable(prompt: str, call: Call) -> Reply:
        return Reply("Well.") if call.index % 2 else prefers("42")(prompt, call)

    engine = judged(half_readable)
    outcome = await execute(run_of(engine, {"samples": 2, "select": "argmax"}))
    assert outcome.candidate.answer == "42"
    assert outcome.candidate.score == pytest.approx(1.0, abs=1e-5)
    assert outcome.candidate.score_kind == "p_true"


async def test_written_grades_need_no_label_probabilities_and_no_schema() -> None:
    engine = judged(prefers("42"))
    engine.lacking = frozenset({"labels", "schema"})
    assert (await execute(run_of(engine))).candidate.answer == "42"


async def test_a_judge_without_a_useful_calibration_is_not_called() -> None:
    engine = judged(prefers("42"))
    outcome = await execute(make_run(engine, "self_prm", PARAMS))
    assert outcome.candidate.answer == "41"
    assert not [call for call in engine.calls if call.role == "judge"]


@pytest.mark.parametrize("grade", ["solution", "steps", "first_error", "verdict"])
async def test_in_open_tasks_the_judge_is_not_called_and_a_note_reports_it(grade: str) -> None:
    engine = judged(prefers("42"))
    run = run_of(engine, {"grade": grade}, task=OPEN)
    await execute(run)
    assert {call.role for call in engine.calls} == {"actor"}
    assert notes(run)["judge"].startswith("not called")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"grade": "guess"}, "grade"),
        ({"samples": 0, "grade": "first_error"}, "samples"),
        ({"samples": 17, "grade": "first_error"}, "samples"),
        ({"samples": 2}, "samples: has no effect with grade 'solution'; omit it, or set grade"),
        ({"reference": "on", "grade": "steps"}, "reference: has no effect .* omit it"),
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
def test_params_out_of_range_or_without_effect_are_named(
    params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        SelfPRM.model_validate(params)

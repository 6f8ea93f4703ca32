"""self_prm: conditions under which drafts are graded, and the effect of grades on the vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any, get_args

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.events import NoteRecorded
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.calibration import Calibration, GradeCalibration, OtherGradeKind
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CapabilityMissing
from secondpass.strategies.api.ranking import log_odds
from secondpass.strategies.api.values import SOLVE, Completion
from secondpass.strategies.judging.step_grades import GradedDraft
from secondpass.testing.support import MATH, assert_accounting_is_complete, make_run

pytestmark = pytest.mark.anyio


def judging(values: tuple[str, ...], right: str, p: float = 0.95) -> Any:
    """Return a script whose draft i answers values[i]; the judge's grade is p for `right`, else 1 - p."""

    def script(call: Call, index: int) -> Reply:
        if not call.labels:
            return Reply(f"Let me see.\n\nSo \\boxed{{{values[index]}}}.")
        draft, prompt = call.messages[-2].text, call.messages[-1].text
        grade = p if "boxed" not in draft or right in draft else 1 - p
        if "yes" in call.labels:
            return Reply("x", labels={"yes": grade, "no": 1 - grade})
        a = grade if "A) right" in prompt else 1 - grade
        return Reply("x", labels={"A": a, "B": 1 - a})

    return script


KINDS: tuple[OtherGradeKind, ...] = get_args(OtherGradeKind)


def calibrated(
    run: LiveRun,
    auroc: float | None = 0.9,
    *,
    kinds: Sequence[OtherGradeKind] = KINDS,
    offset: float = 0.0,
) -> LiveRun:
    """Calibrate the run's judge for whole solutions and, with `offset`, for `kinds`; returns the run."""
    if auroc is None:
        return run
    figures: dict[str, Any] = {"temperature": 1.0, "auroc": auroc, "accuracy": 0.5, "n": 100}
    measured = Calibration(
        model="scripted",
        labels=("A", "B"),
        mass=1.0,
        drawn=date(2026, 11, 1),
        data="0" * 64,
        grades={kind: GradeCalibration(offset=offset, **figures) for kind in kinds},
        **figures,
    )
    spec = replace(run.spec, calibrations={"judge": measured})
    run.spec = spec
    return run


def notes(run: LiveRun) -> dict[str, str]:
    return {
        event.about: event.what for event in run.trace.events if isinstance(event, NoteRecorded)
    }


def reads(engine: ScriptedEngine) -> int:
    return sum(bool(call.labels) for call in engine.calls)


SPLIT = ("41", "41", "42", "43")


@pytest.mark.parametrize(("right", "answer"), [("42", "42"), ("41", "41")])
async def test_grades_weight_the_vote_both_ways(right: str, answer: str) -> None:
    engine = ScriptedEngine(judging(SPLIT, right, 0.99))
    run = calibrated(make_run(engine, "self_prm", {"width": 1}))
    outcome = await execute(run)
    assert outcome.candidate.answer == answer
    assert reads(engine) == 4
    assert notes(run)["graded"].startswith("2 of 4")
    assert_accounting_is_complete(run, engine)


async def test_all_drafts_are_graded_if_the_two_leading_answers_are_close() -> None:
    engine = ScriptedEngine(judging(SPLIT, "43", 0.99))
    run = calibrated(make_run(engine, "self_prm", {"width": 1}))
    assert (await execute(run)).candidate.answer == "43"
    assert reads(engine) == 8


async def test_the_judge_is_not_called_above_the_decided_share() -> None:
    engine = ScriptedEngine(judging(("42", "42", "42", "42", "41"), "41"))
    run = calibrated(make_run(engine, "self_prm", {"n": 5}))
    assert (await execute(run)).candidate.answer == "42"
    assert reads(engine) == 0


@pytest.mark.parametrize("values", [("42",) * 4, ("?",) * 4])
@pytest.mark.parametrize("grade", ["solution", "first_error"])
async def test_the_judge_is_not_called_without_disagreement_for_any_decided_share(
    grade: str, values: tuple[str, ...]
) -> None:
    engine, judge = ScriptedEngine(judging(values, "42")), ScriptedEngine()
    params = {"decided": 1, "grade": grade}
    run = calibrated(make_run(engine, "self_prm", params, others=judge))
    await execute(run)
    assert not judge.calls


async def test_a_draft_that_failed_is_not_counted_as_abandoned() -> None:
    complete = judging(SPLIT, "42")

    def script(call: Call, index: int) -> Reply:
        is_lost = not call.labels and index == 3
        return Reply("", fault="refuse") if is_lost else complete(call, index)

    params = {"grade": "steps", "abandon_below": 0.3, "width": 1}
    run = calibrated(make_run(ScriptedEngine(script), "self_prm", params))
    await execute(run)
    assert notes(run)["abandoned"] == "2 of 4 drafts"


@pytest.mark.parametrize(("auroc", "reason"), [(None, "not calibrated"), (0.55, "0.55 below 0.6")])
async def test_grades_without_a_useful_calibration_have_no_weight_and_a_note_reports_it(
    auroc: float | None, reason: str
) -> None:
    for grade in ("solution", "steps", "verdict", "first_error"):
        engine = ScriptedEngine(judging(SPLIT, "42", 0.99))
        run = calibrated(make_run(engine, "self_prm", {"width": 1, "grade": grade}), auroc)
        assert (await execute(run)).candidate.answer == "41"
        assert {call.role for call in engine.calls} == {"actor"}
        assert reason in notes(run)["judge"]


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"grade": "steps"}, "steps_mean"),
        ({"grade": "steps", "combine": "last"}, "steps_last"),
        ({"grade": "first_error"}, "first_error"),
        ({"grade": "verdict"}, "verdict"),
    ],
)
async def test_grades_need_a_calibration_of_their_kind(
    params: dict[str, Any], kind: OtherGradeKind
) -> None:
    engine = ScriptedEngine(judging(SPLIT, "42", 0.99))
    others = [each for each in KINDS if each != kind]
    run = calibrated(make_run(engine, "self_prm", params | {"width": 1}), kinds=others)
    assert (await execute(run)).candidate.answer == "41"
    assert {call.role for call in engine.calls} == {"actor"}
    assert notes(run)["judge"] == f"grades of {kind} not calibrated: unweighted votes"


@pytest.mark.parametrize("combine", ["mean", "last"])
async def test_step_grades_use_the_calibration_of_their_kind(combine: str) -> None:
    params = {"grade": "steps", "combine": combine, "select": "argmax", "always_weigh": True}
    candidates = []
    for kinds in ((), KINDS):
        engine = ScriptedEngine(judging(SPLIT, "42"))
        run = make_run(engine, "self_prm", params | {"width": 1})
        run = calibrated(run, kinds=kinds, offset=2.0)
        candidates.append((await execute(run)).candidate)
    raw, known = candidates
    assert (raw.answer, raw.score_kind) == ("42", "step_score")
    assert (known.answer, known.score_kind) == ("42", "p_true")
    assert raw.score is not None
    assert known.score is not None
    assert log_odds(known.score) == pytest.approx(log_odds(raw.score) - 2.0)


@pytest.mark.parametrize("kinds", [KINDS, ()])
async def test_grades_of_whole_solutions_need_no_calibration_of_another_kind(
    kinds: Sequence[OtherGradeKind],
) -> None:
    engine = ScriptedEngine(judging(SPLIT, "42", 0.99))
    run = calibrated(make_run(engine, "self_prm", {"width": 1}), kinds=kinds, offset=9.0)
    assert (await execute(run)).candidate.answer == "42"


@given(st.sets(st.sampled_from(KINDS)), st.floats(0, 1), st.sampled_from(KINDS))
def test_a_kind_is_never_trusted_for_the_calibration_of_another_kind(
    measured: set[OtherGradeKind], auroc: float, kind: OtherGradeKind
) -> None:
    async def trusts() -> tuple[float, float, float]:
        run = calibrated(make_run(), auroc, kinds=sorted(measured))
        judge = run.model("judge")
        return judge.trust(kind), judge.trust(), judge.trust(kind, always=True)

    is_useful = auroc >= 0.6
    assert anyio.run(trusts) == (float(kind in measured and is_useful), float(is_useful), 1.0)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_the_grade_of_a_draft_is_between_those_of_its_steps(grades: list[float]) -> None:
    graded = GradedDraft(Completion.of("x"), tuple(grades), 1.0)
    mean, last = graded.combined("mean"), graded.combined("last")
    if not grades:
        assert mean is last is None
        return
    assert mean is not None
    assert last == pytest.approx(grades[-1], abs=2e-6)
    assert min(grades) - 2e-6 <= mean <= max(grades) + 2e-6


async def test_argmax_selects_the_highest_grade() -> None:
    engine = ScriptedEngine(judging(("41", "41", "41", "42"), "42"))
    params = {"select": "argmax", "always_weigh": True, "width": 1}
    run = make_run(engine, "self_prm", params)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.candidate.score_kind) == ("42", "p_true")


async def test_argmax_ties_go_to_the_lowest_index() -> None:
    params = {"select": "argmax", "always_weigh": True}
    for width in (1, 4):
        engine = ScriptedEngine(judging(("41", "42", "42", "43"), "42"), per_token=0.001)
        run = make_run(engine, "self_prm", params | {"width": width})
        assert (await execute(run)).candidate.index == 1


async def test_a_draft_whose_grade_failed_has_the_mean_weight_and_is_counted() -> None:
    complete = judging(("41", "41", "42"), "42", 0.99)

    def script(call: Call, index: int) -> Reply:
        is_lost = call.labels and "41" in call.messages[-2].text
        return Reply("", fault="refuse") if is_lost else complete(call, index)

    run = calibrated(make_run(ScriptedEngine(script), "self_prm", {"n": 3, "width": 1}))
    outcome = await execute(run)
    assert outcome.candidate.answer == "41"
    assert outcome.degraded == {"judge": 4}


async def test_a_budget_exhausted_by_grading_leaves_the_vote_and_is_the_stop_reason() -> None:
    engine = ScriptedEngine(judging(SPLIT, "42", 0.99))
    run = calibrated(make_run(engine, "self_prm", {"width": 1}, max_calls=5))
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("41", "budget_calls")
    assert_accounting_is_complete(run, engine)


async def test_drafts_with_a_wrong_step_are_aborted() -> None:
    engine = ScriptedEngine(judging(SPLIT, "42"))
    params = {"grade": "steps", "abandon_below": 0.3, "width": 1}
    run = calibrated(make_run(engine, "self_prm", params))
    assert (await execute(run)).candidate.answer == "42"
    assert "of 4 drafts" in notes(run)["abandoned"]
    assert_accounting_is_complete(run, engine)


async def test_if_every_draft_is_abandoned_one_more_is_drawn_and_not_graded() -> None:
    engine = ScriptedEngine(judging((*SPLIT, "44"), "none", p=0.1))
    params = {"grade": "steps", "abandon_below": 0.95, "width": 1}
    run = calibrated(make_run(engine, "self_prm", params))
    assert (await execute(run)).candidate.answer == "44"
    assert_accounting_is_complete(run, engine)
    drafts = [call for call in engine.calls if call.purpose == SOLVE]
    assert {call.sampling.temperature for call in drafts} == {0.7}


async def test_an_engine_without_labels_is_an_error_or_the_vote_is_unweighted() -> None:
    lacking = frozenset({"labels"})
    run = make_run(ScriptedEngine(judging(SPLIT, "42"), lacking=lacking), "self_prm", task=MATH)  # type: ignore[arg-type]
    with pytest.raises(CapabilityMissing, match=r"'scripted' lacks the capability labels"):
        await execute(run)
    engine = ScriptedEngine(judging(SPLIT, "42"), lacking=lacking)  # type: ignore[arg-type]
    run = make_run(engine, "self_prm", {"without_labels": "vote", "width": 1})
    assert (await execute(run)).candidate.answer == "41"
    assert "lacks the capability labels" in notes(run)["judge"]

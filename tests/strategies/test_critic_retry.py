"""critic_retry with a scripted engine: weighted vote, tests of code tasks, modes and invalid params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import SharedResources
from secondpass.service.runs.verifiers import Sandboxes
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CapabilityMissing, RoleMissing
from secondpass.strategies.api.values import SOLVE, Capability
from secondpass.strategies.critic_retry import CriticRetry
from secondpass.testing.support import OPEN, assert_accounting_is_complete, make_run
from tests.strategies.critic_retry_script import (
    NO_LABELS,
    OTHER,
    RIGHT,
    SPLIT,
    WRONG,
    calibrated,
    critic,
    purposes,
    retries_of,
)
from tests.strategies.run_notes import notes

pytestmark = pytest.mark.anyio


# -- the vote ----------------------------------------------------------------------------------------


async def test_a_critic_without_a_useful_calibration_is_not_called_and_a_note_reports_it() -> None:
    for auroc in (None, 0.55):
        engine = ScriptedEngine(critic(SPLIT, "42"))
        run = make_run(engine, "critic_retry")
        outcome = await execute(run if auroc is None else calibrated(run, auroc))
        assert outcome.candidate.answer == "41"
        assert purposes(engine) == {SOLVE: 4}
        assert outcome.notes["verdicts"] == "none requested: verdicts would have no weight"
        assert "unweighted votes" in outcome.notes["critic"]


@pytest.mark.parametrize("lacking", [frozenset[Capability](), NO_LABELS])
async def test_verdicts_of_a_calibrated_critic_weight_the_vote(
    lacking: frozenset[Capability],
) -> None:
    engine = ScriptedEngine(critic(("41", "41", "42"), "42"), lacking=lacking)
    run = calibrated(make_run(engine, "critic_retry", {"n": 3}))
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.confidence is not None) == ("42", True)
    verdict_calls = {"critique": 3} if lacking else {"p_true": 6}
    assert purposes(engine) == {SOLVE: 3, **verdict_calls}
    assert (
        notes(run)["verdicts"] == f"1 right, 2 wrong, 0 none, by {'text' if lacking else 'labels'}"
    )
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("how", ["soft", "hard"])
async def test_the_critic_is_not_called_if_drafts_agree(how: str) -> None:
    for mode in ("filter_vote", "parallel", "hybrid"):
        engine = ScriptedEngine(critic(("41",) * 4, "42"))
        run = calibrated(make_run(engine, "critic_retry", {"mode": mode, "filter": how}))
        assert (await execute(run)).candidate.answer == "41"
        assert purposes(engine) == {SOLVE: 4}
        assert notes(run)["verdicts"] == "none requested: the vote share of 1.00 is above 0.75"


async def test_the_hard_filter_drops_rejected_drafts_unless_all_are_rejected() -> None:
    for right, answer in (("42", "42"), ("none of them", "41")):
        engine = ScriptedEngine(critic(SPLIT, right))
        run = make_run(engine, "critic_retry", {"filter": "hard"})
        assert (await execute(run)).candidate.answer == answer
        assert purposes(engine)["p_true"] == 8


@pytest.mark.parametrize("mode", ["filter_vote", "sequential", "parallel", "hybrid"])
@pytest.mark.parametrize("reply", ["", "wrong", '{"verdict": "wrong"}', "{" * 50])
async def test_an_unreadable_critique_has_no_effect_on_the_answer(mode: str, reply: str) -> None:
    engine = ScriptedEngine(critic(SPLIT, "42", critique=reply), lacking=NO_LABELS | {"schema"})
    run = make_run(engine, "critic_retry", {"mode": mode, "filter": "hard"})
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("41", "finished")
    assert not retries_of(engine)
    assert "0 right, 0 wrong" in outcome.notes["verdicts"]
    drafts = 1 if mode == "sequential" else 4
    assert outcome.degraded == {"critic": drafts}
    assert_accounting_is_complete(run, engine)


async def test_in_open_tasks_only_the_hard_filter_calls_the_critic() -> None:
    def script(call: Call, index: int) -> Reply:
        if call.labels:
            p = 0.9 if "Blue" in call.messages[-2].text else 0.1
            a = p if "A) right" in call.messages[-1].text else 1 - p
            return Reply("x", labels={"A": a, "B": 1 - a})
        return Reply(("Red is warm.", "Red is hot.", "Blue is cold.")[index])

    for how, text, reads in (("soft", "Red", 0), ("hard", "Blue", 6)):
        engine = ScriptedEngine(script)
        run = make_run(engine, "critic_retry", {"n": 3, "filter": how}, task=OPEN)
        assert (await execute(calibrated(run))).candidate.text.startswith(text)
        assert purposes(engine)["p_true"] == reads


# -- tests of a code task ----------------------------------------------------------------------------


def coded(drafts: Sequence[str], retries: Mapping[int, str]) -> Script:
    def script(call: Call, index: int) -> Reply:
        code = drafts[index] if call.purpose == SOLVE else retries[index]
        return Reply(f"```python\n{code}\n```")

    return script


async def test_a_draft_that_passes_the_tests_wins_without_a_critic() -> None:
    task = Task(kind="code", tests="assert add(2, 3) == 5\n")
    engine = ScriptedEngine(coded((WRONG, WRONG, RIGHT, OTHER), {}))
    shared = SharedResources(Equivalence(), Sandboxes(2))
    run = make_run(engine, "critic_retry", task=task, shared=shared)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == (RIGHT, "accepted")
    assert purposes(engine) == {SOLVE: 4}
    assert outcome.notes["verdicts"] == "1 right, 3 wrong, 0 none, by tests"


@pytest.mark.parametrize(("repeats", "drawn"), [("auto", [1, 4, 2]), ("soft", [1, 2])])
async def test_a_retry_that_repeats_an_answer_rejected_by_tests_is_redrawn(
    repeats: str, drawn: list[int]
) -> None:
    task = Task(kind="code", tests="assert add(2, 3) == 5\n")
    engine = ScriptedEngine(coded((WRONG,), {1: WRONG, 4: OTHER, 2: RIGHT}))
    shared = SharedResources(Equivalence(), Sandboxes(2))
    params = {"mode": "sequential", "reject_repeats": repeats}
    run = make_run(engine, "critic_retry", params, task=task, shared=shared)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == (RIGHT, "accepted")
    assert [call.index for call in retries_of(engine)] == drawn
    prompt = retries_of(engine)[0].messages[0].text
    assert "assert add(2, 3) == 5" in prompt
    assert "a - b" not in prompt


# -- modes and params ----------------------------------------------------------------

MODES = ("filter_vote", "sequential", "parallel", "hybrid", "step_guided")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lacking", [frozenset[Capability](), NO_LABELS, NO_LABELS | {"schema"}])
async def test_every_mode_answers_with_every_capability_of_the_critic(
    mode: str, lacking: frozenset[Capability]
) -> None:
    engine = ScriptedEngine(lacking=lacking)
    run = make_run(engine, "critic_retry", {"mode": mode})
    assert (await execute(run)).candidate.answer == "42"
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("mode", MODES[:-1])
async def test_missing_labels_are_an_error_before_the_first_call(
    mode: str,
) -> None:
    engine = ScriptedEngine(lacking=NO_LABELS)
    run = make_run(engine, "critic_retry", {"mode": mode, "verdict": "labels"})
    with pytest.raises(CapabilityMissing, match="lacks the capability labels"):
        await execute(run)
    assert not engine.calls


@pytest.mark.parametrize("mode", MODES)
async def test_a_missing_critic_is_an_error_before_the_first_call(mode: str) -> None:
    engine = ScriptedEngine()
    run = make_run(engine, "critic_retry", {"mode": mode})
    alone = replace(run.spec, upstreams={"actor": run.spec.upstreams["actor"]})
    with pytest.raises(RoleMissing, match="'critic'"):
        await execute(LiveRun(alone, SharedResources(Equivalence()), run.trace))
    assert not engine.calls


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n": 0}, "greater than or equal to 1"),
        ({"n": 65}, "less than or equal to 64"),
        ({"width": 0}, "greater than or equal to 1"),
        ({"mode": "sequential", "max_rounds": 9}, "less than or equal to 8"),
        ({"temperature": 2.1}, "less than or equal to 2"),
        ({"decided": 1.5}, "less than or equal to 1"),
        ({"mode": "step_guided", "redraws": 17}, "less than or equal to 16"),
        ({"mode": "retry"}, "'filter_vote', 'sequential', 'parallel', 'hybrid' or 'step_guided'"),
        ({"reject_repeats": "hard"}, "'auto', 'soft' or 'off'"),
        ({"rounds": 1}, "Extra inputs are not permitted"),
        (
            {"max_rounds": 2},
            "max_rounds: has no effect with mode 'filter_vote'; omit it, or set mode",
        ),
        ({"redraws": 2}, "redraws: has no effect .* set mode = 'step_guided'"),
        ({"mode": "step_guided", "filter": "hard"}, "filter: has no effect with mode"),
        ({"mode": "sequential", "decided": 0.5}, "decided: has no effect with mode 'sequential'"),
        ({"mode": "sequential", "n": 4}, "n: mode 'sequential' has one chain, not 4"),
        ({"mode": "parallel", "max_rounds": 2}, "max_rounds: mode 'parallel' has 1 round, not 2"),
        (
            {"filter": "hard", "always_weigh": True},
            "always_weigh: has no effect with filter 'hard'; omit it, or set filter",
        ),
        ({"temperature": 0}, "temperature: 0 draws n equal drafts"),
        (
            {"mode": "hybrid", "schedule": True, "temperature": 1.3},
            "schedule: the temperature rises to 1.2",
        ),
    ],
)
def test_invalid_params_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CriticRetry(**params)


@pytest.mark.parametrize("mode", MODES)
def test_resolved_params_are_valid_params(mode: str) -> None:
    params = CriticRetry.model_validate({"mode": mode})
    assert CriticRetry.model_validate(params.model_dump()) == params

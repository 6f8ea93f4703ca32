"""self_refine on code tasks: test results are the feedback, and passing tests end the refinement."""

from __future__ import annotations

from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run_spec import SharedResources
from secondpass.service.runs.verifiers import Sandboxes
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE
from secondpass.testing.support import make_run
from tests.strategies.self_refine_script import purposes

pytestmark = pytest.mark.anyio

CODE = Task(kind="code", tests="assert add(2, 3) == 5\nassert add(1, 1) == 2")
VERSIONS = (
    "def add(a, b):\n    return a - b",
    "def add(a, b):\n    return 5",
    "def add(a, b):\n    return a + b",
)


def coder(call: Call, index: int) -> Reply:
    """Reply with version 0 as the draft and versions 1 and 2 as the revisions."""
    if call.purpose == "feedback":
        return Reply('{"issues": ["it subtracts"], "verdict": "revise"}')
    return Reply(f"```python\n{VERSIONS[min(index, 2)]}\n```")


async def solve(
    params: dict[str, Any], task: Task = CODE, *, sandbox: bool = True
) -> tuple[Outcome, list[Call]]:
    engine = ScriptedEngine(coder)
    shared = SharedResources(Equivalence(), Sandboxes(2) if sandbox else None)
    run = make_run(engine, "self_refine", params, task=task, shared=shared)
    return await execute(run), engine.calls


async def test_test_results_are_the_feedback_and_passing_them_ends_the_refinement() -> None:
    outcome, calls = await solve({"max_rounds": 5})
    assert outcome.candidate.answer == VERSIONS[2]
    assert outcome.stop_reason == "accepted"
    assert (outcome.confidence, outcome.confidence_kind) == (1.0, "tests")
    assert purposes(calls) == [SOLVE, "refine_tests", "refine_tests"]
    assert VERSIONS[0] in calls[1].messages[-1].text
    assert "assert add(2, 3) == 5" in calls[1].messages[-1].text
    assert "assert add(1, 1) == 2" in calls[2].messages[-1].text
    assert VERSIONS[0] not in calls[2].messages[-1].text


async def test_without_a_passing_version_the_draft_is_returned_with_confidence_0() -> None:
    outcome, _ = await solve({"max_rounds": 1})
    assert outcome.candidate.answer == VERSIONS[0]
    assert (outcome.stop_reason, outcome.confidence) == ("finished", 0.0)


async def test_a_deadline_during_the_tests_leaves_the_draft() -> None:
    engine = ScriptedEngine(lambda *_: Reply("```python\nimport time\ntime.sleep(60)\n```"))
    shared = SharedResources(Equivalence(), Sandboxes(2))
    run = make_run(engine, "self_refine", task=CODE, shared=shared, deadline_ms=1000)
    outcome = await execute(run)
    assert (outcome.stop_reason, outcome.confidence) == ("deadline", None)
    assert outcome.candidate.answer == "import time\ntime.sleep(60)"


async def test_test_results_can_be_shown_without_the_version() -> None:
    _, calls = await solve({"history": "feedback_only"})
    prompt = calls[1].messages[-1].text
    assert calls[1].purpose == "refine_tests_unseen"
    assert "assert add(2, 3) == 5" in prompt
    assert "a - b" not in prompt


async def test_a_draft_that_passes_its_tests_wins_over_the_others() -> None:
    outcome, calls = await solve({"n": 4, "width": 1})
    assert outcome.stop_reason == "accepted"
    assert outcome.candidate.answer == VERSIONS[2]
    assert purposes(calls).count(SOLVE) < 4  # the revision of the second draft passes


async def test_a_draft_that_passes_is_not_reviewed() -> None:
    outcome, calls = await solve({}, CODE.model_copy(update={"tests": "assert add(2, 3) < 5"}))
    assert outcome.stop_reason == "accepted"
    assert purposes(calls) == [SOLVE]


@pytest.mark.parametrize("sandbox", [True, False])
async def test_without_tests_that_run_the_critic_reviews_and_a_note_reports_it(
    sandbox: bool,
) -> None:
    task = Task(kind="code", tests="assert add(" if sandbox else CODE.tests)
    params = {"feedback": "tests", "gate": "tests"}
    outcome, calls = await solve(params, task, sandbox=sandbox)
    assert "feedback" in purposes(calls)
    assert "a review is used" in outcome.notes["feedback"]
    assert "auto is used" in outcome.notes["gate tests"]

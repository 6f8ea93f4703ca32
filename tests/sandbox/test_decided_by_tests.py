"""A draft that passes its tests wins in every strategy, and the confidence is that of the tests."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run_spec import SharedResources
from secondpass.service.runs.verifiers import Sandboxes
from secondpass.service.sandbox.runner import SandboxResult, SandboxUnavailable, Status
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.registry import STRATEGIES
from secondpass.testing.support import make_run

pytestmark = pytest.mark.anyio

TASK = Task(kind="code", tests="assert add(1, 2) == 3")
NAMES = sorted(STRATEGIES)


class ScriptedSandboxes(Sandboxes):
    """Sandboxes with a given status for each code."""

    def __init__(self, status: Callable[[str], Status | None], delay: float = 0.0) -> None:
        super().__init__(max_concurrent=2)
        self._status, self._delay = status, delay
        self.tested: list[str] = []

    async def run(self, code: str, tests: str) -> SandboxResult:
        self.tested.append(code)
        await anyio.sleep(self._delay)
        status = self._status(code)
        if status is None:
            raise SandboxUnavailable("there is no bubblewrap")
        return SandboxResult(status, f"reason of {status}")


def draft(call: Call, index: int) -> Reply:
    """Reply with a different program for each index, and to judges with nothing readable."""
    return Reply(f"```python\ndef add(a, b):\n    return {index}\n```")


async def solve(
    name: str, sandboxes: Sandboxes, *, repeated: bool = False, deadline_ms: int | None = None
) -> Outcome:
    def reply(call: Call, index: int) -> Reply:
        return draft(call, 0 if repeated and index != 1 else index)

    shared = SharedResources(Equivalence(), sandboxes)
    run = make_run(ScriptedEngine(reply), name, task=TASK, shared=shared, deadline_ms=deadline_ms)
    return await execute(run)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", ["passed", "failed", "timeout"])
async def test_the_confidence_of_every_strategy_is_that_of_the_tests(
    name: str, status: Status
) -> None:
    outcome = await solve(name, ScriptedSandboxes(lambda _: status))
    expected = float(status == "passed")
    assert (outcome.confidence, outcome.confidence_kind) == (expected, "tests")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "single"])
async def test_a_minority_that_passes_wins_over_the_majority(name: str) -> None:
    sandboxes = ScriptedSandboxes(lambda code: "passed" if "return 1" in code else "failed")
    outcome = await solve(name, sandboxes, repeated=True)
    if any("return 1" in (each.answer or "") for each in outcome.candidates):
        assert "return 1" in (outcome.candidate.answer or "")
        assert outcome.confidence == 1.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", ["error", None])
async def test_tests_that_could_not_be_run_give_a_note_and_no_confidence(
    name: str, status: Status | None
) -> None:
    outcome = await solve(name, ScriptedSandboxes(lambda _: status))
    assert outcome.confidence_kind != "tests"
    why = "reason of error" if status else "there is no bubblewrap"
    assert outcome.notes["tests"] == f"the tests could not be run: {why}"


@pytest.mark.parametrize("name", NAMES)
async def test_a_deadline_during_the_tests_leaves_the_answer(name: str) -> None:
    outcome = await solve(name, ScriptedSandboxes(lambda _: "passed", delay=60), deadline_ms=300)
    assert outcome.stop_reason == "deadline"
    assert outcome.confidence_kind != "tests"
    assert outcome.candidate.answer is not None


STATUSES = st.lists(
    st.sampled_from(["passed", "failed", "timeout", "error"]), min_size=8, max_size=8
)


@settings(deadline=None, max_examples=25)
@given(STATUSES, st.sampled_from(NAMES))
def test_a_candidate_that_passes_always_beats_one_that_does_not(
    statuses: list[Status], name: str
) -> None:
    def status(code: str) -> Status:
        number = code.rpartition(" ")[2]
        return statuses[int(number) % 8] if number.isdigit() else "failed"

    outcome = anyio.run(solve, name, ScriptedSandboxes(status))
    elected = status(outcome.candidate.answer or "")
    passing = [e for e in outcome.candidates if e.answer and status(e.answer) == "passed"]
    assert (elected == "passed") == bool(passing)
    if elected == "error":
        assert outcome.confidence_kind != "tests"
    else:
        expected = (float(elected == "passed"), "tests")
        assert (outcome.confidence, outcome.confidence_kind) == expected

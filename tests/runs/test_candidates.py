"""Candidates: election of the leader, reporting, and verification by tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.events import CandidateRecorded, Trace
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.verifiers import Sandboxes, Verifier
from secondpass.service.sandbox import runner
from secondpass.service.sandbox.runner import SandboxResult
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.values import Candidate
from secondpass.testing.support import (
    answers,
    make_run,
)

pytestmark = pytest.mark.anyio


async def test_propose_keeps_the_highest_score_and_the_first_of_a_tie() -> None:
    run = make_run()
    for text, score in (("a", None), ("b", 0.2), ("c", 0.7), ("d", 0.7), ("e", None), ("f", 0.1)):
        run.propose(Candidate(text=text, score=score))
    assert run.best.text == "c"
    leading = [e.is_best for e in run.trace.events if isinstance(e, CandidateRecorded)]
    assert leading == [True, True, True, False, False, False]


PROPOSALS = [(0, None), (1, 0.2), (2, 0.7), (3, 0.7), (4, None), (5, 0.7), (6, 0.1)]


@given(st.permutations(PROPOSALS))
async def test_ties_go_to_the_lowest_index_in_any_order_of_proposal(
    proposals: list[tuple[int, float | None]],
) -> None:
    run = make_run()
    for index, score in proposals:
        run.propose(Candidate(text=f"{index}", index=index, score=score))
    assert run.best.index == 2


@given(st.permutations(range(5)))
async def test_lowest_index_leads_without_scores(order: list[int]) -> None:
    run = make_run()
    for index in order:
        run.propose(Candidate(text="It is 42.", index=index))
    assert run.best.index == 0


async def test_elect_replaces_the_leader() -> None:
    run = make_run()
    run.elect(Candidate(text="a", score=0.9))
    run.elect(Candidate(text="b", score=0.5))
    assert run.best.text == "b"


async def test_every_candidate_is_reported_once_and_the_winner_with_its_vote_share() -> None:
    run = make_run(
        ScriptedEngine(answers("1", "2", "1", "3")), "self_consistency", {"n": 4, "stop": "none"}
    )
    outcome = await execute(run)
    listed = {candidate.index: candidate for candidate in outcome.candidates}
    assert [listed[i].answer for i in range(4)] == ["1", "2", "1", "3"]
    assert listed[0] == outcome.candidate
    assert listed[0].score == 0.5
    seen = [event for event in run.trace.events if isinstance(event, CandidateRecorded)]
    assert [event.is_best for event in seen] == [False, True, False, False, False]


class _ComparingSandboxes(Sandboxes):
    """Sandboxes in which tests pass if they equal the code."""

    def __init__(self) -> None:
        super().__init__(max_concurrent=2)
        self.runs: list[tuple[str, str]] = []

    async def run(self, code: str, tests: str) -> SandboxResult:
        self.runs.append((code, tests))
        return SandboxResult("passed" if code == tests else "failed", "output")


async def test_only_code_is_tested_and_each_code_once() -> None:
    sandboxes = _ComparingSandboxes()
    task = Task(kind="code", tests="right")
    verifier = Verifier(task, sandboxes, Trace())
    right = Candidate(text="", answer="right")
    for _ in range(2):
        verdict = await verifier.verify(right)
        assert verdict is not None
        assert (verdict.accepted, verdict.score, verdict.reasons) == (True, 1.0, "output")
    wrong = await verifier.verify(Candidate(text="", answer="wrong"))
    assert wrong is not None
    assert (wrong.accepted, wrong.score) == (False, 0.0)
    missing = await verifier.verify(Candidate(text=""))
    assert missing is not None
    assert not missing.accepted
    assert sandboxes.runs == [("right", "right"), ("wrong", "right")]
    assert await Verifier(Task(kind="code"), sandboxes, Trace()).verify(right) is None
    assert await Verifier(task, None, Trace()).verify(right) is None


async def test_sandbox_passes_code_and_tests_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run_python(code: str, tests: str) -> SandboxResult:
        return SandboxResult("passed", f"{code} by {tests}")

    monkeypatch.setattr(runner, "run_python", run_python)
    assert (await Sandboxes(1).run("code", "tests")).output == "code by tests"

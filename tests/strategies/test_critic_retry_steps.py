"""Mode step_guided of critic_retry: a rejected step is redrawn from the steps before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run_spec import SharedResources
from secondpass.service.runs.verifiers import Sandboxes
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CapabilityMissing
from secondpass.strategies.api.values import SOLVE, Sampling
from secondpass.testing.support import assert_accounting_is_complete, make_run
from tests.strategies.critic_retry_script import RIGHT, WRONG, purposes

pytestmark = pytest.mark.anyio


def stepped(
    drafts: Mapping[int, Sequence[str]], labels: Mapping[str, float] | None = None
) -> Script:
    """Return a script whose draw i has the steps drafts[i]; the critic rejects steps that contain "bad".

    `labels` replaces the critic's probabilities.
    """

    def script(call: Call, index: int) -> Reply:
        if call.purpose == "step_check":
            step = call.messages[-2].text.split("\n\n")[-1]
            wrong = 0.9 if "bad" in step else 0.1
            probabilities = {"right": 1 - wrong, "wrong": wrong}
            return Reply("x", labels=probabilities if labels is None else labels)
        return Reply("\n\n".join(drafts[index]))

    return script


GUIDED = {"mode": "step_guided", "n": 1}


async def test_the_first_wrong_step_is_redrawn_from_the_steps_before_it() -> None:
    drafts = {0: ["One.", "Two bad.", "So \\boxed{41}."], 1: ["One.", "Two.", "So \\boxed{42}."]}
    engine = ScriptedEngine(stepped(drafts))
    run = make_run(engine, "critic_retry", GUIDED)
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert outcome.candidate.text == "One.\n\nTwo.\n\nSo \\boxed{42}."
    first, redrawn = (call for call in engine.calls if call.role == "actor")
    assert (first.prefix, redrawn.index, redrawn.purpose) == (None, 1, "extend")
    assert isinstance(redrawn.prefix, tuple)
    assert len(redrawn.prefix) == 1
    assert outcome.notes["steps"] == "4 checked, 1 redrawn, 0 unreadable"
    shown = [c.messages[-2].text for c in engine.calls if c.purpose == "step_check"]
    assert shown == ["One.", "One.\n\nTwo bad.", "One.\n\nTwo.", "\n\n".join(drafts[1])]
    assert_accounting_is_complete(run, engine)


async def test_a_wrong_first_step_is_redrawn_from_the_question() -> None:
    drafts = {0: ["One bad.", "So \\boxed{41}."], 1: ["One.", "So \\boxed{42}."]}
    engine = ScriptedEngine(stepped(drafts))
    assert (await execute(make_run(engine, "critic_retry", GUIDED))).candidate.answer == "42"
    assert [c.purpose for c in engine.calls if c.role == "actor"] == [SOLVE, SOLVE]


@settings(max_examples=40)
@given(
    bad=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=12, max_size=12),
    redraws=st.integers(1, 3),
)
def test_redraws_limits_the_redraws_of_each_step(bad: list[list[bool]], redraws: int) -> None:
    def draw(index: int) -> list[str]:
        found = bad[index % 12]
        return [f"{i}{'bad' if is_bad else ''}." for i, is_bad in enumerate(found)] + [
            "So \\boxed{42}."
        ]

    def script(call: Call, index: int) -> Reply:
        reply = stepped({index: draw(index)})(call, index)
        if isinstance(call.prefix, tuple):  # one token per step: the steps of the prefix
            return Reply("\n\n" + "\n\n".join(draw(index)[len(call.prefix) :]))
        return reply

    async def solve() -> None:
        engine = ScriptedEngine(script)
        run = make_run(engine, "critic_retry", GUIDED | {"redraws": redraws})
        outcome = await execute(run)
        assert outcome.candidate.text.strip()
        assert len([c for c in engine.calls if c.role == "actor"]) <= 1 + 4 * redraws
        prefixes = Counter(c.prefix or () for c in engine.calls if c.role == "actor")
        assert max(prefixes.values()) <= redraws + 1
        assert_accounting_is_complete(run, engine)

    anyio.run(solve)


async def test_an_unreadable_step_verdict_does_not_reject_the_step() -> None:
    drafts = {0: ["One.", "Two bad.", "So \\boxed{42}."]}
    engine = ScriptedEngine(stepped(drafts, labels={}))
    outcome = await execute(make_run(engine, "critic_retry", GUIDED))
    assert outcome.candidate.answer == "42"
    assert outcome.notes["steps"] == "3 checked, 0 redrawn, 3 unreadable"
    assert outcome.degraded == {"critic": 3}


async def test_guided_drafts_vote() -> None:
    values = ("41", "42", "42")
    drafts = {i: ["One.", f"So \\boxed{{{value}}}."] for i, value in enumerate(values)}
    engine = ScriptedEngine(stepped(drafts))
    run = make_run(engine, "critic_retry", {"mode": "step_guided", "n": 3})
    assert (await execute(run)).candidate.answer == "42"


async def test_a_guided_draft_that_passes_the_tests_wins() -> None:
    codes = (WRONG, WRONG, RIGHT)
    drafts = {i: ["One.", f"```python\n{code}\n```"] for i, code in enumerate(codes)}
    task = Task(kind="code", tests="assert add(2, 3) == 5\n")
    shared = SharedResources(Equivalence(), Sandboxes(2))
    engine = ScriptedEngine(stepped(drafts))
    params = {"mode": "step_guided", "n": 3}
    run = make_run(engine, "critic_retry", params, task=task, shared=shared)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == (RIGHT, "accepted")
    assert outcome.notes["steps"] == "6 checked, 0 redrawn, 0 unreadable"
    assert outcome.notes["verdicts"] == "1 right, 2 wrong, 0 none, by tests"


async def test_an_actor_without_prefix_is_an_error_or_its_drafts_are_not_guided() -> None:
    drafts = {i: ["One bad.", "So \\boxed{42}."] for i in range(4)}
    engine = ScriptedEngine(stepped(drafts), lacking=frozenset({"prefix"}))
    run = make_run(engine, "critic_retry", {"mode": "step_guided"})
    with pytest.raises(CapabilityMissing, match="lacks the capability prefix"):
        await execute(run)
    assert not engine.calls
    run = make_run(engine, "critic_retry", {"mode": "step_guided", "without_prefix": "vote"})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert "not guided: the actor's engine lacks" in outcome.notes["steps"]
    assert purposes(engine) == {SOLVE: 4}


async def test_a_draft_that_the_budget_ends_answers_with_its_steps_so_far() -> None:
    drafts = {0: ["One bad.", "x"], 1: ["One.", "So \\boxed{42}.", "And " + "more " * 200]}
    engine = ScriptedEngine(stepped(drafts))
    run = make_run(engine, "critic_retry", GUIDED, max_tokens=40)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("42", "budget_tokens")
    assert outcome.candidate.text.startswith("One.\n\nSo")


@pytest.mark.parametrize("stop", ["END", "Two. END", "e.\n\nTwo. END"])
async def test_a_stop_string_of_the_client_may_end_a_draft_anywhere(stop: str) -> None:
    engine = ScriptedEngine(stepped({0: ["So \\boxed{42}.", "One.", "Two. END", "bad"]}))
    run = make_run(engine, "critic_retry", GUIDED, sampling=Sampling(stop=(stop,)))
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert stop not in outcome.candidate.text
    assert_accounting_is_complete(run, engine)

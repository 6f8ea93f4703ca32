"""Retries of critic_retry: their prompts exclude the rejected version, and changes need confirmation."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.common.events import CallFinished, CallStarted
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import SharedResources
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.values import SOLVE, Role, Sampling
from secondpass.testing.support import OPEN, assert_accounting_is_complete, make_run
from tests.strategies.critic_retry_script import (
    NO_LABELS,
    SPLIT,
    calibrated,
    critic,
    purposes,
    retries_of,
    worked,
)
from tests.strategies.run_notes import notes

pytestmark = pytest.mark.anyio


async def test_a_retry_prompt_contains_the_answers_tried_and_the_issues_but_no_rejected_version() -> (
    None
):
    engine = ScriptedEngine(critic(("41",), "42", {1: "43", 2: "44"}), lacking=NO_LABELS)
    run = make_run(engine, "critic_retry", {"mode": "sequential"})
    await execute(run)
    order = [call.purpose for call in engine.calls]
    assert order == [SOLVE, "critique", "retry", "critique", "retry"]
    first, second = retries_of(engine)
    for call in (first, second):
        (message,) = call.messages  # the question with a last paragraph, no assistant turn
        assert message.text.startswith("What is 6 times 7?\n\n")
        assert "step 2 adds wrongly" in message.text
        assert "went like this" not in message.text
    assert "TRIED 1" in first.messages[0].text
    assert "\n43\n" not in first.messages[0].text
    shown = second.messages[0].text
    assert shown.index("\n41\n") < shown.index("TRIED 2") < shown.index("\n43\n")
    assert (first.index, second.index) == (1, 2)


async def test_a_changed_answer_needs_a_second_retry_or_a_calibrated_critic() -> None:
    params = {"mode": "sequential", "max_rounds": 1}
    script = critic(("41",), "42", {1: "42", 2: "42"})
    assert (
        await execute(make_run(ScriptedEngine(script), "critic_retry", params))
    ).candidate.answer == "41"
    run = calibrated(make_run(ScriptedEngine(script), "critic_retry", params))
    assert (await execute(run)).candidate.answer == "42"
    twice = critic(("41",), "none", {1: "42", 2: "42"})
    run = make_run(ScriptedEngine(twice), "critic_retry", {"mode": "sequential"})
    assert (await execute(run)).candidate.answer == "42"
    assert notes(run)["retries"].startswith("2 drawn, 1 with an answer tried before")


async def test_parallel_retries_each_rejected_draft_once() -> None:
    retries = {4: "42", 5: "42", 7: "44"}
    engine = ScriptedEngine(critic(SPLIT, "42", retries), lacking=NO_LABELS)
    run = make_run(engine, "critic_retry", {"mode": "parallel"})
    assert (await execute(run)).candidate.answer == "42"
    assert purposes(engine) == {SOLVE: 4, "critique": 4, "retry": 3}
    assert sorted(call.index for call in retries_of(engine)) == [4, 5, 7]
    assert_accounting_is_complete(run, engine)


async def test_hybrid_continues_until_the_critic_accepts_each_chain() -> None:
    retries = {4: "44", 5: "42", 7: "42", 8: "42"}
    engine = ScriptedEngine(critic(SPLIT, "42", retries), lacking=NO_LABELS)
    run = make_run(engine, "critic_retry", {"mode": "hybrid", "max_rounds": 3})
    assert (await execute(run)).candidate.answer == "42"
    assert purposes(engine) == {SOLVE: 4, "critique": 8, "retry": 4}


async def test_only_versions_rejected_by_labels_get_a_written_critique() -> None:
    engine = ScriptedEngine(critic(("41", "42"), "42", {2: "42"}))
    run = calibrated(make_run(engine, "critic_retry", {"mode": "parallel", "n": 2}))
    assert (await execute(run)).candidate.answer == "42"
    assert purposes(engine) == {SOLVE: 2, "p_true": 6, "critique": 1, "retry": 1}
    reads = [call for call in engine.calls if call.purpose == "p_true"]
    assert all(
        call.messages[0].text == "What is 6 times 7?" for call in reads
    )  # no earlier critique


async def test_a_retry_needs_a_written_critique_that_rejects_the_version_too() -> None:
    approving = json.dumps({"issues": [], "first_wrong_step": None, "verdict": "correct"})
    engine = ScriptedEngine(critic(("41",), "42", critique=approving))
    run = make_run(engine, "critic_retry", {"mode": "sequential"})
    assert (await execute(run)).candidate.answer == "41"
    assert not retries_of(engine)


async def test_the_schedule_raises_the_temperature_of_retries_and_is_off_by_default() -> None:
    for schedule, expected in ((True, [0.85, 1.0]), (False, [0.7, 0.7])):
        engine = ScriptedEngine(critic(("41",), "42", {1: "43", 2: "44"}))
        params = {"mode": "sequential", "schedule": schedule}
        await execute(make_run(engine, "critic_retry", params))
        drawn = [call.sampling.temperature for call in retries_of(engine)]
        assert drawn == pytest.approx(expected)


async def test_a_retry_that_lost_the_numbers_is_dropped_and_redrawn_next_round() -> None:
    def script(call: Call, index: int) -> Reply:
        if call.purpose == "retry" and index == 1:
            return Reply("\\boxed{42}")
        return critic(("41",), "42", {2: "42"})(call, index)

    engine = ScriptedEngine(script)
    run = make_run(engine, "critic_retry", {"mode": "sequential"})
    assert (await execute(run)).candidate.answer == "41"
    assert notes(run)["retries"].endswith("1 dropped for lost numbers")
    first, second = retries_of(engine)
    assert (first.messages, first.index) == (second.messages, second.index - 1)


async def test_a_draft_without_an_answer_is_retried_without_a_critic() -> None:
    def script(call: Call, index: int) -> Reply:
        return Reply("I got lost." if call.purpose == SOLVE else worked("42", "retry"))

    engine = ScriptedEngine(script)
    run = make_run(engine, "critic_retry", {"mode": "sequential", "max_rounds": 1})
    assert (await execute(run)).candidate.answer == "42"
    assert [call.purpose for call in engine.calls] == [SOLVE, "retry_unseen"]


@pytest.mark.parametrize("fault", ["unavailable", "interrupt", "refuse"])
async def test_a_failed_retry_has_no_effect_on_the_answer(fault: str) -> None:
    def script(call: Call, index: int) -> Reply:
        if call.purpose == "retry":
            return Reply("One two three", fault=fault)  # type: ignore[arg-type]
        return critic(SPLIT, "42")(call, index)

    engine = ScriptedEngine(script)
    run = make_run(engine, "critic_retry", {"mode": "hybrid"})
    outcome = await execute(run)
    assert outcome.candidate.answer == "41"
    assert outcome.degraded
    assert outcome.notes["retries"].startswith("0 drawn")


@pytest.mark.parametrize("calls", range(1, 9))
async def test_an_exhausted_budget_leaves_the_leader_of_the_vote(calls: int) -> None:
    engine = ScriptedEngine(critic(SPLIT, "42", {4: "44", 5: "45", 7: "46"}), lacking=NO_LABELS)
    params = {"mode": "hybrid", "width": 1}
    run = make_run(engine, "critic_retry", params, max_calls=calls)
    assert (await execute(run)).candidate.answer == "41"
    assert_accounting_is_complete(run, engine)


async def test_with_a_seed_digests_are_unique_and_reproducible() -> None:
    digests = []
    for _ in range(2):
        engine = ScriptedEngine(critic(SPLIT, "none", dict.fromkeys(range(4, 12), "44")))
        params = {"mode": "hybrid"}
        run = make_run(engine, "critic_retry", params, sampling=Sampling(seed=7))
        await execute(run)
        drawn = [call.digest for call in engine.calls if not call.labels]
        assert len(set(drawn)) == len(drawn)
        digests.append(Counter(call.digest for call in engine.calls))
    assert digests[0] == digests[1]


async def test_a_critic_that_is_a_reasoning_model_is_never_called_at_temperature_0() -> None:
    engine = ScriptedEngine(critic(("41",), "42", {1: "42"}), lacking=NO_LABELS)
    run = make_run(engine, "critic_retry", {"mode": "sequential", "max_rounds": 1})
    profiles: dict[Role, Profile] = {
        "critic": Profile(name="thinker", is_thinking=True, temperature=0.6)
    }
    await execute(
        LiveRun(replace(run.spec, profiles=profiles), SharedResources(Equivalence()), run.trace)
    )
    drawn = [call.sampling.temperature for call in engine.calls if call.role == "critic"]
    assert drawn == [0.6]


words = st.text("abc xyz.\n{}[]|<>", min_size=1, max_size=30)


@settings(max_examples=40)
@given(
    texts=st.lists(words, min_size=6, max_size=6),
    issues=st.lists(words, max_size=2),
    mode=st.sampled_from(["sequential", "parallel", "hybrid"]),
    task=st.sampled_from([Task(kind="math"), Task(kind="code"), OPEN]),
)
def test_the_text_of_a_rejected_version_never_appears_in_a_retry_prompt(
    texts: list[str], issues: list[str], mode: str, task: Task
) -> None:
    def attempt(index: int) -> str:
        text = f"Attempt {index}: {texts[index % 6]} end of it.\n\nSo \\boxed{{{index % 3}}}."
        return text.replace("\n", " ") if task.kind == "code" else text

    def script(call: Call, index: int) -> Reply:
        if call.purpose == "critique":
            # The critic quotes whole versions.
            found = [
                *issues,
                *(attempt(i) for i in range(12) if attempt(i) in call.messages[0].text),
            ]
            reply = {"issues": found, "first_wrong_step": None, "verdict": "wrong"}
            return Reply(json.dumps(reply))
        return Reply(attempt(index))

    async def solve() -> None:
        params = {"mode": mode, "always_weigh": True, "decided": 1} if mode != "sequential" else {}
        engine = ScriptedEngine(script, lacking=NO_LABELS)
        run = make_run(engine, "critic_retry", {"mode": mode, **params}, task=task)
        await execute(run)
        assert task.kind == "open" or retries_of(engine)
        for call in retries_of(engine):
            seen = " ".join(call.messages[-1].text.split())
            assert "Attempt" not in seen
            assert len(call.messages) == 1

    anyio.run(solve)


@pytest.mark.parametrize("width", [1, 3])
async def test_width_limits_concurrent_retries(width: int) -> None:
    retries = {4 + chain: "42" for chain in range(4)}
    engine = ScriptedEngine(critic(("41", "42", "43", "44"), "45", retries), per_token=0.001)
    params = {"mode": "parallel", "width": width, "verdict": "text"}
    run = make_run(engine, "critic_retry", params)
    await execute(run)
    running, most = set[int](), 0
    for event in run.trace.events:
        if isinstance(event, CallStarted) and event.purpose == "retry":
            running.add(event.call)
        elif isinstance(event, CallFinished):
            running.discard(event.call)
        most = max(most, len(running))
    assert (len(retries_of(engine)), most) == (4, width)

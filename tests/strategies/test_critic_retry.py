"""Verdicts that weigh the vote, and retries out of sight of the wrong attempt, over the scripted engine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from secondpass.service.common.events import CallFinished, CallStarted, NoteMade
from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import Shared
from secondpass.service.runs.verifiers import Sandboxes
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.calibration import Calibration
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CapabilityMissing
from secondpass.strategies.api.model_profiles import Profile
from secondpass.strategies.api.values import SOLVE, Capability, Role, Sampling
from secondpass.strategies.critic_retry import CriticRetry
from secondpass.testing.support import OPEN, assert_books_are_closed, make_run

pytestmark = pytest.mark.anyio

NO_LABELS: frozenset[Capability] = frozenset({"labels"})
SPLIT = ("41", "41", "42", "43")


def worked(value: str, place: str) -> str:
    return f"The {place} went like this: 1, 2, 3.\n\nSo \\boxed{{{value}}}."


def critic(
    drafts: Sequence[str],
    right: str,
    retries: Mapping[int, str] | None = None,
    *,
    issues: Sequence[str] = ("step 2 adds wrongly",),
    says: str | None = None,
) -> Script:
    """Draft i answers drafts[i], the retry of index i retries[i]; what does not answer `right` is called wrong."""

    def script(call: Call, index: int) -> Reply:
        if call.purpose == SOLVE:
            return Reply(worked(drafts[index], f"draft {index}"))
        if call.purpose.startswith("retry"):
            return Reply(worked((retries or {})[index], f"retry {index}"))
        if call.purpose == "critique":
            is_right = f"boxed{{{right}}}" in call.messages[0].text
            verdict = "correct" if is_right else "wrong"
            found = {"issues": [*issues], "first_wrong_step": None, "verdict": verdict}
            return Reply(json.dumps(found) if says is None else says)
        right_p = 0.95 if f"boxed{{{right}}}" in call.messages[-2].text else 0.05
        a = right_p if "A) right" in call.messages[-1].text else 1 - right_p
        return Reply("x", labels={"A": a, "B": 1 - a})

    return script


def calibrated(run: LiveRun, auroc: float = 0.9) -> LiveRun:
    measured = Calibration(
        model="scripted",
        labels=("A", "B"),
        mass=1.0,
        temperature=1.0,
        auroc=auroc,
        accuracy=0.5,
        n=100,
        drawn=date(2026, 11, 1),
        data="0" * 64,
    )
    run.job = replace(run.job, calibrations={"critic": measured})
    return run


def notes(run: LiveRun) -> dict[str, str]:
    return {event.about: event.what for event in run.trace.events if isinstance(event, NoteMade)}


def purposes(engine: ScriptedEngine) -> Counter[str]:
    return Counter(call.purpose for call in engine.calls)


def retries_of(engine: ScriptedEngine) -> list[Call]:
    return [call for call in engine.calls if call.purpose.startswith("retry")]


# -- the vote ----------------------------------------------------------------------------------------


async def test_a_critic_not_known_to_be_good_is_not_asked_and_a_note_says_so() -> None:
    for auroc in (None, 0.55):
        engine = ScriptedEngine(critic(SPLIT, "42"))
        run = make_run(engine, "critic_retry")
        outcome = await execute(run if auroc is None else calibrated(run, auroc))
        assert outcome.candidate.answer == "41"
        assert purposes(engine) == {SOLVE: 4}
        assert outcome.notes["verdicts"] == "none asked for: they would weigh nothing"
        assert "unweighted votes" in outcome.notes["critic"]


@pytest.mark.parametrize("lacking", [frozenset[Capability](), NO_LABELS])
async def test_verdicts_of_a_critic_that_is_good_weigh_the_vote(
    lacking: frozenset[Capability],
) -> None:
    engine = ScriptedEngine(critic(("41", "41", "42"), "42"), lacking=lacking)
    run = calibrated(make_run(engine, "critic_retry", {"n": 3}))
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.confidence is not None) == ("42", True)
    asked = {"critique": 3} if lacking else {"p_true": 6}
    assert purposes(engine) == {SOLVE: 3, **asked}
    assert (
        notes(run)["verdicts"] == f"1 right, 2 wrong, 0 none, by {'text' if lacking else 'labels'}"
    )
    assert_books_are_closed(run, engine)


@pytest.mark.parametrize("how", ["soft", "hard"])
async def test_where_the_drafts_agree_no_critic_is_asked(how: str) -> None:
    for mode in ("filter_vote", "parallel", "hybrid"):
        engine = ScriptedEngine(critic(("41",) * 4, "42"))
        run = calibrated(make_run(engine, "critic_retry", {"mode": mode, "filter": how}))
        assert (await execute(run)).candidate.answer == "41"
        assert purposes(engine) == {SOLVE: 4}
        assert notes(run)["verdicts"] == "none asked for: a vote share of 1.00 is above 0.75"


async def test_the_hard_filter_drops_what_is_called_wrong_and_falls_back_to_all() -> None:
    for right, answer in (("42", "42"), ("none of them", "41")):
        engine = ScriptedEngine(critic(SPLIT, right))
        run = make_run(engine, "critic_retry", {"filter": "hard"})
        assert (await execute(run)).candidate.answer == answer
        assert purposes(engine)["p_true"] == 8


@pytest.mark.parametrize("mode", ["filter_vote", "sequential", "parallel", "hybrid"])
@pytest.mark.parametrize("says", ["", "wrong", '{"verdict": "wrong"}', "{" * 50])
async def test_an_unreadable_critique_is_no_verdict_and_costs_no_answer(
    mode: str, says: str
) -> None:
    engine = ScriptedEngine(critic(SPLIT, "42", says=says), lacking=NO_LABELS | {"schema"})
    run = make_run(engine, "critic_retry", {"mode": mode, "filter": "hard"})
    assert (await execute(run)).candidate.answer == "41"
    assert not retries_of(engine)
    assert "0 right, 0 wrong" in notes(run)["verdicts"]
    assert_books_are_closed(run, engine)


async def test_in_open_tasks_only_the_hard_filter_asks() -> None:
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


# -- retries -----------------------------------------------------------------------------------------


async def test_a_retry_sees_answers_tried_and_what_is_wrong_but_not_the_wrong_attempt() -> None:
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


async def test_a_change_needs_a_second_retry_or_a_critic_that_is_good() -> None:
    params = {"mode": "sequential", "max_rounds": 1}
    script = critic(("41",), "42", {1: "42", 2: "42"})
    assert (
        await execute(make_run(ScriptedEngine(script), "critic_retry", params))
    ).candidate.answer == "41"
    run = calibrated(make_run(ScriptedEngine(script), "critic_retry", params))
    assert (await execute(run)).candidate.answer == "42"
    twice = critic(("41",), "none of them", {1: "42", 2: "42"})
    run = make_run(ScriptedEngine(twice), "critic_retry", {"mode": "sequential"})
    assert (await execute(run)).candidate.answer == "42"
    assert notes(run)["retries"].startswith("2 drawn, 1 with an answer tried before")


async def test_parallel_tries_each_rejected_draft_once() -> None:
    retries = {4: "42", 5: "42", 7: "44"}
    engine = ScriptedEngine(critic(SPLIT, "42", retries), lacking=NO_LABELS)
    run = make_run(engine, "critic_retry", {"mode": "parallel"})
    assert (await execute(run)).candidate.answer == "42"
    assert purposes(engine) == {SOLVE: 4, "critique": 4, "retry": 3}
    assert sorted(call.index for call in retries_of(engine)) == [4, 5, 7]
    assert_books_are_closed(run, engine)


async def test_hybrid_goes_on_until_the_critic_accepts_each_chain() -> None:
    retries = {4: "44", 5: "42", 7: "42", 8: "42"}
    engine = ScriptedEngine(critic(SPLIT, "42", retries), lacking=NO_LABELS)
    run = make_run(engine, "critic_retry", {"mode": "hybrid", "max_rounds": 3})
    assert (await execute(run)).candidate.answer == "42"
    assert purposes(engine) == {SOLVE: 4, "critique": 8, "retry": 4}


async def test_labels_say_what_is_wrong_and_only_then_words_say_why() -> None:
    engine = ScriptedEngine(critic(("41", "42"), "42", {2: "42"}))
    run = calibrated(make_run(engine, "critic_retry", {"mode": "parallel", "n": 2}))
    assert (await execute(run)).candidate.answer == "42"
    assert purposes(engine) == {SOLVE: 2, "p_true": 6, "critique": 1, "retry": 1}
    reads = [call for call in engine.calls if call.purpose == "p_true"]
    assert all(
        call.messages[0].text == "What is 6 times 7?" for call in reads
    )  # no earlier critique


async def test_a_retry_needs_words_that_call_the_attempt_wrong_too() -> None:
    approving = json.dumps({"issues": [], "first_wrong_step": None, "verdict": "correct"})
    engine = ScriptedEngine(critic(("41",), "42", says=approving))
    run = make_run(engine, "critic_retry", {"mode": "sequential"})
    assert (await execute(run)).candidate.answer == "41"
    assert not retries_of(engine)


async def test_the_schedule_heats_retries_and_is_off_by_default() -> None:
    for schedule, hot in ((True, [0.85, 1.0]), (False, [0.7, 0.7])):
        engine = ScriptedEngine(critic(("41",), "42", {1: "43", 2: "44"}))
        params = {"mode": "sequential", "schedule": schedule}
        await execute(make_run(engine, "critic_retry", params))
        drawn = [call.sampling.temperature for call in retries_of(engine)]
        assert drawn == pytest.approx(hot)


async def test_a_retry_that_lost_the_numbers_does_not_count_and_is_drawn_again() -> None:
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


async def test_a_draft_without_an_answer_is_tried_again_without_a_critic() -> None:
    def script(call: Call, index: int) -> Reply:
        return Reply("I got lost." if call.purpose == SOLVE else worked("42", "retry"))

    engine = ScriptedEngine(script)
    run = make_run(engine, "critic_retry", {"mode": "sequential", "max_rounds": 1})
    assert (await execute(run)).candidate.answer == "42"
    assert [call.purpose for call in engine.calls] == [SOLVE, "retry_unseen"]


@pytest.mark.parametrize("fault", ["unavailable", "cut", "refuse"])
async def test_a_retry_that_fails_costs_no_answer(fault: str) -> None:
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
async def test_a_budget_that_ends_anywhere_leaves_the_votes_leader(calls: int) -> None:
    engine = ScriptedEngine(critic(SPLIT, "42", {4: "44", 5: "45", 7: "46"}), lacking=NO_LABELS)
    params = {"mode": "hybrid", "width": 1}
    run = make_run(engine, "critic_retry", params, max_calls=calls)
    assert (await execute(run)).candidate.answer == "41"
    assert_books_are_closed(run, engine)


async def test_with_a_seed_every_draw_has_a_key_of_its_own_and_the_same_one_again() -> None:
    keys = []
    for _ in range(2):
        engine = ScriptedEngine(critic(SPLIT, "none", dict.fromkeys(range(4, 12), "44")))
        params = {"mode": "hybrid"}
        run = make_run(engine, "critic_retry", params, sampling=Sampling(seed=7))
        await execute(run)
        drawn = [call.digest for call in engine.calls if not call.labels]
        assert len(set(drawn)) == len(drawn)
        keys.append(Counter(call.digest for call in engine.calls))
    assert keys[0] == keys[1]


async def test_a_critic_that_thinks_is_never_drawn_at_temperature_0() -> None:
    engine = ScriptedEngine(critic(("41",), "42", {1: "42"}), lacking=NO_LABELS)
    run = make_run(engine, "critic_retry", {"mode": "sequential", "max_rounds": 1})
    profiles: dict[Role, Profile] = {
        "critic": Profile(name="thinker", is_thinking=True, temperature=0.6)
    }
    await execute(LiveRun(replace(run.job, profiles=profiles), Shared(Equivalence()), run.trace))
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
def test_a_wrong_attempts_text_never_appears_in_a_retry(
    texts: list[str], issues: list[str], mode: str, task: Task
) -> None:
    def attempt(index: int) -> str:
        text = f"Attempt {index}: {texts[index % 6]} end of it.\n\nSo \\boxed{{{index % 3}}}."
        return text.replace("\n", " ") if task.kind == "code" else text

    def script(call: Call, index: int) -> Reply:
        if call.purpose == "critique":
            # A critic that quotes what it was shown, whole.
            told = [
                *issues,
                *(attempt(i) for i in range(12) if attempt(i) in call.messages[0].text),
            ]
            reply = {"issues": told, "first_wrong_step": None, "verdict": "wrong"}
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


# -- tests of a code task ----------------------------------------------------------------------------

RIGHT = "def add(a, b):\n    return a + b"
WRONG = "def add(a, b):\n    return a - b"
OTHER = "def add(a, b):\n    return a * b"


def coded(drafts: Sequence[str], retries: Mapping[int, str]) -> Script:
    def script(call: Call, index: int) -> Reply:
        code = drafts[index] if call.purpose == SOLVE else retries[index]
        return Reply(f"```python\n{code}\n```")

    return script


async def test_what_the_tests_pass_wins_and_no_critic_is_asked() -> None:
    task = Task(kind="code", tests="assert add(2, 3) == 5\n")
    engine = ScriptedEngine(coded((WRONG, WRONG, RIGHT, OTHER), {}))
    shared = Shared(Equivalence(), Sandboxes(2))
    run = make_run(engine, "critic_retry", task=task, shared=shared)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == (RIGHT, "accepted")
    assert purposes(engine) == {SOLVE: 4}
    assert outcome.notes["verdicts"] == "1 right, 3 wrong, 0 none, by tests"


@pytest.mark.parametrize(("repeats", "drawn"), [("auto", [1, 4, 2]), ("soft", [1, 2])])
async def test_a_retry_that_repeats_what_the_tests_rejected_is_drawn_again(
    repeats: str, drawn: list[int]
) -> None:
    task = Task(kind="code", tests="assert add(2, 3) == 5\n")
    engine = ScriptedEngine(coded((WRONG,), {1: WRONG, 4: OTHER, 2: RIGHT}))
    shared = Shared(Equivalence(), Sandboxes(2))
    params = {"mode": "sequential", "reject_repeats": repeats}
    run = make_run(engine, "critic_retry", params, task=task, shared=shared)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == (RIGHT, "accepted")
    assert [call.index for call in retries_of(engine)] == drawn
    told = retries_of(engine)[0].messages[0].text
    assert "assert add(2, 3) == 5" in told
    assert "a - b" not in told


# -- steps -------------------------------------------------------------------------------------------


def stepped(drafts: Mapping[int, Sequence[str]], says: Mapping[str, float] | None = None) -> Script:
    """Draw i is the steps of drafts[i]; a step with "bad" in it is wrong."""

    def script(call: Call, index: int) -> Reply:
        if call.purpose == "step_check":
            step = call.messages[-2].text.split("\n\n")[-1]
            wrong = 0.9 if "bad" in step else 0.1
            return Reply("x", labels={"right": 1 - wrong, "wrong": wrong} if says is None else says)
        return Reply("\n\n".join(drafts[index]))

    return script


GUIDED = {"mode": "step_guided", "n": 1}


async def test_the_first_wrong_step_is_drawn_again_from_the_steps_before_it() -> None:
    drafts = {0: ["One.", "Two bad.", "So \\boxed{41}."], 1: ["One.", "Two.", "So \\boxed{42}."]}
    engine = ScriptedEngine(stepped(drafts))
    run = make_run(engine, "critic_retry", GUIDED)
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert outcome.candidate.text == "One.\n\nTwo.\n\nSo \\boxed{42}."
    first, again = (call for call in engine.calls if call.role == "actor")
    assert (first.prefix, again.index, again.purpose) == (None, 1, "extend")
    assert isinstance(again.prefix, tuple)
    assert len(again.prefix) == 1
    assert outcome.notes["steps"] == "4 checked, 1 drawn again, 0 unreadable"
    shown = [c.messages[-2].text for c in engine.calls if c.purpose == "step_check"]
    assert shown == ["One.", "One.\n\nTwo bad.", "One.\n\nTwo.", "\n\n".join(drafts[1])]
    assert_books_are_closed(run, engine)


async def test_a_first_step_that_is_wrong_is_drawn_from_the_question() -> None:
    drafts = {0: ["One bad.", "So \\boxed{41}."], 1: ["One.", "So \\boxed{42}."]}
    engine = ScriptedEngine(stepped(drafts))
    assert (await execute(make_run(engine, "critic_retry", GUIDED))).candidate.answer == "42"
    assert [c.purpose for c in engine.calls if c.role == "actor"] == [SOLVE, SOLVE]


@settings(max_examples=40)
@given(
    bad=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=12, max_size=12),
    redraws=st.integers(1, 3),
)
def test_no_step_is_ever_drawn_again_more_often_than_asked_for(
    bad: list[list[bool]], redraws: int
) -> None:
    def draw(index: int) -> list[str]:
        found = bad[index % 12]
        return [f"{i}{'bad' if is_bad else ''}." for i, is_bad in enumerate(found)] + [
            "So \\boxed{42}."
        ]

    def script(call: Call, index: int) -> Reply:
        reply = stepped({index: draw(index)})(call, index)
        if isinstance(call.prefix, tuple):  # a step is a token: so many are there already
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
        assert_books_are_closed(run, engine)

    anyio.run(solve)


async def test_a_step_verdict_that_cannot_be_read_is_not_wrong() -> None:
    drafts = {0: ["One.", "Two bad.", "So \\boxed{42}."]}
    engine = ScriptedEngine(stepped(drafts, says={}))
    outcome = await execute(make_run(engine, "critic_retry", GUIDED))
    assert outcome.candidate.answer == "42"
    assert outcome.notes["steps"] == "3 checked, 0 drawn again, 3 unreadable"


async def test_guided_drafts_vote() -> None:
    values = ("41", "42", "42")
    drafts = {i: ["One.", f"So \\boxed{{{value}}}."] for i, value in enumerate(values)}
    engine = ScriptedEngine(stepped(drafts))
    run = make_run(engine, "critic_retry", {"mode": "step_guided", "n": 3})
    assert (await execute(run)).candidate.answer == "42"


async def test_of_guided_drafts_the_one_that_passes_the_tests_wins() -> None:
    codes = (WRONG, WRONG, RIGHT)
    drafts = {i: ["One.", f"```python\n{code}\n```"] for i, code in enumerate(codes)}
    task = Task(kind="code", tests="assert add(2, 3) == 5\n")
    shared = Shared(Equivalence(), Sandboxes(2))
    engine = ScriptedEngine(stepped(drafts))
    params = {"mode": "step_guided", "n": 3}
    run = make_run(engine, "critic_retry", params, task=task, shared=shared)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == (RIGHT, "accepted")
    assert outcome.notes["steps"] == "6 checked, 0 drawn again, 0 unreadable"
    assert outcome.notes["verdicts"] == "1 right, 2 wrong, 0 none, by tests"


@pytest.mark.parametrize("width", [1, 3])
async def test_no_more_retries_are_drawn_at_once_than_asked_for(width: int) -> None:
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


async def test_an_actor_that_cannot_go_on_is_named_or_its_drafts_are_not_guided() -> None:
    drafts = {i: ["One bad.", "So \\boxed{42}."] for i in range(4)}
    engine = ScriptedEngine(stepped(drafts), lacking=frozenset({"prefix"}))
    run = make_run(engine, "critic_retry", {"mode": "step_guided"})
    with pytest.raises(CapabilityMissing, match="lacks the capability prefix"):
        await execute(run)
    assert not engine.calls
    run = make_run(engine, "critic_retry", {"mode": "step_guided", "without_prefix": "vote"})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert "not guided: engine 'scripted' lacks" in outcome.notes["steps"]
    assert purposes(engine) == {SOLVE: 4}


async def test_a_draft_that_the_budget_ends_answers_with_its_steps_so_far_if_they_hold_it() -> None:
    drafts = {0: ["One bad.", "x"], 1: ["One.", "So \\boxed{42}.", "And " + "more " * 200]}
    engine = ScriptedEngine(stepped(drafts))
    run = make_run(engine, "critic_retry", GUIDED, max_tokens=40)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("42", "budget_tokens")
    assert outcome.candidate.text.startswith("One.\n\nSo")


# -- every mode, and what no mode takes ----------------------------------------------------------------

MODES = ("filter_vote", "sequential", "parallel", "hybrid", "step_guided")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lacking", [frozenset[Capability](), NO_LABELS, NO_LABELS | {"schema"}])
async def test_every_mode_answers_whatever_the_critic_can_do(
    mode: str, lacking: frozenset[Capability]
) -> None:
    engine = ScriptedEngine(lacking=lacking)
    run = make_run(engine, "critic_retry", {"mode": mode})
    assert (await execute(run)).candidate.answer == "42"
    assert_books_are_closed(run, engine)


@pytest.mark.parametrize(
    ("params", "said"),
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
        ({"max_rounds": 2}, "max_rounds: has no effect with mode 'filter_vote'; leave it None, or"),
        ({"redraws": 2}, "redraws: has no effect .* choose mode 'step_guided'"),
        ({"mode": "step_guided", "filter": "hard"}, "filter: has no effect with mode"),
        ({"mode": "sequential", "decided": 0.5}, "decided: has no effect with mode 'sequential'"),
        ({"mode": "sequential", "n": 4}, "n: sequential is one chain, not 4"),
        ({"mode": "parallel", "max_rounds": 2}, "max_rounds: parallel has 1, not 2"),
        (
            {"filter": "hard", "always_weigh": True},
            "always_weigh: has no effect with filter 'hard'; leave it False",
        ),
        ({"temperature": 0}, "temperature: 0 draws n equal drafts"),
        ({"mode": "hybrid", "schedule": True, "temperature": 1.3}, "schedule: it ends at 1.2"),
    ],
)
def test_params_that_make_no_sense_are_named(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CriticRetry(**params)


@pytest.mark.parametrize("mode", MODES)
def test_the_params_as_resolved_are_params(mode: str) -> None:
    params = CriticRetry.model_validate({"mode": mode})
    assert CriticRetry.model_validate(params.model_dump()) == params

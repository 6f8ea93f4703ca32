"""Chains that are extended with a reflection prompt: when a changed answer counts, and when no trigger is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine, tokens_of
from secondpass.service.runs.execute import execute
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CallRejected, CapabilityMissing
from secondpass.strategies.api.model_profiles import profile_of
from secondpass.strategies.api.values import SOLVE, Sampling
from secondpass.strategies.iterative_deepening import IterativeDeepening
from secondpass.testing.support import (
    MATH,
    ON_BOTH_BACKENDS,
    OPEN,
    assert_accounting_is_complete,
    constant_reply,
    make_run,
)
from tests.strategies.deepening_script import CHOICE, NAME, REFLECTION, reflections, segments
from tests.strategies.run_notes import notes

# -- what a trigger changes ------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("values", "answer", "calls"),
    [
        (("42", "42"), "42", 2),  # agrees at once, and ends
        (("41", "42", "42"), "42", 3),  # a confirmed change
        (("42", "41", "42"), "42", 3),  # a flip-flop: the answer that came back
        (("42", "41", "40"), "42", 3),  # a change that nothing confirms
    ],
)
async def test_a_changed_answer_counts_when_it_is_given_twice(
    values: tuple[str, ...], answer: str, calls: int
) -> None:
    engine = ScriptedEngine(segments(values))
    run = make_run(engine, NAME, {"n": 1, "max_triggers": 2})
    outcome = await execute(run)
    assert outcome.candidate.answer == answer
    assert len(engine.calls) == calls
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
async def test_a_model_without_reasoning_gets_one_trigger_when_it_has_finished() -> None:
    engine = ScriptedEngine(segments(("40", "41"), ("42", "43"), ("44", "45"), ("46", "47")))
    run = make_run(engine, NAME)
    outcome = await execute(run)
    assert outcome.candidate.answer == "40"
    assert sorted(reflections(call) for call in engine.calls) == [0] * 4 + [1] * 4
    assert all(call.purpose in (SOLVE, "extend") for call in engine.calls)


@pytest.mark.anyio
async def test_a_change_counts_where_another_chain_opened_with_it() -> None:
    engine = ScriptedEngine(segments(("40", "42"), ("41", "43"), ("42", "42"), ("40", "40")))
    run = make_run(engine, NAME, {"width": 1})
    outcome = await execute(run)
    # Chain 0 moves to 42 as soon as chain 2 has opened with it, and back once chain 3 opened with 40.
    assert outcome.candidate.answer == "40"
    assert outcome.candidate.why == "2 of 4 answers agree (4 samples drawn)"
    assert notes(run)["changed"] == "the answer changed within 2 of 4 chains"


@pytest.mark.anyio
async def test_one_chain_gets_no_trigger_where_nothing_could_confirm_a_change() -> None:
    engine = ScriptedEngine(segments(("42", "41")))
    run = make_run(engine, NAME, {"n": 1})
    outcome = await execute(run)
    assert (outcome.candidate.answer, len(engine.calls)) == ("42", 1)
    assert "confirm" in notes(run)["not deepened"]


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_chains_that_are_not_needed_are_aborted_in_the_engine() -> None:
    engine = ScriptedEngine(segments(("42", "42")))
    run = make_run(engine, NAME, {"n": 3, "width": 1})
    outcome = await execute(run)
    assert outcome.stop_reason == "consensus"
    assert len(engine.calls) < 6
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
async def test_a_draft_that_the_client_capped_is_not_continued_and_never_votes() -> None:
    engine = ScriptedEngine(segments(("42",)))
    run = make_run(engine, NAME, {"n": 2}, sampling=Sampling(max_tokens=1))
    outcome = await execute(run)
    assert outcome.candidate.answer is None
    assert len(engine.calls) == 2
    assert "length" in notes(run)["not deepened"]


@pytest.mark.anyio
async def test_chains_continue_from_their_tokens_however_often() -> None:
    engine = ScriptedEngine(segments(("40", "41", "42")))
    run = make_run(engine, NAME, {"n": 1, "max_triggers": 2})
    await execute(run)
    held = [engine.prefix_text(call) for call in engine.calls]
    assert held[2].startswith(held[1])
    assert (held[1].count(REFLECTION), held[2].count(REFLECTION)) == (1, 2)
    first, second = (call.prefix for call in engine.calls[1:])
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert second[: len(first)] == first
    assert all(isinstance(piece, int) for piece in second[len(first) : -1])


@pytest.mark.anyio
async def test_a_chain_continues_from_text_where_the_engine_returns_no_ids() -> None:
    engine = ScriptedEngine(constant_reply("So \\boxed{42}."), lacking=frozenset({"tokenize"}))
    run = make_run(engine, NAME, {"n": 1, "max_triggers": 2})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    prefix = engine.calls[1].prefix
    assert isinstance(prefix, str)
    assert prefix.endswith(f"\n\n{REFLECTION}\n\n")


# -- forced answers ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_choice_is_forced_as_a_letter() -> None:
    def script(call: Call, _index: int) -> Reply:
        return Reply(" B, I think" if call.purpose == "force" else "I cannot say.")

    engine = ScriptedEngine(script)
    outcome = await execute(make_run(engine, NAME, {"n": 2}, task=CHOICE))
    assert outcome.candidate.answer == "B"
    assert outcome.candidate.text == "I cannot say.\n\nAnswer: B"


# -- weights -------------------------------------------------------------------------------------------


def weighed(call: Call, index: int) -> Reply:
    sure = index == 1
    labels = dict.fromkeys(call.labels, 0.5)
    if call.labels:
        said = call.messages[-2].text
        right = "A" if "(A) right" in call.messages[-1].text else "B"
        labels = {"A": 0.05, "B": 0.05} | {right: 0.95} if "42" in said else labels
    return Reply(
        f"So \\boxed{{{42 if sure else 41}}}.", confidence=20.0 if sure else 1.0, labels=labels
    )


@pytest.mark.anyio
async def test_chains_may_weigh_by_the_confidence_of_their_tokens() -> None:
    engine = ScriptedEngine(weighed)
    run = make_run(engine, NAME, {"n": 3, "weight": "confidence", "width": 1, "group": 2})
    outcome = await execute(run)
    assert outcome.candidate.score_kind == "weighted_vote_share"
    assert outcome.candidate.answer == "42"
    assert all(call.logprobs for call in engine.calls)


@pytest.mark.anyio
@pytest.mark.parametrize("always", [True, False])
async def test_a_judge_that_is_not_calibrated_is_asked_only_by_always_weigh(
    always: bool,
) -> None:
    engine = ScriptedEngine(weighed)
    params = {"n": 3, "weight": "p_true", "always_weigh": always, "width": 1}
    run = make_run(engine, NAME, params)
    await execute(run)
    assert bool([call for call in engine.calls if call.labels]) == always
    assert "not calibrated" in notes(run)["judge"]


@pytest.mark.anyio
async def test_a_judge_is_not_asked_where_all_chains_agree() -> None:
    engine = ScriptedEngine(segments(("42", "42")))
    params = {"weight": "p_true", "always_weigh": True}
    await execute(make_run(engine, NAME, params))
    assert not [call for call in engine.calls if call.labels]


@pytest.mark.anyio
async def test_a_budget_that_ends_chains_early_is_the_stop_reason() -> None:
    engine = ScriptedEngine(segments(("41", "42"), ("42", "42")))
    run = make_run(engine, NAME, {"n": 2, "width": 1}, max_calls=3)
    outcome = await execute(run)
    assert outcome.stop_reason == "budget_calls"
    assert outcome.candidate.answer == "42"
    assert "continuation failed" in notes(run)["not deepened"]
    assert_accounting_is_complete(run, engine)


# -- failures ------------------------------------------------------------------------------------------


def failing(purpose: str) -> ScriptedEngine:
    """An engine that refuses calls of one purpose, and else writes texts without an answer."""

    def script(call: Call, _index: int) -> Reply:
        return Reply("I cannot say.", fault="refuse" if call.purpose == purpose else None)

    return ScriptedEngine(script)


@pytest.mark.anyio
async def test_a_chain_whose_continuation_fails_ends_with_the_answer_it_has() -> None:
    script = segments(("41", "42"), ("42", "42"))

    def failing(call: Call, index: int) -> Reply:
        reply = script(call, index)
        return replace(reply, fault="refuse") if call.prefix and call.index == 0 else reply

    engine = ScriptedEngine(failing)
    run = make_run(engine, NAME, {"n": 2, "width": 1})
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("41", "finished")
    assert outcome.degraded == {"actor": 1}
    assert notes(run)["not deepened"] == "chain 0: a continuation failed"
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
async def test_a_forced_answer_that_fails_is_no_answer_and_ends_nothing() -> None:
    engine = failing("force")
    outcome = await execute(make_run(engine, NAME, {"n": 1, "max_triggers": 2}, task=CHOICE))
    assert [call.purpose for call in engine.calls] == [SOLVE, "force", *["extend", "force"] * 2]
    assert outcome.candidate.text.startswith("I cannot say.")
    assert (outcome.candidate.answer, outcome.degraded) == (None, {"actor": 3})


@pytest.mark.anyio
async def test_chains_whose_drafts_all_fail_raise_what_failed() -> None:
    with pytest.raises(CallRejected):
        await execute(make_run(failing(SOLVE), NAME, {"n": 2}))


@pytest.mark.anyio
async def test_an_engine_that_cannot_continue_is_refused_before_its_first_call() -> None:
    engine = ScriptedEngine(segments(("42",)), lacking=frozenset({"prefix"}))
    with pytest.raises(CapabilityMissing):
        await execute(make_run(engine, NAME))
    assert not engine.calls


# -- params --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"b0": 8}, ("b0", "16")),
        ({"gamma": 0.5}, ("gamma", "1")),
        ({"gamma": 1}, ("gamma", "1.1 to 8", "segment")),
        ({"reading": "total"}, ("reading", "cumulative", "segment")),
        ({"max_triggers": 9}, ("max_triggers", "8")),
        ({"max_triggers": 0, "b0": 64}, ("b0", "1 to 8")),
        ({"max_triggers": 1, "agree": 3}, ("agree", "at most 2")),
        ({"agree": 4}, ("agree", "at most 3")),
        ({"temperature": 0}, ("temperature", "above 0")),
        ({"weight": "reward"}, ("weight", "none", "confidence", "p_true")),
        ({"always_weigh": True}, ("always_weigh", "p_true")),
        ({"group": 8}, ("group", "confidence")),
        ({"triggers": 2}, ("triggers",)),
    ],
)
def test_bad_params_name_the_field_and_what_is_allowed(
    params: Mapping[str, Any], says: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        IterativeDeepening.model_validate(params)
    assert all(word in str(caught.value) for word in says), str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("params", "task", "about", "why"),
    [
        ({"gamma": 3}, MATH, "gamma, reading", "no effect"),
        ({"b0": 64}, OPEN, "not deepened", "open question"),
    ],
)
async def test_params_without_effect_are_noted(
    params: Mapping[str, Any], task: Task, about: str, why: str
) -> None:
    run = make_run(ScriptedEngine(constant_reply("So \\boxed{42}.")), NAME, params, task=task)
    await execute(run)
    assert why in notes(run)[about]


def test_a_profile_reopens_only_reasoning_inside_the_message() -> None:
    assert profile_of("Qwen3-8B").reopens
    assert not profile_of("gpt-oss-120b").reopens
    assert tokens_of("a b") == ["a", " b"]

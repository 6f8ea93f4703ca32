"""iterative_deepening: reflection prompts, confirmation of changes, weights, errors and params."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.engines.scripted.tokens import tokens_of
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

# -- triggers ------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("values", "answer", "calls"),
    [
        (("42", "42"), "42", 2),  # agrees at once
        (("41", "42", "42"), "42", 3),  # a confirmed change
        (("42", "41", "42"), "42", 3),  # a flip-flop: the answer that came back
        (("42", "41", "40"), "42", 3),  # an unconfirmed change
    ],
)
async def test_a_changed_answer_counts_if_two_segments_have_it(
    values: tuple[str, ...], answer: str, calls: int
) -> None:
    engine = ScriptedEngine(segments(values))
    run = make_run(engine, NAME, {"n": 1, "max_triggers": 2})
    outcome = await execute(run)
    assert outcome.candidate.answer == answer
    assert len(engine.calls) == calls
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
async def test_a_model_without_reasoning_gets_one_trigger_after_its_draft() -> None:
    engine = ScriptedEngine(segments(("40", "41"), ("42", "43"), ("44", "45"), ("46", "47")))
    run = make_run(engine, NAME)
    outcome = await execute(run)
    assert outcome.candidate.answer == "40"
    assert sorted(reflections(call) for call in engine.calls) == [0] * 4 + [1] * 4
    assert all(call.purpose in (SOLVE, "extend") for call in engine.calls)


@pytest.mark.anyio
async def test_a_changed_answer_counts_if_another_chain_opened_with_it() -> None:
    engine = ScriptedEngine(segments(("40", "42"), ("41", "43"), ("42", "42"), ("40", "40")))
    run = make_run(engine, NAME, {"width": 1})
    outcome = await execute(run)
    # Chain 0 moves to 42 as soon as chain 2 has opened with it, and back once chain 3 opened with 40.
    assert outcome.candidate.answer == "40"
    assert outcome.candidate.why == "2 of 4 answers agree (4 samples drawn)"
    assert notes(run)["changed"] == "the answer changed within 2 of 4 chains"


@pytest.mark.anyio
async def test_a_single_chain_gets_no_trigger_if_nothing_could_confirm_a_change() -> None:
    engine = ScriptedEngine(segments(("42", "41")))
    run = make_run(engine, NAME, {"n": 1})
    outcome = await execute(run)
    assert (outcome.candidate.answer, len(engine.calls)) == ("42", 1)
    assert "confirm" in notes(run)["not deepened"]


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_chains_that_are_not_needed_are_aborted() -> None:
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
async def test_every_continuation_starts_from_the_tokens_of_the_chain() -> None:
    engine = ScriptedEngine(segments(("40", "41", "42")))
    run = make_run(engine, NAME, {"n": 1, "max_triggers": 2})
    await execute(run)
    prefixes = [engine.prefix_text(call) for call in engine.calls]
    assert prefixes[2].startswith(prefixes[1])
    assert (prefixes[1].count(REFLECTION), prefixes[2].count(REFLECTION)) == (1, 2)
    first, second = (call.prefix for call in engine.calls[1:])
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert second[: len(first)] == first
    assert all(isinstance(part, int) for part in second[len(first) : -1])


@pytest.mark.anyio
async def test_a_chain_continues_from_text_without_token_ids() -> None:
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


def weighted(call: Call, index: int) -> Reply:
    is_confident = index == 1
    labels = dict.fromkeys(call.labels, 0.5)
    if call.labels:
        draft = call.messages[-2].text
        right = "A" if "(A) right" in call.messages[-1].text else "B"
        labels = {"A": 0.05, "B": 0.05} | {right: 0.95} if "42" in draft else labels
    return Reply(
        f"So \\boxed{{{42 if is_confident else 41}}}.",
        confidence=20.0 if is_confident else 1.0,
        labels=labels,
    )


@pytest.mark.anyio
async def test_chains_can_be_weighted_by_token_confidence() -> None:
    engine = ScriptedEngine(weighted)
    run = make_run(engine, NAME, {"n": 3, "weight": "confidence", "width": 1, "group": 2})
    outcome = await execute(run)
    assert outcome.candidate.score_kind == "weighted_vote_share"
    assert outcome.candidate.answer == "42"
    assert all(call.logprobs for call in engine.calls)


@pytest.mark.anyio
@pytest.mark.parametrize("always", [True, False])
async def test_an_uncalibrated_judge_is_called_only_with_always_weigh(
    always: bool,
) -> None:
    engine = ScriptedEngine(weighted)
    params = {"n": 3, "weight": "p_true", "always_weigh": always, "width": 1}
    run = make_run(engine, NAME, params)
    await execute(run)
    assert bool([call for call in engine.calls if call.labels]) == always
    assert "not calibrated" in notes(run)["judge"]


@pytest.mark.anyio
async def test_the_judge_is_not_called_if_all_chains_agree() -> None:
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
    """Return an engine that refuses calls of one purpose, and otherwise replies without an answer."""

    def script(call: Call, _index: int) -> Reply:
        return Reply("I cannot say.", fault="refuse" if call.purpose == purpose else None)

    return ScriptedEngine(script)


@pytest.mark.anyio
async def test_a_chain_whose_continuation_fails_keeps_its_answer() -> None:
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
async def test_a_failed_forced_answer_does_not_end_the_chain() -> None:
    engine = failing("force")
    outcome = await execute(make_run(engine, NAME, {"n": 1, "max_triggers": 2}, task=CHOICE))
    assert [call.purpose for call in engine.calls] == [SOLVE, "force", *["extend", "force"] * 2]
    assert outcome.candidate.text.startswith("I cannot say.")
    assert (outcome.candidate.answer, outcome.degraded) == (None, {"actor": 3})


@pytest.mark.anyio
async def test_the_error_is_raised_if_all_drafts_fail() -> None:
    with pytest.raises(CallRejected):
        await execute(make_run(failing(SOLVE), NAME, {"n": 2}))


@pytest.mark.anyio
async def test_an_engine_without_prefix_is_an_error_before_its_first_call() -> None:
    engine = ScriptedEngine(segments(("42",)), lacking=frozenset({"prefix"}))
    with pytest.raises(CapabilityMissing):
        await execute(make_run(engine, NAME))
    assert not engine.calls


# -- params --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "fragments"),
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
def test_errors_of_params_name_the_field_and_the_allowed_values(
    params: Mapping[str, Any], fragments: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        IterativeDeepening.model_validate(params)
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("params", "task", "about", "why"),
    [
        ({"gamma": 3}, MATH, "gamma, reading", "no effect"),
        ({"b0": 64}, OPEN, "not deepened", "open question"),
    ],
)
async def test_params_without_effect_are_reported_in_notes(
    params: Mapping[str, Any], task: Task, about: str, why: str
) -> None:
    run = make_run(ScriptedEngine(constant_reply("So \\boxed{42}.")), NAME, params, task=task)
    await execute(run)
    assert why in notes(run)[about]


def test_a_profile_reopens_only_reasoning_inside_the_message() -> None:
    assert profile_of("Qwen3-8B").reopens
    assert not profile_of("gpt-oss-120b").reopens
    assert tokens_of("a b") == ["a", " b"]

"""Token confidence: weights of ballots, and abortion of drafts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CapabilityMissing
from secondpass.strategies.api.step_splitter import TokenSplitter
from secondpass.strategies.api.values import Sampling
from secondpass.strategies.self_consistency import SelfConsistency
from secondpass.strategies.voting.token_confidence import (
    ConfidenceThreshold,
    ShareRule,
    lowest_group_confidence,
)
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    OPEN,
    answers,
    assert_accounting_is_complete,
    call_records,
    make_run,
)

VALUES = st.lists(st.floats(0, 50), min_size=1, max_size=60)


@given(VALUES, st.integers(1, 70))
def test_the_lowest_group_confidence_always_agrees_with_brute_force(
    values: list[float], group: int
) -> None:
    width = min(group, len(values))
    means = [math.fsum(values[i : i + width]) / width for i in range(len(values) - width + 1)]
    assert lowest_group_confidence(values, group) == pytest.approx(min(means), abs=1e-9)


def test_no_tokens_have_no_lowest_group_confidence() -> None:
    assert lowest_group_confidence((), 4) is None


@given(VALUES)
def test_no_draft_is_ever_aborted_during_the_warm_up(values: list[float]) -> None:
    rule = ConfidenceThreshold(warm_up=2, group=1, keep=0.9)
    assert not rule.is_weak(values)
    rule.learn(values)
    assert not rule.is_weak(values)


def test_after_the_warm_up_the_threshold_is_fixed() -> None:
    rule = ConfidenceThreshold(warm_up=2, group=2, keep=0.5)
    rule.learn([6.0, 6.0])
    rule.learn([10.0, 10.0])
    for _ in range(2):
        assert rule.is_weak([8.0, 7.99])
        assert not rule.is_weak([8.0, 8.0])
        rule.learn([1.0, 1.0])
    assert rule.is_weak([9.0, 7.0, 8.0])
    assert not rule.is_weak([1.0, 9.0, 9.0])
    assert not rule.is_weak([1.0])


def test_consensus_requires_enough_answers() -> None:
    rule = ShareRule(share=0.75, min_ballots=3)
    assert not rule.is_decided([0, 0, None], 5)
    assert rule.is_decided([0, 0, 0], 5)
    assert rule.is_decided([0, 1, 0, None, 0], 5)
    assert not rule.is_decided([0, 1, 0, 1], 5)


@given(st.lists(st.text(max_size=5)), st.integers(1, 9))
def test_steps_are_always_the_whole_text(deltas: list[str], every: int) -> None:
    splitter = TokenSplitter(every)
    steps = [step for delta in deltas for step in splitter.feed(delta)]
    assert "".join(steps + splitter.close()) == "".join(deltas)


def test_a_step_has_at_least_one_token() -> None:
    with pytest.raises(ValueError, match="every: must be at least 1"):
        TokenSplitter(0)


# -- in self_consistency ------------------------------------------------------------------------------


def confident(*pairs: tuple[str, float], padding: int = 0) -> ScriptedEngine:
    """Return an engine whose completion i has the i-th answer and confidence, after `padding` words.

    The label probabilities agree with the confidence.
    """

    def script(call: Call, index: int) -> Reply:
        answer, confidence = pairs[index % len(pairs)]
        p = min(1.0, confidence / 20)
        if call.labels:
            draft = call.messages[-2].text
            p = next(c for a, c in pairs if f"{{{a}}}" in draft) / 20
            is_a_right = "A) right" in call.messages[-1].text
            return Reply(
                "x", labels={"A": p if is_a_right else 1 - p, "B": 1 - p if is_a_right else p}
            )
        words = "so " * padding
        return Reply(f"{words}The answer is \\boxed{{{answer}}}.", confidence=confidence)

    return ScriptedEngine(script)


PAIRS = (("41", 2.0), ("41", 2.0), ("42", 18.0))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("params", "elected"),
    [
        ({}, "41"),
        ({"weight": "confidence"}, "42"),
        ({"weight": "p_true"}, "41"),  # the judge is not calibrated
        ({"weight": "p_true", "always_weigh": True}, "42"),
    ],
)
async def test_a_confident_minority_wins_a_weighted_vote(
    params: dict[str, object], elected: str
) -> None:
    engine = confident(*PAIRS)
    run = make_run(engine, "self_consistency", {"n": 3, "stop": "none", **params})
    outcome = await execute(run)
    assert outcome.candidate.answer == elected
    assert ("judge" in outcome.notes) == (params.get("weight") == "p_true")
    requested = {call.logprobs for call in engine.calls if not call.labels}
    assert requested == ({20} if params.get("weight") == "confidence" else {None})
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["self_consistency", "iterative_deepening"])
@pytest.mark.parametrize(("answers", "reads"), [("777", 0), ("787", 6), ("877", 6)])
async def test_a_judge_is_called_only_once_two_answers_differ_and_once_for_each(
    name: str, answers: str, reads: int
) -> None:
    engine = confident(*((answer, 8.0) for answer in answers))
    rules = {"stop": "none"} if name == "self_consistency" else {"max_triggers": 0}
    params = {"n": 3, "width": 1, "weight": "p_true", "always_weigh": True, **rules}
    assert (await execute(make_run(engine, name, params))).candidate.answer == "7"
    assert len([call for call in engine.calls if call.labels]) == reads


@pytest.mark.anyio
async def test_a_judge_that_is_down_leaves_the_votes_unweighted() -> None:
    def down(_call: Call, _index: int) -> Reply:
        return Reply("", fault="unavailable")

    run = make_run(
        confident(*PAIRS),
        "self_consistency",
        {"n": 3, "stop": "none", "weight": "p_true", "always_weigh": True},
        others=ScriptedEngine(down),
    )
    assert (await execute(run)).candidate.answer == "41"


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["self_consistency", "iterative_deepening"])
async def test_a_judge_without_labels_is_an_error_before_the_first_call(name: str) -> None:
    engine = confident(*PAIRS)
    lesser = ScriptedEngine(name="lesser", lacking=frozenset({"labels"}))
    params = {"n": 3, "weight": "p_true", "always_weigh": True}
    with pytest.raises(CapabilityMissing, match="'lesser' lacks the capability labels"):
        await execute(make_run(engine, name, params, others=lesser))
    assert not engine.calls


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["self_consistency", "iterative_deepening"])
async def test_a_weight_without_effect_in_an_open_task_is_noted(name: str) -> None:
    engine = confident(*PAIRS)
    params = {"n": 3, "weight": "p_true", "always_weigh": True}
    outcome = await execute(make_run(engine, name, params, task=OPEN))
    assert outcome.notes["weight"].startswith("none:")
    assert not [call for call in engine.calls if call.labels]


@pytest.mark.anyio
@ON_BOTH_BACKENDS
async def test_a_sample_with_low_confidence_is_aborted_and_does_not_vote() -> None:
    sure, unsure = ("42", 10.0), ("41", 1.0)
    engine = confident(sure, sure, unsure, unsure, unsure, padding=200)
    run = make_run(
        engine,
        "self_consistency",
        {"n": 5, "stop": "none", "width": 1, "abort": True, "warm_up": 2, "group": 8},
    )
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert outcome.candidate.score == 1.0
    assert (
        outcome.notes["aborted"] == "3 samples fell below the confidence threshold of the warm-up"
    )
    whole, *_ = spent = [record.usage.completion for record in call_records(run)]
    assert len(spent) == 5
    assert all(tokens < whole / 2 for tokens in spent[2:])
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
async def test_samples_above_the_threshold_are_finished() -> None:
    engine = confident(("41", 5.0), ("41", 5.0), ("42", 9.0), ("42", 5.0), ("42", 6.0), padding=50)
    params = {"n": 5, "stop": "none", "width": 1, "abort": True, "warm_up": 2, "group": 8}
    outcome = await execute(make_run(engine, "self_consistency", params))
    assert outcome.candidate.answer == "42"
    assert outcome.notes["aborted"].startswith("0 ")


@pytest.mark.anyio
@pytest.mark.parametrize("params", [{"abort": True}, {"weight": "confidence"}])
async def test_an_engine_without_logprobs_is_an_error(params: dict[str, object]) -> None:
    engine = ScriptedEngine(lacking=frozenset({"logprobs"}))
    with pytest.raises(CapabilityMissing, match=r"'scripted'.*logprobs"):
        await execute(make_run(engine, "self_consistency", params))


@pytest.mark.anyio
async def test_the_first_samples_to_finish_decide() -> None:
    def script(_call: Call, index: int) -> Reply:
        words = "so " * (200 if index < 3 else 1)
        return Reply(f"{words}The answer is \\boxed{{{41 if index < 3 else 42}}}.")

    engine = ScriptedEngine(script, per_token=0.001)
    run = make_run(engine, "self_consistency", {"n": 5, "first": 2, "stop": "none"})
    outcome = await execute(run)
    assert outcome.candidate.answer == "42"
    assert outcome.notes["first"] == "the first 2 of 5 samples to finish"
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
async def test_without_first_all_samples_decide() -> None:
    engine = ScriptedEngine(answers("41", "41", "41", "42", "42"))
    run = make_run(engine, "self_consistency", {"n": 5, "stop": "none"}, sampling=Sampling(seed=1))
    assert (await execute(run)).candidate.answer == "41"


@pytest.mark.anyio
async def test_a_share_of_the_answers_is_a_consensus() -> None:
    engine = ScriptedEngine(answers("42"))
    params = {"stop": "share", "warm_up": 3, "width": 1}
    outcome = await execute(make_run(engine, "self_consistency", params))
    assert outcome.stop_reason == "consensus"
    assert len(engine.calls) in (3, 4)  # the next one may have started


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n": 4, "first": 5}, "first: 5 is more than n = 4"),
        ({"n": 4, "abort": True}, "warm_up: 4 leaves no sample to abort with n = 4"),
        ({"keep": 1.0}, "keep"),
        ({"group": 0}, "group"),
        ({"weight": "vibes"}, "weight"),
        ({"n": 0}, "n"),
        ({"width": 0}, "width"),
        ({"window": 1}, "window"),
        ({"confidence": 0.5}, "confidence"),
        ({"confidence": 1.0}, "confidence"),
        ({"temperature": 2.1}, "temperature"),
        ({"warm_up": 0}, "warm_up"),
        ({"first": 0}, "first"),
        ({"fields": "merge"}, "fields"),
    ],
)
def test_invalid_params_are_errors_that_name_the_field(
    params: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        SelfConsistency.model_validate(params)

"""meta_rm: reviews of several candidates, and the selection of reviews by meta score."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from secondpass.service.common.errors import EngineFailed
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CapabilityMissing, RoleMissing
from secondpass.strategies.api.values import SOLVE, Candidate, Completion
from secondpass.strategies.judging.reviews import (
    Review,
    agreement,
    best_half,
    display_order,
    distinct_candidates,
    in_candidate_order,
    is_settled,
    totals,
)
from secondpass.strategies.meta_rm import MetaRM
from secondpass.testing.injections import INJECTIONS
from secondpass.testing.support import OPEN, assert_accounting_is_complete, make_run


def review(*scores: int) -> Review:
    return Review(completion=Completion.of(""), scores=scores)


# -- pure functions -------------------------------------------------------------------------------------------


@given(st.lists(st.text(), min_size=1, max_size=6), st.integers(0, 5))
def test_each_candidate_is_displayed_once_in_each_position(texts: list[str], start: int) -> None:
    orders = [display_order(texts, start + j) for j in range(len(texts))]
    numbers = list(range(len(texts)))
    assert all(sorted(order) == numbers for order in orders)
    assert all(sorted(position) == numbers for position in zip(*orders, strict=True))


@given(st.permutations(range(5)), st.lists(st.integers(1, 10), min_size=5, max_size=5))
def test_scores_are_returned_to_their_candidates(order: list[int], own: list[int]) -> None:
    assert in_candidate_order([own[i] for i in order], order) == tuple(own)


def test_a_review_that_contradicts_all_others_is_dropped() -> None:
    reviews = [review(9, 2), review(3, 6), review(8, 3), review(7, 4)]
    scores = agreement(reviews)
    assert scores == [1.0, -1.0, 1.0, 1.0]
    assert best_half(reviews, scores) == [reviews[0], reviews[2]]
    assert totals(best_half(reviews, scores), 2) == [17, 5]
    assert agreement([]) == []


def test_half_of_an_odd_number_is_rounded_up() -> None:
    reviews = [review(1), review(2), review(3)]
    assert best_half(reviews, [0.0, 1.0, 1.0]) == reviews[1:]


def test_two_reviews_with_the_same_favourite_settle_the_choice() -> None:
    assert is_settled([review(9, 1), review(5, 4)])
    assert not is_settled([review(9, 1)])
    assert not is_settled([review(9, 1), review(1, 9)])
    assert not is_settled([review(5, 5), review(5, 5)])


def test_equal_answers_are_one_candidate_and_degenerate_ones_are_excluded() -> None:
    a, b, c = (Candidate(text=t, index=i) for i, t in enumerate(("so 1", "so  1", "...")))
    assert distinct_candidates([(a, None), (b, None), (c, None)]) == [a]
    assert distinct_candidates([(a, 0), (b, 1), (c, None)]) == [a, b]
    assert distinct_candidates([(a, None), (b, 1)]) == [b]


# -- runs with a scripted engine -----------------------------------------------------------------------------------

Reviewer = Callable[[Call, Sequence[str]], Reply]
"""Function of a call and its candidates, in display order, that returns the review."""


def shown_in(text: str) -> list[str]:
    return re.findall(r"\[CANDIDATE \d+ (?:\w+)\]\n(.*?)\n\[END OF CANDIDATE", text, re.DOTALL)


def reviewing(drafts: Sequence[str], reviewer: Reviewer, **rewards: float) -> ScriptedEngine:
    """Return an engine with these drafts, in turn, and reviews by `reviewer`.

    The reward of a review is that of the first word of `rewards` that it contains, else 0.
    """

    def script(call: Call, index: int) -> Reply:
        if call.purpose == SOLVE:
            return Reply(drafts[index % len(drafts)])
        text = call.messages[-1].text
        reward = next((value for word, value in rewards.items() if word in text), 0.0)
        if call.reward:
            return Reply("", reward=reward)
        if call.labels:
            p_good = 0.9 if reward else 0.1
            return Reply("x", labels={"good": p_good, "bad": 1 - p_good})
        return reviewer(call, shown_in(text))

    return ScriptedEngine(script)


def scores(shown: Sequence[str], favourite: str, word: str = "") -> str:
    given = ", ".join("9" if favourite in text else "2" for text in shown)
    return f"Right counts 100%. {word}\nScores: \\boxed{{{given}}}"


def prefers(favourite: str) -> Reviewer:
    return lambda _, shown: Reply(scores(shown, favourite))


def split(_call: Call, shown: Sequence[str]) -> Reply:
    """Review for 41 with even indices; for 42, with a higher confidence and another word, with odd ones."""
    if _call.index % 2:
        return Reply(scores(shown, "{42}", "careful"), confidence=9.0)
    return Reply(scores(shown, "{41}", "hasty"), confidence=3.0)


BOTH = ("I add: \\boxed{41}", "I multiply: \\boxed{42}")


async def solve(
    engine: ScriptedEngine, params: Mapping[str, Any] | None = None, **more: Any
) -> tuple[Outcome, LiveRun]:
    run = make_run(engine, "meta_rm", params, **more)
    outcome = await execute(run)
    assert_accounting_is_complete(run, engine)
    return outcome, run


@pytest.mark.anyio
@pytest.mark.parametrize("favourite", ["41", "42"])
async def test_the_favourite_of_the_reviews_wins(favourite: str) -> None:
    engine = reviewing(BOTH, prefers(f"{{{favourite}}}"))
    outcome, _ = await solve(engine)
    assert outcome.candidate.answer == favourite
    assert outcome.candidate.score == pytest.approx(0.9)
    assert outcome.candidate.score_kind == "review_score"
    reviews = [call for call in engine.calls if call.purpose == "meta_rm"]
    assert len(reviews) <= 4
    assert len(shown_in(reviews[0].messages[-1].text)) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("favourite", ["red", "blue"])
async def test_answers_to_open_questions_are_reviewed(favourite: str) -> None:
    engine = reviewing(("Roses are red.", "Violets are blue."), prefers(favourite))
    outcome, _ = await solve(engine, question="Write a line.", task=OPEN)
    assert favourite in outcome.candidate.text


@pytest.mark.anyio
async def test_drafts_that_agree_need_no_review() -> None:
    engine = reviewing(BOTH[1:], prefers("42"))
    outcome, _ = await solve(engine)
    assert outcome.candidate.answer == "42"
    assert outcome.notes["reviews"] == "none: fewer than two candidates"
    assert {call.purpose for call in engine.calls} == {SOLVE}


@pytest.mark.anyio
async def test_a_note_counts_candidates_beyond_the_limit_of_a_prompt() -> None:
    engine = reviewing([f"\\boxed{{{n}}}" for n in range(6)], prefers("{0}"))
    outcome, _ = await solve(engine, {"n": 6})
    assert outcome.notes["candidates"] == "4 of 6 were reviewed"


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["Scores: 9, 2", "Scores: \\boxed{11, 1}", "\\boxed{9}", "None."])
async def test_unreadable_reviews_are_counted_and_the_vote_decides(text: str) -> None:
    engine = reviewing((*BOTH, BOTH[0]), lambda *_: Reply(text))
    outcome, _ = await solve(engine, {"n": 3})
    assert outcome.candidate.answer == "41"
    assert outcome.notes["reviews"] == "0 read, 4 unreadable"
    assert outcome.degraded == {"judge": 4}


@pytest.mark.anyio
async def test_an_unreadable_review_is_excluded_from_the_sum() -> None:
    def one_in_four(call: Call, shown: Sequence[str]) -> Reply:
        return Reply("I like all." if call.index == 0 else scores(shown, "{42}"))

    outcome, _ = await solve(reviewing(BOTH, one_in_four), {"adaptive": False})
    assert outcome.notes["reviews"] == "3 read, 1 unreadable"
    assert outcome.degraded == {"judge": 1}
    assert outcome.candidate.score == pytest.approx(0.9)


@pytest.mark.anyio
@pytest.mark.parametrize("word", ["careful", "hasty"])
@pytest.mark.parametrize("meta", ["reward_model", "llm"])
async def test_the_meta_score_decides_between_reviews(meta: str, word: str) -> None:
    engine = reviewing(BOTH, split, **{word: 1.0})
    outcome, _ = await solve(engine, {"meta": meta})
    assert outcome.candidate.answer == ("42" if word == "careful" else "41")
    assert outcome.notes["meta"] == meta
    assert outcome.notes["meta proxy"].startswith("yes")


@pytest.mark.anyio
async def test_a_reward_model_trained_on_critiques_is_not_reported_as_a_proxy() -> None:
    engine = reviewing(BOTH, split, careful=1.0)
    outcome, _ = await solve(engine, {"reward_saw_critiques": True})
    assert (outcome.notes["meta"], outcome.notes["meta proxy"]) == ("reward_model", "no")


@pytest.mark.anyio
async def test_without_a_reward_role_the_more_confident_reviews_count() -> None:
    engine = replace(reviewing(BOTH, split), lacking=frozenset({"reward"}))
    outcome, _ = await solve(engine)
    assert outcome.candidate.answer == "42"
    assert outcome.notes["meta"] == "self_certainty"


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ["41", "42"])
async def test_without_logprobs_the_reviews_that_agree_count(answer: str) -> None:
    other = "42" if answer == "41" else "41"

    def three_to_one(call: Call, shown: Sequence[str]) -> Reply:
        return Reply(scores(shown, f"{{{other if call.index == 1 else answer}}}"))

    engine = replace(reviewing(BOTH, three_to_one), lacking=frozenset({"reward", "logprobs"}))
    outcome, _ = await solve(engine, {"adaptive": False, "meta": "agreement"})
    assert outcome.candidate.answer == answer
    outcome, _ = await solve(engine)
    assert outcome.candidate.answer == answer


@pytest.mark.anyio
async def test_a_failing_reward_role_is_reported_and_replaced_by_agreement() -> None:
    script = reviewing(BOTH, split).script

    def down(call: Call, index: int) -> Reply:
        return Reply("", fault="unavailable") if call.reward else script(call, index)

    outcome, _ = await solve(ScriptedEngine(down))
    assert outcome.notes["meta failed"] == "reward_model: the reviews are selected by agreement"
    assert outcome.notes["meta"] == "agreement"
    assert outcome.degraded


def with_failing(role: str, engine: ScriptedEngine) -> ScriptedEngine:
    """Return a copy of the engine that fails meta scores by the role (reward or judge)."""
    script = engine.script

    def down(call: Call, index: int) -> Reply:
        is_down = call.reward if role == "reward" else call.purpose == "meta_rm_review"
        return Reply("", fault="unavailable") if is_down else script(call, index)

    return ScriptedEngine(down)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("params", "role"),
    [
        ({"meta": "reward_model"}, "reward"),
        ({"meta": "reward_model", "fallback": "error"}, "reward"),
        ({"fallback": "error"}, "reward"),
        ({"meta": "llm", "fallback": "error"}, "judge"),
    ],
)
async def test_the_error_names_a_required_role_that_fails(
    params: dict[str, Any], role: str
) -> None:
    engine = with_failing(role, reviewing(BOTH, split))
    run = make_run(engine, "meta_rm", params)
    with pytest.raises(EngineFailed, match=f"by the role '{role}'") as caught:
        await execute(run)
    assert caught.value.role == role
    assert caught.value.usage_record["usage"]["actor"].calls == 4
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("params", "role"),
    [({"meta": "reward_model", "fallback": "agreement"}, "reward"), ({"meta": "llm"}, "judge")],
)
async def test_a_declared_fallback_is_used_and_reported(params: dict[str, Any], role: str) -> None:
    outcome, _ = await solve(with_failing(role, reviewing(BOTH, split)), params)
    assert (
        outcome.notes["meta failed"] == f"{params['meta']}: the reviews are selected by agreement"
    )
    assert outcome.notes["meta"] == "agreement"
    assert outcome.degraded == {role: 4}


@pytest.mark.anyio
async def test_one_review_without_a_required_meta_score_is_an_error() -> None:
    script = reviewing(BOTH, split).script
    rewards: list[Call] = []

    def once(call: Call, index: int) -> Reply:
        if not call.reward:
            return script(call, index)
        rewards.append(call)
        return Reply("", reward=1.0, fault="unavailable" if len(rewards) == 2 else None)

    with pytest.raises(EngineFailed):
        await execute(make_run(ScriptedEngine(once), "meta_rm", {"meta": "reward_model"}))


@pytest.mark.anyio
async def test_a_truncated_draft_is_not_reviewed_if_there_are_finished_ones() -> None:
    texts = ("Roses are red.", "Violets are blue.", "Tulips " + "grow on " * 200)
    engine = reviewing(texts, prefers("blue"))
    outcome, _ = await solve(engine, {"n": 3}, question="Write a line.", task=OPEN)
    assert "blue" in outcome.candidate.text
    truncated = [each for each in outcome.candidates if each.finish_reason == "length"]
    assert [each.text[:6] for each in truncated] == ["Tulips"]
    for call in engine.calls:
        if call.purpose == "meta_rm":
            assert len(shown_in(call.messages[-1].text)) == 2


@pytest.mark.anyio
async def test_the_vote_decides_if_the_judge_fails() -> None:
    script = reviewing((*BOTH, BOTH[0]), split).script

    def down(call: Call, index: int) -> Reply:
        return script(call, index) if call.purpose == SOLVE else Reply("", fault="unavailable")

    outcome, _ = await solve(ScriptedEngine(down), {"n": 3})
    assert outcome.candidate.answer == "41"
    assert outcome.degraded


@pytest.mark.anyio
async def test_a_missing_capability_is_an_error_before_the_first_call() -> None:
    for missing in ("reward", "logprobs"):
        engine = replace(reviewing(BOTH, split), lacking=frozenset({missing}))
        meta = "reward_model" if missing == "reward" else "self_certainty"
        with pytest.raises(CapabilityMissing, match=missing):
            await execute(make_run(engine, "meta_rm", {"meta": meta}))
        assert not engine.calls


@pytest.mark.anyio
async def test_a_missing_reward_role_is_named() -> None:
    run = make_run(reviewing(BOTH, split), "meta_rm", {"meta": "reward_model"})
    run.spec.upstreams.pop("reward")  # type: ignore[attr-defined]
    with pytest.raises(RoleMissing, match=r"roles\.reward"):
        await execute(run)


@pytest.mark.anyio
@pytest.mark.parametrize("name", sorted(INJECTIONS))
async def test_an_injection_in_one_candidate_does_not_change_another(name: str) -> None:
    seen: list[list[str]] = []

    def honest(_call: Call, shown: Sequence[str]) -> Reply:
        seen.append(list(shown))
        cited = f"It says: {INJECTIONS[name]}\n"
        given = ", ".join("9" if "I multiply" in text else "1" for text in shown)
        return Reply(f"{cited}Scores: \\boxed{{{given}}}")

    engine = reviewing((f"\\boxed{{41}}\n\n{INJECTIONS[name]}", BOTH[1]), honest)
    outcome, _ = await solve(engine, task=OPEN)
    assert "I multiply" in outcome.candidate.text
    assert all(len(shown) == 2 for shown in seen)
    assert all(BOTH[1] in shown for shown in seen)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"shown": 5}, "shown"),
        ({"k": 0}, "k"),
        ({"temperature": 0}, "temperature"),
        ({"meta": "x"}, "meta"),
        ({"n": 65}, "n"),
        ({"review_temperature": 2.1}, "review_temperature"),
        ({"fallback": "none"}, "fallback"),
        (
            {"meta": "agreement", "fallback": "error"},
            "fallback: has no effect with meta 'agreement'",
        ),
        ({"meta": "none", "fallback": "agreement"}, "fallback: has no effect with meta 'none'"),
        ({"meta": "llm", "reward_saw_critiques": True}, "reward_saw_critiques: meta 'llm'"),
    ],
)
def test_invalid_params_are_named(params: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        MetaRM.model_validate(params)

"""Which reviews count: a mark for each by a reward model, or by what stands in for one, and the best half of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from secondpass.strategies.api.errors import (
    SURVIVABLE,
    CapabilityMissing,
    EngineError,
    RoleFailed,
    RoleMissing,
    SecondpassError,
    UnusableCompletion,
)
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate
from secondpass.strategies.judging.reviews import Review, agreement, best_half, shuffled

Meta = Literal["reward_model", "self_certainty", "agreement", "llm", "none"]
"""What marks reviews; `none`: nothing does, and all of them count."""

TOP = 20
"""The most probable tokens that a review's certainty is read from."""


def meta_of(run: Run, asked: Meta | Literal["auto"]) -> Meta:
    """What marks the reviews. Raises RoleMissing and CapabilityMissing where what is asked for is not there."""
    if asked == "reward_model":
        run.require("reward", "reward")
    if asked == "self_certainty":
        run.require("judge", "logprobs")
    if asked != "auto":
        return asked
    try:
        run.require("reward", "reward")
    except (RoleMissing, CapabilityMissing):
        pass
    else:
        return "reward_model"
    try:
        run.require("judge", "logprobs")
    except CapabilityMissing:
        return "agreement"
    return "self_certainty"


async def kept_reviews(
    run: Run,
    meta: Meta,
    reviews: list[Review],
    shown: Sequence[Candidate],
    *,
    insists: bool,
    saw_critiques: bool,
) -> list[Review]:
    """The half of the reviews with the best marks; where one got none, the half that agrees best.

    With `insists` that is an error: raises RoleFailed. `saw_critiques` says that the reward model is the paper's kind.
    """
    if meta == "none" or len(reviews) < 2:
        return reviews
    found = await _marks(run, meta, reviews, shown)
    marks = [mark for mark in found if not isinstance(mark, SecondpassError)]
    if len(marks) < len(found):
        why = next(mark for mark in found if isinstance(mark, SecondpassError))
        if insists:
            raise _failed(meta, why)
        run.note("meta failed", f"{meta}: the reviews are kept by agreement")
        meta, marks = "agreement", agreement(reviews)
    run.note("meta", meta)
    is_paper = meta == "reward_model" and saw_critiques
    run.note("meta proxy", "no" if is_paper else "yes: not a reward model trained on critiques")
    return best_half(reviews, marks)


def _failed(meta: Meta, why: SecondpassError) -> RoleFailed:
    engine = why.engine if isinstance(why, EngineError) else ""
    role: Literal["reward", "judge"] = "reward" if meta == "reward_model" else "judge"
    named = f" (engine {engine!r})" if engine else ""
    failed = RoleFailed(
        f"a review could not be marked by the role {role!r}{named}: {why}", engine=engine, role=role
    )
    failed.__cause__ = why
    return failed


async def _marks(
    run: Run, meta: Meta, reviews: Sequence[Review], shown: Sequence[Candidate]
) -> list[float | SecondpassError]:
    """A mark for each review, the higher the better, or why it got none."""
    if meta == "agreement":
        return [*agreement(reviews)]
    if meta == "self_certainty":
        none = UnusableCompletion("there are no log probabilities of a review")
        return [none if review.certainty is None else review.certainty for review in reviews]

    async def mark(review: Review) -> float | SecondpassError:
        try:
            if meta == "reward_model":
                text = run.profile("judge").conclusion(review.completion.text)
                return await run.reward(text, messages=review.completion.messages)
            return await _faithfulness(run, review, shown)
        except SURVIVABLE as error:
            return error

    return await run.map(mark, reviews)


async def _faithfulness(run: Run, review: Review, shown: Sequence[Candidate]) -> float:
    texts = [run.profile("actor").conclusion(candidate.text) for candidate in shown]
    judgement = await run.judge(
        "meta_rm_review",
        ("good", "bad"),
        question=run.question,
        candidates=[texts[i] for i in shuffled(texts, review.completion.index)],
        review=run.profile("judge").conclusion(review.completion.text),
    )
    odds = judgement.log_odds("good")
    return float(judgement.verdict == "good") if odds is None else odds

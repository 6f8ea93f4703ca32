"""Choice of the reviews that count: a mark for each by a reward model or a proxy for one, and the best half of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from secondpass.strategies.api.errors import RoleFailed
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate, Role
from secondpass.strategies.judging.reviews import Review, agreement, best_half, shuffled

Meta = Literal["reward_model", "self_certainty", "agreement", "llm", "none"]
"""What marks reviews; `none`: no marks, and all reviews count."""

TOP = 20
"""The most probable tokens that a review's certainty is read from."""


def meta_of(run: Run, asked: Meta | Literal["auto"]) -> Meta:
    """What marks the reviews: as asked; auto: the reward role, else certainty, else agreement."""
    if asked != "auto":
        return asked
    if run.model("reward").can("reward"):
        return "reward_model"
    return "self_certainty" if run.model("judge").can("logprobs") else "agreement"


async def kept_reviews(
    run: Run,
    meta: Meta,
    reviews: list[Review],
    shown: Sequence[Candidate],
    *,
    insists: bool,
    saw_critiques: bool,
) -> list[Review]:
    """The half of the reviews with the best marks; where one has no mark, the half that agrees best.

    With `insists` a review without a mark raises RoleFailed. `saw_critiques`: the reward model was trained on critiques.
    """
    if meta == "none" or len(reviews) < 2:
        return reviews
    found = await _marks(run, meta, reviews, shown)
    marks = [mark for mark in found if mark is not None]
    if len(marks) < len(found):
        if insists:
            role: Role = "reward" if meta == "reward_model" else "judge"
            raise RoleFailed(f"a review could not be marked by the role {role!r}", role=role)
        run.note("meta failed", f"{meta}: the reviews are kept by agreement")
        meta, marks = "agreement", agreement(reviews)
    run.note("meta", meta)
    is_paper = meta == "reward_model" and saw_critiques
    run.note("meta proxy", "no" if is_paper else "yes: not a reward model trained on critiques")
    return best_half(reviews, marks)


async def _marks(
    run: Run, meta: Meta, reviews: Sequence[Review], shown: Sequence[Candidate]
) -> Sequence[float | None]:
    """A mark for each review, the higher the better; None where it has none."""
    if meta == "agreement":
        return agreement(reviews)
    if meta == "self_certainty":
        return [review.certainty for review in reviews]

    async def mark(review: Review) -> float:
        if meta == "llm":
            return await _faithfulness(run, review, shown)
        text = run.model("judge").profile.conclusion(review.completion.text)
        return await run.score(text, messages=review.completion.messages)

    return await run.map(mark, reviews, min_results=0)


async def _faithfulness(run: Run, review: Review, shown: Sequence[Candidate]) -> float:
    conclude = run.model("actor").profile.conclusion
    texts = [conclude(candidate.text) for candidate in shown]
    judgement = await run.classify(
        "meta_rm_review",
        ("good", "bad"),
        question=run.question,
        candidates=[texts[i] for i in shuffled(texts, review.completion.index)],
        review=run.model("judge").profile.conclusion(review.completion.text),
    )
    odds = judgement.log_odds("good")
    return float(judgement.verdict == "good") if odds is None else odds

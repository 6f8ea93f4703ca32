"""Selection of the reviews that count: the half with the highest meta scores.

A meta score rates a review, by a meta reward model (arXiv 2504.02495) or by one of our proxies for
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from secondpass.strategies.api.errors import RoleFailed
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate, Role
from secondpass.strategies.judging.reviews import Review, agreement, best_half, display_order

MetaSource = Literal["reward_model", "self_certainty", "agreement", "llm", "none"]
"""Source of the meta scores of reviews; `none`: no meta scores, all reviews count."""

TOP_LOGPROBS = 20
"""Number of most probable tokens per position over which a review's certainty is computed."""


def meta_source(run: Run, wanted: MetaSource | Literal["auto"]) -> MetaSource:
    """Resolve `auto` to the best source that the engines support.

    It is `reward_model` if the reward role can score, else `self_certainty` if the judge returns
    log probabilities, else `agreement`.
    """
    if wanted != "auto":
        return wanted
    if run.model("reward").can("reward"):
        return "reward_model"
    return "self_certainty" if run.model("judge").can("logprobs") else "agreement"


async def select_reviews(
    run: Run,
    source: MetaSource,
    reviews: list[Review],
    shown: Sequence[Candidate],
    *,
    requires_meta_score: bool,
    saw_critiques: bool,
) -> list[Review]:
    """Return the half of the reviews (rounded up) with the highest meta scores.

    If a review has no meta score, the reviews are selected by agreement instead; with
    `requires_meta_score` RoleFailed is raised. With the source `none`, or fewer than two reviews,
    all are returned.

    `shown` are the reviewed candidates, in their own order. Notes report the source, and whether it
    is a proxy: anything except a reward model trained on critiques (`saw_critiques`), as in the
    paper.
    """
    if source == "none" or len(reviews) < 2:
        return reviews
    found = await _meta_scores(run, source, reviews, shown)
    scores = [score for score in found if score is not None]
    if len(scores) < len(found):
        if requires_meta_score:
            role: Role = "reward" if source == "reward_model" else "judge"
            raise RoleFailed(f"a review was not scored by the role {role!r}", role=role)
        run.note("meta failed", f"{source}: the reviews are selected by agreement")
        source, scores = "agreement", agreement(reviews)
    run.note("meta", source)
    is_paper = source == "reward_model" and saw_critiques
    run.note("meta proxy", "no" if is_paper else "yes: not a reward model trained on critiques")
    return best_half(reviews, scores)


async def _meta_scores(
    run: Run, source: MetaSource, reviews: Sequence[Review], shown: Sequence[Candidate]
) -> Sequence[float | None]:
    """Return the meta score of each review, higher is better; None for a review without one."""
    if source == "agreement":
        return agreement(reviews)
    if source == "self_certainty":
        return [review.certainty for review in reviews]

    async def score(review: Review) -> float:
        if source == "llm":
            return await _log_odds_good(run, review, shown)
        text = run.model("judge").profile.conclusion(review.completion.text)
        return await run.score(text, messages=review.completion.messages)

    return await run.map(score, reviews, min_results=0)


async def _log_odds_good(run: Run, review: Review, shown: Sequence[Candidate]) -> float:
    """Return the judge's log-odds that a review is good; 1 or 0 for a verdict without probabilities."""
    conclude = run.model("actor").profile.conclusion
    texts = [conclude(candidate.text) for candidate in shown]
    judgement = await run.classify(
        "meta_rm_review",
        ("good", "bad"),
        question=run.question,
        candidates=[texts[i] for i in display_order(texts, review.completion.index)],
        review=run.model("judge").profile.conclusion(review.completion.text),
    )
    odds = judgement.log_odds("good")
    return float(judgement.verdict == "good") if odds is None else odds

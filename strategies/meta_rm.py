"""A generative reward model reviews the candidates several times; a meta reward model says which reviews count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from secondpass.strategies.core import (
    SOLVE,
    Candidate,
    CapabilityMissing,
    EngineError,
    RoleMissing,
    Run,
    UnusableCompletion,
    VerdictUnreadable,
)
from secondpass.strategies.registry import Params, strategy
from secondpass.strategies.reviews import (
    HIGHEST,
    Review,
    agreement,
    best_half,
    distinct,
    in_own_order,
    is_settled,
    shuffled,
    totals,
)
from secondpass.strategies.verdicts import parse_scores
from secondpass.strategies.voting import Vote

Meta = Literal["reward_model", "self_certainty", "agreement", "llm", "none"]

TOP = 20
"""The most probable tokens that a review's certainty is read from."""


class MetaRM(Params):
    """How many drafts and reviews, and what says which reviews count."""

    n: int = Field(default=4, ge=1, le=64, description="drafts")
    temperature: float = Field(default=0.7, gt=0, le=2, description="of every draft")
    shown: int = Field(default=4, ge=2, le=4, description="candidates in a review at most")
    k: int = Field(default=4, ge=1, le=64, description="reviews at most")
    adaptive: bool = Field(
        default=True, description="two reviews with one favourite are enough; false: always k"
    )
    review_temperature: float = Field(default=0.5, ge=0, le=2, description="of every review")
    meta: Meta | Literal["auto"] = Field(
        default="auto",
        description="what marks the reviews, of which the best half counts; auto: the reward role, else certainty, "
        "else agreement; none: all count",
    )
    reward_saw_critiques: bool = Field(
        default=False,
        description="the reward role's model was trained on critiques, as the paper's",
    )


@strategy("meta_rm", MetaRM, paper="2504.02495", signal="reward", update="select")
async def meta_rm(run: Run, params: MetaRM) -> Candidate:
    """Reviews score the distinct drafts from 1 to 10; the scores of the best half of the reviews are summed.

    Paper: DeepSeek-GRM (arXiv 2504.02495). Ours: equal answers are one candidate; orders that put each candidate in
    each place equally often; two reviews with one favourite end it; the proxies for a meta reward model.
    """
    meta = _meta_of(run, params)
    vote = Vote(n=params.n)
    drawn: list[tuple[Candidate, int | None]] = []
    # With a width drafts start in their order: the first ones get what there is of a tight budget.
    async with run.sample(
        SOLVE, params.n, width=params.n, temperature=params.temperature
    ) as drafts:
        async for draft in drafts:
            candidate = run.candidate(draft)
            drawn.append((candidate, await run.class_of(candidate)))
            run.elect(vote.add(*drawn[-1]))
    shown = _shown(run, params, vote, drawn)
    if len(shown) < 2:
        run.note("reviews", "none: fewer than two candidates")
        if shown and shown[0].index != run.best.index:
            run.elect(shown[0])  # the vote's leader says nothing
        return run.best
    reviews = await _reviews(run, params, meta, shown)
    if reviews:
        kept = reviews if is_settled(reviews) else await _kept(run, params, meta, reviews, shown)
        run.elect(_winner(kept, shown))
    return run.best


def _meta_of(run: Run, params: MetaRM) -> Meta:
    """What marks the reviews. Raises RoleMissing and CapabilityMissing where the params ask for what there is not."""
    if params.meta == "reward_model":
        run.require("reward", "reward")
    if params.meta == "self_certainty":
        run.require("judge", "logprobs")
    if params.meta != "auto":
        return params.meta
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


def _shown(
    run: Run, params: MetaRM, vote: Vote, drawn: Sequence[tuple[Candidate, int | None]]
) -> list[Candidate]:
    """The candidates that are reviewed: those with most votes, ties to the earlier."""
    classes = {candidate.index: ballot for candidate, ballot in drawn}
    found = distinct(drawn)
    found.sort(key=lambda c: -vote.ballots.count(classes[c.index]))
    if len(found) > params.shown:
        run.note("candidates", f"{params.shown} of {len(found)} were reviewed")
    return found[: params.shown]


async def _reviews(
    run: Run, params: MetaRM, meta: Meta, shown: Sequence[Candidate]
) -> list[Review]:
    """As many readable reviews as are drawn; the others are counted in a note."""
    conclude, judge = run.profile("actor").conclusion, run.profile("judge")
    texts = [conclude(candidate.text) for candidate in shown]

    async def review(sample: int) -> Review | None:
        order = shuffled(texts, sample)
        try:
            completion = await run.ask(
                "meta_rm",
                role="judge",
                index=sample,
                temperature=judge.judge_temperature(params.review_temperature),
                logprobs=TOP if meta == "self_certainty" else None,
                count=str(len(texts)),
                question=run.question,
                candidates=[texts[i] for i in order],
            )
            scores = parse_scores(judge.conclusion(completion.text), len(texts), highest=HIGHEST)
        except (VerdictUnreadable, UnusableCompletion):
            return None
        return Review(completion=completion, scores=in_own_order(scores, order))

    found: list[Review] = []
    unreadable = 0
    width = 2 if params.adaptive else None
    async with run.as_completed(review, range(params.k), width=width) as reviews:
        async for each in reviews:
            if each is None:
                unreadable += 1
            else:
                found.append(each)
            if params.adaptive and is_settled(found):
                break
    run.note("reviews", f"{len(found)} read, {unreadable} unreadable")
    return found


async def _kept(
    run: Run, params: MetaRM, meta: Meta, reviews: Sequence[Review], shown: Sequence[Candidate]
) -> Sequence[Review]:
    """The half of the reviews that the meta reward model likes best; where it is down, that agrees best."""
    if meta == "none" or len(reviews) < 2:
        return reviews
    marks = await _marks(run, meta, reviews, shown)
    if any(mark is None for mark in marks):
        run.note("meta failed", f"{meta}: the reviews are kept by agreement")
        meta, marks = "agreement", [*agreement(reviews)]
    run.note("meta", meta)
    is_paper = meta == "reward_model" and params.reward_saw_critiques
    run.note("meta proxy", "no" if is_paper else "yes: not a reward model trained on critiques")
    return best_half(reviews, [mark for mark in marks if mark is not None])


async def _marks(
    run: Run, meta: Meta, reviews: Sequence[Review], shown: Sequence[Candidate]
) -> list[float | None]:
    """A mark for each review, the higher the better; None where it got none."""
    if meta == "agreement":
        return [*agreement(reviews)]
    if meta == "self_certainty":
        return [review.certainty for review in reviews]

    async def mark(review: Review) -> float | None:
        try:
            if meta == "reward_model":
                text = run.profile("judge").conclusion(review.completion.text)
                return await run.reward(text, messages=review.completion.messages)
            return await _faithfulness(run, review, shown)
        except (EngineError, UnusableCompletion, VerdictUnreadable):
            return None

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


def _winner(reviews: Sequence[Review], shown: Sequence[Candidate]) -> Candidate:
    """The candidate with the highest sum, ties to the one with more votes; its score is the mean, over 10."""
    sums = totals(reviews, len(shown))
    best = max(range(len(shown)), key=sums.__getitem__)
    return replace(
        shown[best],
        score=sums[best] / (HIGHEST * len(reviews)),
        score_kind="review_score",
        why=f"{sums[best]} of {HIGHEST * len(reviews)} points from {len(reviews)} reviews; "
        f"all: {', '.join(map(str, sums))}",
    )

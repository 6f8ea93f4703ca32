"""A generative reward model reviews the candidates several times; a meta reward model chooses the reviews that count."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.registry import Needs, Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Capability, Draw, Role
from secondpass.strategies.judging.reply_schemas import parse_scores
from secondpass.strategies.judging.review_filter import TOP, Meta, kept_reviews, meta_of
from secondpass.strategies.judging.reviews import (
    HIGHEST,
    Review,
    distinct,
    in_own_order,
    is_settled,
    shuffled,
    totals,
)
from secondpass.strategies.voting.vote import Vote, count


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
    fallback: Literal["auto", "error", "agreement"] = Field(
        default="auto",
        description="what to do where a review cannot be marked so; error: no answer; agreement: the reviews that agree "
        "count; auto: error where `meta` is reward_model, else agreement",
    )
    reward_saw_critiques: bool = Field(
        default=False,
        description="the reward role's model was trained on critiques, as the paper's",
    )

    @model_validator(mode="after")
    def _only_who_is_asked_can_fail(self) -> Self:
        if self.meta in ("agreement", "none") and self.fallback != "auto":
            raise ValueError(f"fallback: meta {self.meta!r} asks nobody; leave it 'auto'")
        if self.reward_saw_critiques and self.meta not in ("auto", "reward_model"):
            raise ValueError(
                f"reward_saw_critiques: meta {self.meta!r} asks no reward model; leave it false"
            )
        return self

    @property
    def insists(self) -> bool:
        """True when a review that cannot be marked as asked is an error."""
        return self.fallback == "error" or (self.fallback == "auto" and self.meta == "reward_model")


def _needs(params: MetaRM, _task: Task) -> Needs:
    needs: dict[Role, Collection[Capability]] = {"judge": ()}
    if params.meta == "self_certainty":
        needs["judge"] = {"logprobs"}
    if params.meta == "reward_model":
        needs["reward"] = {"reward"}
    return needs


@strategy("meta_rm", MetaRM, paper="2504.02495", signal="reward", update="select", needs=_needs)
async def meta_rm(run: Run, params: MetaRM) -> Candidate:
    """Reviews score the distinct drafts from 1 to 10; the scores of the best half of the reviews are summed.

    Paper: DeepSeek-GRM (arXiv 2504.02495). Ours: equal answers are one candidate; orders that put each candidate in
    each place equally often; two reviews with one favourite end it; the proxies for a meta reward model.
    """
    meta = meta_of(run, params.meta)
    vote = Vote(n=params.n)
    draw = Draw(temperature=params.temperature)
    async with run.sample(SOLVE, params.n, draw=draw) as drafts:
        drawn = [await count(run, vote, draft) async for draft in drafts]
    shown = _shown(run, params, vote, sorted(drawn, key=lambda pair: pair[0].index))
    if len(shown) < 2:
        run.note("reviews", "none: fewer than two candidates")
        if shown and shown[0].index != run.best.index:
            run.elect(shown[0])  # the vote's leader is degenerate
        return run.best
    reviews = await _reviews(run, params, meta, shown)
    if not is_settled(reviews):
        saw = params.reward_saw_critiques
        reviews = await kept_reviews(
            run, meta, reviews, shown, insists=params.insists, saw_critiques=saw
        )
    return _winner(reviews, shown)


def _shown(
    run: Run, params: MetaRM, vote: Vote, drawn: Sequence[tuple[Candidate, int | None]]
) -> list[Candidate]:
    """The candidates that are reviewed: those with most votes, ties to the lower index."""
    classes = {candidate.index: ballot for candidate, ballot in drawn}
    found = distinct(drawn)
    found.sort(key=lambda c: -vote.ballots.count(classes[c.index]))
    if len(found) > params.shown:
        run.note("candidates", f"{params.shown} of {len(found)} were reviewed")
    return found[: params.shown]


async def _reviews(
    run: Run, params: MetaRM, meta: Meta, shown: Sequence[Candidate]
) -> list[Review]:
    """As many readable reviews as are drawn, by number; the others are counted in a note."""
    conclude, judge = run.model("actor").profile.conclusion, run.model("judge").profile
    texts = [conclude(candidate.text) for candidate in shown]
    draw = Draw(
        temperature=judge.judge_temperature(params.review_temperature),
        logprobs=TOP if meta == "self_certainty" else None,
    )
    unreadable: set[int] = set()

    async def review(sample: int) -> Review:
        order = shuffled(texts, sample)
        completion = await run.ask(
            "meta_rm",
            role="judge",
            index=sample,
            draw=draw,
            count=str(len(texts)),
            question=run.question,
            candidates=[texts[i] for i in order],
        )
        unreadable.add(sample)
        scores = parse_scores(judge.conclusion(completion.text), len(texts), highest=HIGHEST)
        unreadable.remove(sample)
        return Review(completion=completion, scores=in_own_order(scores, order))

    found: list[Review] = []
    width = 2 if params.adaptive else None
    try:
        async with run.as_completed(review, range(params.k), width=width) as reviews:
            async for each in reviews:
                found.append(each)
                if params.adaptive and is_settled(found):
                    break
    finally:
        run.note("reviews", f"{len(found)} read, {len(unreadable)} unreadable")
    return sorted(found, key=lambda each: each.completion.index)


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

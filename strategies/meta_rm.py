"""Score candidates by several reviews of a judge; a meta reward model selects the reviews that count."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.registry import Needs, Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Capability, Draw, Role
from secondpass.strategies.judging.reply_schemas import parse_scores
from secondpass.strategies.judging.review_filter import (
    TOP_LOGPROBS,
    MetaSource,
    meta_source,
    select_reviews,
)
from secondpass.strategies.judging.reviews import (
    HIGHEST,
    Review,
    display_order,
    distinct_candidates,
    in_candidate_order,
    is_settled,
    totals,
)
from secondpass.strategies.voting.vote import Vote, cast_vote


class MetaRM(Params):
    """Number of drafts and reviews, and the method that selects the reviews that count."""

    n: int = Field(default=4, ge=1, le=64, description="drafts")
    temperature: float = Field(
        default=0.7, gt=0, le=2, description="sampling temperature of drafts"
    )
    shown: int = Field(default=4, ge=2, le=4, description="maximum number of candidates per review")
    k: int = Field(default=4, ge=1, le=64, description="maximum number of reviews")
    adaptive: bool = Field(
        default=True,
        description="stop after two reviews if both have the same favourite; false: always draw k",
    )
    review_temperature: float = Field(
        default=0.5,
        ge=0,
        le=2,
        description="sampling temperature of reviews; 0 is replaced for a judge that is a reasoning model",
    )
    meta: MetaSource | Literal["auto"] = Field(
        default="auto",
        description="meta score of reviews, of which the best half counts; auto: reward_model if the reward role can "
        "score, else self_certainty if the judge returns log probabilities, else agreement; none: all reviews count",
    )
    fallback: Literal["auto", "error", "agreement"] = Field(
        default="auto",
        description="if a review gets no meta score; error: fail the run; agreement: select reviews by agreement; "
        "auto: error if `meta` is reward_model, else agreement",
    )
    reward_saw_critiques: bool = Field(
        default=False,
        description="the reward role's model was trained on critiques, as in the paper",
    )

    @model_validator(mode="after")
    def _check_meta_options(self) -> Self:
        if self.meta in ("agreement", "none") and self.fallback != "auto":
            raise ValueError(
                f"fallback: has no effect with meta {self.meta!r}, which makes no call; choose 'auto'"
            )
        if self.reward_saw_critiques and self.meta not in ("auto", "reward_model"):
            raise ValueError(
                f"reward_saw_critiques: meta {self.meta!r} uses no reward model; choose false"
            )
        return self

    @property
    def sequential_calls(self) -> int:
        """The draft, then the reviews: two at once if they are adaptive, else all at once."""
        return 1 + (math.ceil(self.k / 2) if self.adaptive else 1)

    @property
    def requires_meta_score(self) -> bool:
        """True if a review without a meta score is an error."""
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
    """Score distinct drafts by several reviews and sum the scores of the best half of the reviews.

    Paper: DeepSeek-GRM (arXiv 2504.02495). Scores are from 1 to 10.

    Ours: equal answers are one candidate; candidate orders are balanced over positions; two reviews with the same
    favourite end the run; proxies for a meta reward model.
    """
    source = meta_source(run, params.meta)
    vote = Vote(n=params.n)
    draw = Draw(temperature=params.temperature)
    async with run.sample(SOLVE, params.n, draw=draw) as drafts:
        drawn = [await cast_vote(run, vote, draft) async for draft in drafts]
    shown = _shown(run, params, vote, sorted(drawn, key=lambda pair: pair[0].index))
    if len(shown) < 2:
        run.note("reviews", "none: fewer than two candidates")
        if shown and shown[0].index != run.best.index:
            run.elect(shown[0])  # the leader of the vote is not reviewable
        return run.best
    reviews = await _reviews(run, params, source, shown)
    if not is_settled(reviews):
        reviews = await select_reviews(
            run,
            source,
            reviews,
            shown,
            requires_meta_score=params.requires_meta_score,
            saw_critiques=params.reward_saw_critiques,
        )
    return _winner(reviews, shown)


def _shown(
    run: Run, params: MetaRM, vote: Vote, drawn: Sequence[tuple[Candidate, int | None]]
) -> list[Candidate]:
    """Return the candidates to review: those with the most votes, ties to the lower index."""
    classes = {candidate.index: ballot for candidate, ballot in drawn}
    found = distinct_candidates(drawn)
    found.sort(key=lambda c: -vote.ballots.count(classes[c.index]))
    if len(found) > params.shown:
        run.note("candidates", f"{params.shown} of {len(found)} were reviewed")
    return found[: params.shown]


async def _reviews(
    run: Run, params: MetaRM, source: MetaSource, shown: Sequence[Candidate]
) -> list[Review]:
    """Return the readable reviews in index order; a note counts the unreadable ones."""
    conclude, judge = run.model("actor").profile.conclusion, run.model("judge").profile
    texts = [conclude(candidate.text) for candidate in shown]
    draw = Draw(
        temperature=judge.judge_temperature(params.review_temperature),
        logprobs=TOP_LOGPROBS if source == "self_certainty" else None,
    )
    unreadable: set[int] = set()

    async def review(sample: int) -> Review:
        order = display_order(texts, sample)
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
        return Review(completion=completion, scores=in_candidate_order(scores, order))

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
    """Return the candidate with the highest sum, ties to more votes; its score is the mean over 10."""
    sums = totals(reviews, len(shown))
    best = max(range(len(shown)), key=sums.__getitem__)
    return replace(
        shown[best],
        score=sums[best] / (HIGHEST * len(reviews)),
        score_kind="review_score",
        why=f"{sums[best]} of {HIGHEST * len(reviews)} points from {len(reviews)} reviews; "
        f"all: {', '.join(map(str, sums))}",
    )

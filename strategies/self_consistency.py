"""Sample several completions of one prompt and elect an answer by vote."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.api.registry import Use, Variants, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw
from secondpass.strategies.voting.json_fields import FieldVote
from secondpass.strategies.voting.stopping import (
    AdaptiveRule,
    NoEarlyStopping,
    StoppingRule,
    UnbeatableLead,
    WindowRule,
)
from secondpass.strategies.voting.token_confidence import (
    TOP_LOGPROBS,
    ConfidenceThreshold,
    ShareRule,
)
from secondpass.strategies.voting.vote import WeightedVote
from secondpass.strategies.voting.weights import (
    BallotWeights,
    WeightedVoteParams,
    weight_needs,
    weight_trust,
)

NOTED_FIELDS = 64
"""Maximum number of JSON fields in the note `fields`, the fields with the lowest shares first."""


class SelfConsistency(Variants, WeightedVoteParams):
    """Number of samples, concurrency, ballot weights, and the rule that ends the vote early."""

    discriminator = "stop"
    uses: ClassVar[tuple[Use, ...]] = (
        *WeightedVoteParams.uses,
        ("warm_up", {"abort": (True,), "stop": ("share",)}),
        ("group", {"abort": (True,), "weight": ("confidence",)}),
        ("keep", {"abort": (True,)}),
    )

    n: int = Field(default=8, ge=1, description="maximum number of samples")
    width: int | None = Field(
        default=None,
        ge=1,
        description="samples drawn concurrently; default: one window for esc; n for none, or if `first` is set; else 4; above n: as n",
    )
    temperature: float = Field(
        default=0.7, ge=0, le=2, description="sampling temperature; 0 is an error unless n is 1"
    )
    abort: bool = Field(
        default=False,
        description="abort a sample when its token confidence falls below the threshold of the warm-up",
    )
    warm_up: int = Field(
        default=4,
        ge=1,
        description="abort: finished samples that set the confidence threshold, fewer than n; share: minimum number of "
        "answers before the vote is decided",
    )
    group: int = Field(
        default=64,
        ge=1,
        description="abort, weight = confidence: consecutive tokens over which confidence is averaged",
    )
    keep: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="abort: share of the warm-up samples that the threshold would keep; 0.9 is mild, 0.1 is strict",
    )
    first: int | None = Field(
        default=None,
        ge=1,
        description="only this many samples vote, those that finish first; at most n",
    )
    fields: Literal["auto", "off"] = Field(
        default="auto",
        description="open tasks; auto: where most answers are JSON objects, vote on each field; off: never",
    )

    @model_validator(mode="after")
    def _samples_must_differ(self) -> Self:
        if self.n > 1 and self.temperature == 0:
            raise ValueError(
                "temperature: 0 draws n equal samples; choose a value above 0, or n = 1"
            )
        return self

    @model_validator(mode="after")
    def _shares_must_fit(self) -> Self:
        if self.first is not None and self.first > self.n:
            raise ValueError(f"first: {self.first} is more than n = {self.n}; choose at most n")
        if self.abort and self.warm_up >= self.n:
            raise ValueError(
                f"warm_up: {self.warm_up} leaves no sample to abort with n = {self.n}; choose less than n"
            )
        return self

    @property
    def rule(self) -> StoppingRule:
        """The stopping rule for this value of `stop`."""
        return NoEarlyStopping()

    @property
    def block(self) -> int | None:
        """The number of samples between two checks of the rule; None if it is checked after each sample."""
        return None

    @property
    def batch(self) -> int:
        """The number of samples in one engine request."""
        return 1 if self.first is not None else self.block or 1

    @property
    def concurrency(self) -> int:
        """The number of samples drawn concurrently."""
        return self.width or self.block or (self.n if self.first is not None else 4)

    @property
    def logprobs(self) -> int | None:
        """The number of top log probabilities to request per token; None for none."""
        return TOP_LOGPROBS if self.abort or self.weight == "confidence" else None


class AdaptiveVote(SelfConsistency):
    """Stop when the leader probably has a majority (Adaptive-Consistency)."""

    stop: Literal["adaptive"] = "adaptive"
    confidence: float = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="adaptive: stop above this probability that the leader has a majority",
    )

    @property
    def rule(self) -> StoppingRule:
        return AdaptiveRule(self.confidence)


class WindowVote(SelfConsistency):
    """Stop when a window of consecutive samples is unanimous (ESC)."""

    stop: Literal["esc"]
    window: int = Field(
        default=5, ge=2, description="esc: samples per window; above n: all samples are drawn"
    )

    @property
    def rule(self) -> StoppingRule:
        return WindowRule(self.window)

    @property
    def block(self) -> int:
        return self.window


class LeadVote(SelfConsistency):
    """Stop when the remaining samples cannot change the winner."""

    stop: Literal["lead"]

    @property
    def rule(self) -> StoppingRule:
        return UnbeatableLead()


class ShareVote(SelfConsistency):
    """Stop when the leader has a given vote share of at least `warm_up` answers (DeepConf)."""

    stop: Literal["share"]
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="share: stop at this vote share"
    )

    @property
    def rule(self) -> StoppingRule:
        return ShareRule(self.confidence, self.warm_up)


class FullVote(SelfConsistency):
    """Draw all samples."""

    stop: Literal["none"]

    @property
    def block(self) -> int:
        return self.n


@strategy(
    "self_consistency",
    SelfConsistency,
    paper="2203.11171",
    signal="agreement",
    update="select",
    needs=weight_needs,
)
async def self_consistency(run: Run, params: SelfConsistency) -> Candidate:
    """Sample several completions and elect an answer by vote; a decided vote cancels the rest.

    Paper: Self-Consistency (arXiv 2203.11171). Stopping rules: Adaptive-Consistency (2305.11860), ESC (2401.10480) and
    the vote share of DeepConf (2508.15260). Weights: DeepConf's token confidence and CISC (2502.06233). `abort` is
    DeepConf's online rule, `first` is short-m@k (2505.17813).

    Ours: the exact `lead` rule; several concurrent samples under the adaptive rule (the paper draws one at a time);
    ties go to the answer with the lowest index; an open question elects the text most similar to all others, or
    among JSON objects the one that matches most of the field majorities.
    """
    trust = weight_trust(run, params.weight, always=params.always_weigh)
    ballot_weights = BallotWeights(run, params.weight, params.group, trust)
    vote = WeightedVote(n=params.n, rule=params.rule, trust=trust)
    cast: list[tuple[Completion, int | None]] = []
    fields = FieldVote()
    aborted = 0
    async with _samples(run, params) as drafts:
        async for draft in drafts:
            if draft is None:
                aborted += 1
                continue
            candidate = run.candidate(draft)
            ballot = await run.class_of(candidate)
            cast.append((draft, ballot))
            vote.add(candidate, ballot)
            vote.weights = await ballot_weights.read(cast)
            run.elect(_by_fields(run, params, fields, candidate) or vote.leader)
            if vote.is_decided:
                run.stop_reason = "consensus"
                break
            if len(vote.ballots) == params.first:
                run.note("first", f"the first {params.first} of {params.n} samples to finish")
                break
    if isinstance(params, WindowVote) and params.window > params.n:
        run.note("window", f"no early stop: {params.window} is above n = {params.n}")
    if params.abort:
        run.note("aborted", f"{aborted} samples fell below the confidence threshold of the warm-up")
    return run.best


def _samples(
    run: Run, params: SelfConsistency
) -> AbstractAsyncContextManager[AsyncIterator[Completion | None]]:
    """Yield samples as they finish; None for an aborted sample."""
    draw = Draw(temperature=params.temperature, logprobs=params.logprobs)
    if not params.abort:
        return run.sample(SOLVE, params.n, width=params.concurrency, batch=params.batch, draw=draw)
    rule = ConfidenceThreshold(params.warm_up, params.group, params.keep)

    async def write(index: int) -> Completion | None:
        async with run.steps(SOLVE, index=index, draw=draw, every=16) as draft:
            async for _ in draft:
                if rule.is_weak(draft.completion.confidences):
                    return None
            rule.learn(draft.completion.confidences)
            return draft.completion

    return run.as_completed(write, range(params.n), width=params.concurrency)


def _by_fields(
    run: Run, params: SelfConsistency, fields: FieldVote, candidate: Candidate
) -> Candidate | None:
    """Return the leader of the vote on JSON fields, or None; a note lists the shares of its fields."""
    if run.task.kind != "open" or params.fields == "off":
        return None
    if leader := fields.add(candidate):
        ranked = sorted(fields.shares.items(), key=lambda pair: pair[1])[:NOTED_FIELDS]
        run.note("fields", json.dumps({path: round(share, 4) for path, share in ranked}))
        if (others := len(fields.shares) - len(ranked)) > 0:
            run.note("other fields", f"{others} more, each with at least the shares listed")
    return leader

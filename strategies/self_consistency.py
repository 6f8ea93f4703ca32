"""Draw several completions and let their answers vote."""

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
    BetaRule,
    Never,
    SafeLead,
    StoppingRule,
    WindowRule,
)
from secondpass.strategies.voting.token_confidence import TOP, OnlineRule, ShareRule
from secondpass.strategies.voting.vote import WeightedVote
from secondpass.strategies.voting.weights import Weighed, Weigher, weight_needs, weight_trust

NOTED_FIELDS = 64
"""So many fields of a JSON answer are listed with their confidence, the least sure first."""


class SelfConsistency(Variants, Weighed):
    """How many samples, how many at once, and when the vote is decided before all of them are drawn."""

    discriminator = "stop"
    uses: ClassVar[tuple[Use, ...]] = (
        *Weighed.uses,
        ("warm_up", {"abort": (True,), "stop": ("share",)}),
        ("group", {"abort": (True,), "weight": ("confidence",)}),
        ("keep", {"abort": (True,)}),
    )

    n: int = Field(default=8, ge=1, description="samples at most")
    width: int | None = Field(
        default=None,
        ge=1,
        description="samples drawn at once; default 4 for adaptive, lead and share, one window for esc, all for none and "
        "with first",
    )
    temperature: float = Field(default=0.7, ge=0, le=2, description="of every sample")
    abort: bool = Field(
        default=False, description="samples are aborted as soon as they are less sure than usual"
    )
    warm_up: int = Field(
        default=4, ge=1, description="abort, share: whole samples that say what is usual"
    )
    group: int = Field(default=64, ge=1, description="abort, confidence: tokens in a group")
    keep: float = Field(
        default=0.9, gt=0, lt=1, description="abort: share of the warm-up that would be kept"
    )
    first: int | None = Field(
        default=None, ge=1, description="only the first so many samples to finish vote"
    )
    fields: Literal["auto", "off"] = Field(
        default="auto",
        description="open tasks; auto: where most answers are JSON objects, their fields vote one by one",
    )

    @model_validator(mode="after")
    def _samples_must_differ(self) -> Self:
        if self.n > 1 and self.temperature == 0:
            raise ValueError("temperature: 0 draws n equal samples; choose one above 0, or n = 1")
        return self

    @model_validator(mode="after")
    def _shares_must_fit(self) -> Self:
        if self.first is not None and self.first > self.n:
            raise ValueError(f"first: {self.first} of n = {self.n} samples; choose at most n")
        if self.abort and self.warm_up >= self.n:
            raise ValueError(
                f"warm_up: {self.warm_up} of n = {self.n} samples leaves none to abort"
            )
        return self

    @property
    def rule(self) -> StoppingRule:
        """The stopping rule that `stop` names."""
        return Never()

    @property
    def block(self) -> int | None:
        """Samples between which the rule cannot stop; None where it can stop after each."""
        return None

    @property
    def batch(self) -> int:
        """Samples that share one engine request."""
        return 1 if self.first is not None else self.block or 1

    @property
    def at_once(self) -> int:
        """Samples drawn at once."""
        return self.width or self.block or (self.n if self.first is not None else 4)

    @property
    def logprobs(self) -> int | None:
        """What the samples' calls ask for."""
        return TOP if self.abort or self.weight == "confidence" else None


class AdaptiveVote(SelfConsistency):
    """The vote is decided once the leader is probably the majority."""

    stop: Literal["adaptive"] = "adaptive"
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="adaptive: probability that is enough"
    )

    @property
    def rule(self) -> StoppingRule:
        return BetaRule(self.confidence)


class WindowVote(SelfConsistency):
    """The vote is decided once a window of samples is unanimous."""

    stop: Literal["esc"]
    window: int = Field(default=5, ge=2, description="esc: samples in a window")

    @property
    def rule(self) -> StoppingRule:
        return WindowRule(self.window)

    @property
    def block(self) -> int:
        return self.window


class LeadVote(SelfConsistency):
    """The vote is decided once the samples that are left cannot change the winner."""

    stop: Literal["lead"]

    @property
    def rule(self) -> StoppingRule:
        return SafeLead()


class ShareVote(SelfConsistency):
    """The vote is decided once the leader has a share of at least `warm_up` answers."""

    stop: Literal["share"]
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="share: share that is enough")

    @property
    def rule(self) -> StoppingRule:
        return ShareRule(self.confidence, self.warm_up)


class FullVote(SelfConsistency):
    """All samples are drawn."""

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
    """Samples vote for their answers; a decided vote cancels the samples that are left.

    Paper: Self-Consistency (arXiv 2203.11171). Stopping rules: Adaptive-Consistency (2305.11860) and ESC
    (2401.10480). Weights: DeepConf (2508.15260), whose online rule is `abort`, and CISC (2502.06233). `first` is
    short-m@k (2505.17813). Ours: the exact `lead` rule; several samples at once under the adaptive rule (the paper
    draws one at a time); ties go to the answer with the lowest index; open questions elect the text most like all
    others, or of JSON objects the one that agrees with most of them field by field.
    """
    trust = weight_trust(run, params.weight, always=params.always_weigh)
    weigher = Weigher(run, params.weight, params.group, trust)
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
            vote.weights = await weigher.weights(cast)
            run.elect(_by_fields(run, params, fields, candidate) or vote.leader)
            if vote.is_decided:
                run.stop_reason = "consensus"
                break
            if len(vote.ballots) == params.first:
                run.note("first", f"the first {params.first} of {params.n} samples to finish")
                break
    if params.abort:
        run.note("aborted", f"{aborted} samples were less sure than the warm-up")
    return run.best


def _samples(
    run: Run, params: SelfConsistency
) -> AbstractAsyncContextManager[AsyncIterator[Completion | None]]:
    """The samples as they finish; None for one that was aborted."""
    draw = Draw(temperature=params.temperature, logprobs=params.logprobs)
    if not params.abort:
        return run.sample(SOLVE, params.n, width=params.at_once, batch=params.batch, draw=draw)
    rule = OnlineRule(params.warm_up, params.group, params.keep)

    async def write(index: int) -> Completion | None:
        async with run.steps(SOLVE, index=index, draw=draw, every=16) as draft:
            async for _ in draft:
                if rule.is_weak(draft.completion.confidences):
                    return None
            rule.learn(draft.completion.confidences)
            return draft.completion

    return run.as_completed(write, range(params.n), width=params.at_once)


def _by_fields(
    run: Run, params: SelfConsistency, fields: FieldVote, candidate: Candidate
) -> Candidate | None:
    """The leader of the fields' vote, where there is one, with a note of how sure each of its fields is."""
    if run.task.kind != "open" or params.fields == "off":
        return None
    if leader := fields.add(candidate):
        ranked = sorted(fields.shares.items(), key=lambda pair: pair[1])[:NOTED_FIELDS]
        run.note("fields", json.dumps({path: round(share, 4) for path, share in ranked}))
        if (others := len(fields.shares) - len(ranked)) > 0:
            run.note("other fields", f"{others} more, each at least as sure as these")
    return leader

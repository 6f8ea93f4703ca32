"""Insert reflection prompts into several chains; a changed answer counts only if it is confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.registry import Needs, Use, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate
from secondpass.strategies.continuation.chain import Chain
from secondpass.strategies.continuation.triggers import (
    MIN_GROWTH,
    AnswerTrail,
    Schedule,
    chain_answers,
)
from secondpass.strategies.voting.stopping import UnbeatableLead
from secondpass.strategies.voting.token_confidence import TOP_LOGPROBS
from secondpass.strategies.voting.vote import WeightedVote
from secondpass.strategies.voting.weights import (
    BallotWeights,
    WeightedVoteParams,
    weight_needs,
    weight_trust,
)


class IterativeDeepening(WeightedVoteParams):
    """Number of chains, the schedule of their reflection prompts, and the weights of their votes."""

    uses: ClassVar[tuple[Use, ...]] = (
        *WeightedVoteParams.uses,
        ("b0", {"max_triggers": range(1, 9)}),
        ("gamma", {"max_triggers": range(1, 9)}),
        ("reading", {"max_triggers": range(1, 9)}),
        ("group", {"weight": ("confidence",)}),
    )

    n: int = Field(default=4, ge=1, le=64, description="chains; the answer of each is one vote")
    width: int = Field(
        default=4, ge=1, le=64, description="maximum number of concurrent chains; above n: as n"
    )
    temperature: float = Field(
        default=0.7, ge=0, le=2, description="sampling temperature; 0 is an error unless n is 1"
    )
    max_triggers: int | None = Field(
        default=None,
        ge=0,
        le=8,
        description="maximum number of reflection prompts per chain; default 2 for a reasoning model or with b0, "
        "else 1; 0: a plain vote",
    )
    b0: int | None = Field(
        default=None,
        ge=16,
        le=1_000_000,
        description="tokens before the first trigger; default for a reasoning model: half of its median completion "
        "length, once known; otherwise: triggers only after finished segments",
    )
    gamma: float = Field(
        default=2.0,
        ge=1,
        le=8,
        description="growth factor of the token budget per trigger; at least 1.1 with reading = cumulative",
    )
    reading: Literal["cumulative", "segment"] = Field(
        default="cumulative",
        description="cumulative: triggers at b0 * gamma^k tokens of the chain; segment: after segments of b0 * gamma^k "
        "tokens",
    )
    agree: int = Field(
        default=2,
        ge=2,
        le=9,
        description="a chain ends when this many consecutive segments have the same answer; at most max_triggers + 1",
    )
    group: int = Field(
        default=64,
        ge=1,
        description="weight = confidence: consecutive tokens over which confidence is averaged",
    )

    @property
    def sequential_calls(self) -> int:
        """The segments of a chain."""
        return 1 + (2 if self.max_triggers is None else self.max_triggers)

    @model_validator(mode="after")
    def _chains_must_differ(self) -> Self:
        if self.n > 1 and self.temperature == 0:
            raise ValueError(
                "temperature: 0 draws n equal chains; choose a value above 0, or n = 1"
            )
        return self

    @model_validator(mode="after")
    def _triggers_must_fit(self) -> Self:
        most = 2 if self.max_triggers is None else self.max_triggers
        if self.agree > max(most, 1) + 1:
            raise ValueError(
                f"agree: {self.agree} is more than the {most + 1} segments of a chain; choose at most {most + 1}"
            )
        if self.reading == "cumulative" and self.gamma < MIN_GROWTH:
            raise ValueError(
                f"gamma: {self.gamma} is too small with reading = cumulative; "
                f"choose {MIN_GROWTH} to 8, or reading = segment"
            )
        return self


def _needs(params: IterativeDeepening, task: Task) -> Needs:
    return {**weight_needs(params, task), "actor": {"prefix"}}


@strategy(
    "iterative_deepening",
    IterativeDeepening,
    paper="2502.05449",
    signal="agreement",
    update="extend",
    needs=_needs,
)
async def iterative_deepening(run: Run, params: IterativeDeepening) -> Candidate:
    """Continue chains after reflection prompts and elect an answer by vote; changes need confirmation.

    Paper: ID-sampling (arXiv 2502.05449): triggers at token budgets that grow by `gamma`. Reasoning is reopened as in
    s1 (2501.19393). Forced answers, and the end of a chain whose answers agree, are from Dynasor.

    Ours: a change counts only if a second segment repeats it or another chain opened with it; triggers follow only safe
    points; the first budget is half of the model's median completion length.
    """
    schedule = _schedule(run, params)
    logprobs = TOP_LOGPROBS if params.weight == "confidence" else None
    trust = weight_trust(run, params.weight, always=params.always_weigh)
    ballot_weights = BallotWeights(run, params.weight, params.group, trust)
    chains: dict[int, AnswerTrail] = {}

    async def write(index: int) -> tuple[int, AnswerTrail]:
        chain = Chain(run, index, schedule, params.agree, params.temperature, logprobs)
        return index, await chain.generate()

    async with run.as_completed(write, range(params.n), width=params.width) as finished:
        async for index, trail in finished:
            chains[index] = trail
            vote = await _vote(params.n, chains, ballot_weights)
            run.elect(vote.leader)
            if vote.is_decided:
                run.stop_reason = "consensus"
                break
    changed = sum(trail.is_changed for trail in chains.values())
    run.note("changed", f"the answer changed within {changed} of {len(chains)} chains")
    if count := sum(trail.forced_count for trail in chains.values()):
        run.note("forced", f"{count} answers were forced from unfinished segments")
    return run.best


def _schedule(run: Run, params: IterativeDeepening) -> Schedule:
    """Return the trigger schedule; it is empty where triggers are useless or unsupported."""
    reasons = run.model().profile.is_thinking
    b0, most = params.b0, params.max_triggers
    if most is None:
        most = 2 if reasons or b0 is not None else 1
    if most == 0:
        return Schedule(0)
    why = None
    if run.task.kind == "open":
        why = "answers to an open question cannot be compared"
    elif reasons:
        why = _why_not_reopened(run)
        b0 = b0 or _half_of_median(run)
    if why is None and most == params.n == 1 and b0 is None:
        why = "with one chain and one trigger nothing can confirm a change"
    if why is not None:
        run.note("not deepened", why)
        return Schedule(0)
    if b0 is None and {"gamma", "reading"} & params.model_fields_set:
        run.note(
            "gamma, reading",
            "no effect: without a token budget, triggers follow only finished segments",
        )
    return Schedule(most, b0, params.gamma, params.reading)


def _why_not_reopened(run: Run) -> str | None:
    if not run.model().profile.reopens:
        return "the model returns its reasoning as a separate message, which cannot be reopened"
    if not run.model().can("tokenize"):
        return "continuing reasoning needs token ids, which the actor's engine does not return"
    return None


def _half_of_median(run: Run) -> int | None:
    """Return half of the model's median completion length in tokens; None if it is unknown."""
    median = run.model().median_length
    if median is None or median < 2:
        run.note("b0", "no median length known: the first trigger follows the end of the reasoning")
        return None
    run.note("b0", f"{median // 2} tokens: half of the model's median completion length")
    return median // 2


async def _vote(
    n: int, chains: Mapping[int, AnswerTrail], ballot_weights: BallotWeights
) -> WeightedVote:
    """Return the vote of the finished chains, in index order.

    Each change that another chain may still confirm counts as two more samples to come, since it may move a ballot.
    """
    pending = sum(trail.is_pending for trail in chains.values())
    vote = WeightedVote(n=n + 2 * pending, rule=UnbeatableLead(), trust=ballot_weights.trust)
    answers = chain_answers([chains[index] for index in sorted(chains)])
    weights = await ballot_weights.read([(each.draft, each.ballot) for each in answers])
    for each, weight in zip(answers, weights, strict=True):
        vote.add(each.candidate, each.ballot, weight)
    return vote

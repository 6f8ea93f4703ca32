"""Have each draft doubt itself as it is written and once it is finished, and believe a doubt only where it is confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.api.errors import BudgetExhausted, CapabilityMissing
from secondpass.strategies.api.registry import Use, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate
from secondpass.strategies.continuation.chain import Chain
from secondpass.strategies.continuation.triggers import LEAST_GROWTH, Readings, Schedule, elected
from secondpass.strategies.voting.stopping import SafeLead
from secondpass.strategies.voting.token_confidence import TOP
from secondpass.strategies.voting.vote import WeightedVote
from secondpass.strategies.voting.weights import Weighed, Weigher, weight_trust


class IterativeDeepening(Weighed):
    """How many chains, when each is made to doubt itself, and how their answers vote."""

    uses: ClassVar[tuple[Use, ...]] = (
        *Weighed.uses,
        ("b0", {"max_triggers": range(1, 9)}),
        ("gamma", {"max_triggers": range(1, 9)}),
        ("reading", {"max_triggers": range(1, 9)}),
        ("group", {"weight": ("confidence",)}),
    )

    n: int = Field(default=4, ge=1, le=64, description="chains, whose answers vote")
    width: int = Field(default=4, ge=1, le=64, description="chains at once at most")
    temperature: float = Field(default=0.7, ge=0, le=2, description="of every chain")
    max_triggers: int | None = Field(
        default=None,
        ge=0,
        le=8,
        description="how often a chain is made to doubt at most; default 2 for a model that thinks and with b0, else 1; "
        "0: a plain vote",
    )
    b0: int | None = Field(
        default=None,
        ge=16,
        le=1_000_000,
        description="tokens before the first trigger; default for a model that thinks: half of its usual length, once "
        "that is known, and for others: a trigger only when a draft has finished",
    )
    gamma: float = Field(default=2.0, ge=1, le=8, description="growth of the budget per trigger")
    reading: Literal["cumulative", "segment"] = Field(
        default="cumulative",
        description="cumulative: triggers at b0 * gamma^k tokens in all; segment: after a segment of so many",
    )
    agree: int = Field(
        default=2, ge=2, le=9, description="a chain ends when so many segments have one answer"
    )
    group: int = Field(default=64, ge=1, description="confidence: tokens in a group")

    @model_validator(mode="after")
    def _chains_must_differ(self) -> Self:
        if self.n > 1 and self.temperature == 0:
            raise ValueError("temperature: 0 draws n equal chains; choose one above 0, or n = 1")
        return self

    @model_validator(mode="after")
    def _triggers_must_fit(self) -> Self:
        most = 2 if self.max_triggers is None else self.max_triggers
        if self.agree > max(most, 1) + 1:
            raise ValueError(
                f"agree: {self.agree} of at most {most + 1} segments; choose at most {most + 1}"
            )
        if self.reading == "cumulative" and self.gamma < LEAST_GROWTH:
            raise ValueError(
                f"gamma: {self.gamma} with reading = cumulative sets triggers on one place; choose {LEAST_GROWTH} to 8, "
                "or reading = segment"
            )
        return self


@strategy(
    "iterative_deepening",
    IterativeDeepening,
    paper="2502.05449",
    signal="agreement",
    update="extend",
    needs={"prefix"},
)
async def iterative_deepening(run: Run, params: IterativeDeepening) -> Candidate:
    """Chains go on after a sentence of doubt, at growing budgets or once finished; confirmed answers vote.

    Paper: ID-sampling (arXiv 2502.05449); thoughts are reopened as in s1 (2501.19393), and answers forced as in
    Dynasor. Ours: a change counts only if it comes back, or another chain opened with it; a chain whose segments
    agree ends; what is usual for a model is learned.
    """
    schedule = _schedule(run, params)
    trust = weight_trust(run, params.weight, always=params.always_weigh)
    weigher = Weigher(run, params.weight, params.group, trust)
    chains: dict[int, Readings] = {}
    spent: list[BudgetExhausted] = []

    async def write(index: int) -> tuple[int, Readings]:
        logprobs = TOP if params.weight == "confidence" else None
        chain = Chain(run, index, schedule, params.agree, params.temperature, logprobs)
        readings = await chain.write()
        if chain.spent:
            spent.append(chain.spent)
        return index, readings

    async with run.as_completed(write, range(params.n), width=params.width) as finished:
        async for index, readings in finished:
            chains[index] = readings
            vote = await _vote(params.n, chains, weigher)
            run.elect(vote.leader)
            if vote.is_decided:
                run.stop_reason = "consensus"
                break
    changed = sum(readings.is_changed for readings in chains.values())
    run.note("changed", f"the answer changed within {changed} of {len(chains)} chains")
    if count := sum(readings.forced for readings in chains.values()):
        run.note("forced", f"{count} answers were forced out of unfinished segments")
    if spent and run.stop_reason != "consensus":
        raise spent[0]  # which says what ended the run; its answer is the one elected
    return run.best


def _schedule(run: Run, params: IterativeDeepening) -> Schedule:
    """When chains doubt; never where that could change nothing, or where the engine cannot go on with thoughts."""
    thinks = run.profile("actor").is_thinking
    b0, most = params.b0, params.max_triggers
    if most is None:
        most = 2 if thinks or b0 is not None else 1
    if most == 0:
        return Schedule(0)
    why = None
    if run.task.kind == "open":
        why = "an open question has no answers to compare"
    elif thinks:
        why = _why_not_reopened(run)
        b0 = b0 or _usual(run)
    if why is None and most == params.n == 1 and b0 is None:
        why = "nothing could confirm what one chain changes after one trigger"
    if why is not None:
        run.note("not deepened", why)
        return Schedule(0)
    if b0 is None and {"gamma", "reading"} & params.model_fields_set:
        run.note(
            "gamma, reading",
            "without effect: there is no budget, triggers stand where a segment ends",
        )
    return Schedule(most, b0, params.gamma, params.reading)


def _why_not_reopened(run: Run) -> str | None:
    if not run.profile("actor").reopens:
        return "the model's thoughts are a message of their own, which is not reopened"
    try:
        run.require("actor", "tokenize")
    except CapabilityMissing:
        return "thoughts are gone on with token by token, and the actor's engine tells no tokens"
    return None


def _usual(run: Run) -> int | None:
    """Half of what the model usually writes, in tokens; None where that is not known."""
    usual = run.usual_length("actor")
    if usual is None or usual < 2:
        run.note(
            "b0", "no usual length is known: the first trigger stands at the end of the thoughts"
        )
        return None
    run.note("b0", f"{usual // 2} tokens: half of what the model usually writes")
    return usual // 2


async def _vote(n: int, chains: Mapping[int, Readings], weigher: Weigher) -> WeightedVote:
    """The vote of the chains so far, in their own order; a change to be confirmed may yet move a ballot."""
    pending = sum(readings.is_pending for readings in chains.values())
    vote = WeightedVote(n=n + 2 * pending, rule=SafeLead(), trust=weigher.trust)
    readings = elected([chains[index] for index in sorted(chains)])
    weights = await weigher.weights([(each.draft, each.ballot) for each in readings])
    for each, weight in zip(readings, weights, strict=True):
        vote.add(each.candidate, each.ballot, weight)
    return vote

"""Have each draft doubt itself as it is written and once it is finished, and believe a doubt only where it is confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.chains import Chain
from secondpass.strategies.confidence import TOP
from secondpass.strategies.core import BudgetExhausted, Candidate, CapabilityMissing, Run
from secondpass.strategies.deepening import LEAST_GROWTH, Readings, Schedule, elected
from secondpass.strategies.registry import Params, Use, strategy
from secondpass.strategies.voting import SafeLead, WeightedVote
from secondpass.strategies.weights import Weight, ballot_weight, weight_trust

Weights = dict[tuple[int, int], float | None]


class IterativeDeepening(Params):
    """How many chains, when each is made to doubt itself, and how their answers vote."""

    uses: ClassVar[tuple[Use, ...]] = (
        ("b0", {"max_triggers": range(1, 9)}),
        ("gamma", {"max_triggers": range(1, 9)}),
        ("reading", {"max_triggers": range(1, 9)}),
        ("always_weigh", {"weight": ("p_true",)}),
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
    weight: Weight = Field(
        default="none",
        description="what a ballot weighs; confidence: the lowest mean over `group` tokens; p_true: how probable the "
        "judge thinks it that the answer is right",
    )
    always_weigh: bool = Field(
        default=False, description="p_true: weigh also where the judge is not known to be any good"
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
    chains: dict[int, Readings] = {}
    weights: Weights = {}
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
            vote = await _vote(run, params, chains, trust, weights)
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


async def _vote(
    run: Run,
    params: IterativeDeepening,
    chains: Mapping[int, Readings],
    trust: float,
    weights: Weights,
) -> WeightedVote:
    """The vote of the chains so far, in their own order; a change to be confirmed may yet move a ballot."""
    pending = sum(readings.is_pending for readings in chains.values())
    vote = WeightedVote(n=params.n + 2 * pending, rule=SafeLead(), trust=trust)
    order = sorted(chains)
    readings = elected([chains[index] for index in order])
    is_contested = len({each.ballot for each in readings} - {None}) > 1
    for index, each in zip(order, readings, strict=True):
        weight = None
        if is_contested and each.ballot is not None and each.draft is not None:
            known = (index, each.ballot)
            if known not in weights:
                weights[known] = await ballot_weight(
                    run, params.weight, each.draft, params.group, trust
                )
            weight = weights[known]
        vote.add(each.candidate, each.ballot, weight)
    return vote

"""Draw several completions and let their answers vote."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.core import SOLVE, Candidate, Run
from secondpass.strategies.registry import Params, strategy
from secondpass.strategies.voting import BetaRule, Never, SafeLead, StoppingRule, Vote, WindowRule


class SelfConsistency(Params):
    """How many samples, how many at once, and when the vote is decided before all of them are drawn."""

    n: int = Field(default=8, ge=1, description="samples at most")
    width: int | None = Field(
        default=None,
        ge=1,
        description="samples drawn at once; default 4 for adaptive and lead, one window for esc, all for none",
    )
    stop: Literal["adaptive", "esc", "lead", "none"] = Field(
        default="adaptive",
        description="adaptive: the leader is probably the majority; esc: a window of samples is unanimous; "
        "lead: what is left cannot change the winner; none: draw all",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="adaptive: probability that is enough"
    )
    window: int = Field(default=5, ge=2, description="esc: samples in a window")
    temperature: float = Field(default=0.7, ge=0, le=2, description="of every sample")

    @model_validator(mode="after")
    def _samples_must_differ(self) -> Self:
        if self.n > 1 and self.temperature == 0:
            raise ValueError("temperature: 0 draws n equal samples; choose one above 0, or n = 1")
        return self

    @property
    def rule(self) -> StoppingRule:
        """The stopping rule that `stop` names."""
        rules: dict[str, StoppingRule] = {
            "adaptive": BetaRule(self.confidence),
            "esc": WindowRule(self.window),
            "lead": SafeLead(),
            "none": Never(),
        }
        return rules[self.stop]

    @property
    def batch(self) -> int:
        """Samples that share one engine request: those between which nothing can stop."""
        return {"esc": self.window, "none": self.n}.get(self.stop, 1)

    @property
    def at_once(self) -> int:
        """Samples drawn at once."""
        return self.width or {"esc": self.window, "none": self.n}.get(self.stop, 4)


@strategy(
    "self_consistency", SelfConsistency, paper="2203.11171", signal="agreement", update="select"
)
async def self_consistency(run: Run, params: SelfConsistency) -> Candidate:
    """Samples vote for their answers; a decided vote cancels the samples that are left.

    Paper: Self-Consistency (arXiv 2203.11171). Stopping rules: Adaptive-Consistency (2305.11860) and ESC
    (2401.10480). Ours: the exact `lead` rule; several samples at once under the adaptive rule (the paper draws one
    at a time); ties go to the answer seen first; open questions elect the text most like all others.
    """
    vote = Vote(n=params.n, rule=params.rule)
    async with run.sample(
        SOLVE,
        params.n,
        width=params.at_once,
        batch=params.batch,
        temperature=params.temperature,
    ) as drafts:
        async for draft in drafts:
            candidate = run.candidate(draft)
            run.elect(vote.add(candidate, await run.class_of(candidate)))
            if vote.is_decided:
                run.stop_reason = "consensus"
                break
    return run.best

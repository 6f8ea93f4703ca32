"""Weight the vote over drafts by a critic's verdicts, or retry rejected drafts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.registry import Needs, Params, Use, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion, Draw
from secondpass.strategies.refining.critics import (
    VerdictFormat,
    resolve_format,
    with_critic_verdicts,
    with_test_verdicts,
)
from secondpass.strategies.refining.guided_steps import StepGuide, unsupported_reason
from secondpass.strategies.refining.retries import MAX_TEMPERATURE, Retries, is_retriable
from secondpass.strategies.refining.versions import Version, winner
from secondpass.strategies.voting.vote import Vote, cast_vote

Mode = Literal["filter_vote", "sequential", "parallel", "hybrid", "step_guided"]
RETRYING: tuple[Mode, ...] = ("sequential", "parallel", "hybrid")

VOTING: tuple[Mode, ...] = ("filter_vote", *RETRYING)


class CriticRetry(Params):
    """Use of the critic's verdicts, number of drafts, and number of retries."""

    uses: ClassVar[tuple[Use, ...]] = (
        ("max_rounds", {"mode": RETRYING}),
        ("filter", {"mode": VOTING}),
        ("verdict", {"mode": VOTING}),
        ("decided", {"mode": ("filter_vote", "parallel", "hybrid")}),
        ("decided", {"n": range(2, 65)}),
        ("always_weigh", {"mode": VOTING}),
        ("always_weigh", {"filter": ("soft",)}),
        ("reject_repeats", {"mode": RETRYING}),
        ("schedule", {"mode": RETRYING}),
        ("redraws", {"mode": ("step_guided",)}),
        ("without_prefix", {"mode": ("step_guided",)}),
    )

    mode: Mode = Field(
        default="filter_vote",
        description="filter_vote: verdicts weight the vote; sequential: one chain of retries; parallel: one retry per "
        "draft; hybrid: max_rounds retries per draft; step_guided: redraw wrong steps during generation",
    )
    n: int | None = Field(
        default=None, ge=1, le=64, description="drafts; default 4; sequential: always 1"
    )
    width: int = Field(
        default=4,
        ge=1,
        le=64,
        description="maximum number of concurrent drafts or retries; above n: as n",
    )
    max_rounds: int | None = Field(
        default=None,
        ge=1,
        le=8,
        description="maximum number of retries per draft; default 2; parallel: always 1",
    )
    temperature: float = Field(
        default=0.7,
        ge=0,
        le=2,
        description="sampling temperature of drafts and retries; 0 is an error unless n is 1",
    )
    schedule: bool = Field(
        default=False, description="raise the temperature by 0.15 per retry, up to 1.2"
    )
    verdict: VerdictFormat | Literal["auto"] = Field(
        default="auto",
        description="labels: the label probability that a draft is right; text: a written critique; auto: labels if "
        "the critic's engine returns label probabilities, else text",
    )
    filter: Literal["soft", "hard"] = Field(
        default="soft",
        description="soft: verdicts weight the votes; hard: rejected drafts have no vote, unless all are rejected",
    )
    decided: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="skip the critic if the leader's vote share is above this; not for a single chain",
    )
    always_weigh: bool = Field(
        default=False,
        description="use verdicts of a critic that is not calibrated or has an AUROC below 0.6",
    )
    reject_repeats: Literal["auto", "soft", "off"] = Field(
        default="auto",
        description="a retry whose answer its chain already had; soft: has less weight; auto: as soft, and redrawn up "
        "to 3 times if tests rejected that answer; off: counts in full",
    )
    redraws: int = Field(
        default=3, ge=1, le=16, description="step_guided: maximum number of redraws per step"
    )
    without_prefix: Literal["error", "vote"] = Field(
        default="error",
        description="step_guided: if the actor's engine cannot continue a completion; error, or a plain vote",
    )

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.mode == "sequential" and self.n not in (None, 1):
            raise ValueError(
                f"n: mode 'sequential' has one chain, not {self.n}; choose 1, or mode 'hybrid'"
            )
        if self.mode == "parallel" and self.max_rounds not in (None, 1):
            raise ValueError(
                f"max_rounds: mode 'parallel' has 1 round, not {self.max_rounds}; choose 1, or mode 'hybrid'"
            )
        return self

    @model_validator(mode="after")
    def _check_temperatures(self) -> Self:
        if self.chains > 1 and self.temperature == 0:
            raise ValueError(
                "temperature: 0 draws n equal drafts; choose a value above 0, or n = 1"
            )
        if self.schedule and self.temperature > MAX_TEMPERATURE:
            raise ValueError(
                f"schedule: the temperature rises to {MAX_TEMPERATURE}; "
                f"choose a temperature of at most {MAX_TEMPERATURE}"
            )
        return self

    @property
    def chains(self) -> int:
        """The number of drafts."""
        return self.n or (1 if self.mode == "sequential" else 4)

    @property
    def rounds(self) -> int:
        """The maximum number of retries per draft."""
        if self.mode not in RETRYING:
            return 0
        return self.max_rounds or (1 if self.mode == "parallel" else 2)

    @property
    def sequential_calls(self) -> int:
        """The draft and its retries, each with a critique."""
        return 2 * (1 + self.rounds)

    @property
    def retries(self) -> Retries:
        """The retry settings, with all counts at 0."""
        return Retries(
            chains=self.chains,
            rounds=self.rounds,
            width=self.width,
            temperature=self.temperature,
            is_scheduled=self.schedule,
            downweights_repeats=self.reject_repeats != "off",
            redraws_repeats=self.reject_repeats == "auto",
        )


def _needs(params: CriticRetry, task: Task) -> Needs:
    critic: Needs = {"critic": {"labels"} if params.verdict == "labels" else ()}
    if params.mode == "step_guided" and params.without_prefix == "error":
        return {**critic, "actor": {"prefix"}}
    return critic


@strategy(
    "critic_retry",
    CriticRetry,
    paper="2507.15024",
    signal="critique",
    update="refine",
    needs=_needs,
)
async def critic_retry(run: Run, params: CriticRetry) -> Candidate:
    """Weight the vote over drafts by a critic's verdicts; in other modes retry rejected drafts.

    Papers: RefCritic (arXiv 2507.15024; its filter is `filter: hard`); Critique-RL (2510.24320) and AutoMathCritique
    (2411.16579) for retries; Feedback Friction (2506.11930) for the list of answers tried and the temperature schedule;
    SPC (2504.19162) for `step_guided`.

    Ours: verdicts of a critic without a useful calibration have no weight; the answer of a single retry wins against
    the drafts only if a critic whose verdicts count accepts it; the rejected version is not shown to the retry.
    """
    verdict_format, is_hard = resolve_format(run, params.verdict), params.filter == "hard"
    vote, versions = await _drafts(run, params)
    versions = await with_test_verdicts(run, versions)
    is_tested = any(each.verdict is not None for each in versions)
    trust = 1.0 if is_tested else _trust(run, params, vote.share)
    if trust is None:
        return run.best
    retries = params.retries
    for number in range(params.rounds + 1):
        is_last = number == params.rounds
        if not is_tested and (trust or is_hard or not is_last):
            versions = await with_critic_verdicts(
                run, versions, verdict_format, number, with_issues=not is_last
            )
        run.elect(winner(versions, trust=trust, is_hard=is_hard))
        if is_tested and any(each.is_accepted for each in versions):
            run.stop_reason = "accepted"
            break
        if is_last or not any(map(is_retriable, versions)):
            break
        versions = [*versions, *await retries.draw_round(run, versions, number + 1)]
    _report(run, versions, "tests" if is_tested else verdict_format, retries)
    return run.best


async def _drafts(run: Run, params: CriticRetry) -> tuple[Vote, list[Version]]:
    """Return the plain vote, whose leader is elected as drafts finish, and the drafts by chain index."""
    vote = Vote(n=params.chains)
    found: list[Version] = []
    guide = _guide(run, params)

    async def draw(chain: int) -> Completion:
        if guide is not None:
            return await guide.generate(run, chain)
        return await run.ask(SOLVE, index=chain, draw=Draw(temperature=params.temperature))

    async with run.as_completed(draw, range(params.chains), width=params.width) as drafts:
        async for draft in drafts:
            candidate, ballot = await cast_vote(run, vote, draft)
            found.append(
                Version(chain=draft.index, completion=draft, candidate=candidate, ballot=ballot)
            )
    if guide is not None:
        run.note("steps", guide.report)
    return vote, sorted(found, key=lambda each: each.chain)


def _guide(run: Run, params: CriticRetry) -> StepGuide | None:
    """Return the step checker for the mode step_guided; None in other modes or where it is unsupported."""
    if params.mode != "step_guided":
        return None
    if why := unsupported_reason(run):
        run.note("steps", f"not guided: {why}")
        return None
    return StepGuide(params.chains, params.redraws, params.temperature)


def _trust(run: Run, params: CriticRetry, share: float | None) -> float | None:
    """Return the weight (0 to 1) of the critic's verdicts.

    None if they cannot affect the result, which a note explains except in the mode step_guided.
    """
    if params.mode == "step_guided":
        return None
    is_open, is_hard = run.task.kind == "open", params.filter == "hard"
    if share is not None and params.chains > 1 and share > params.decided:
        why = f"the vote share of {share:.2f} is above {params.decided}"
    elif not params.rounds and (share == 1 or (share is None and not (is_open and is_hard))):
        why = "verdicts could not change the vote"
    else:
        trust = 0.0 if is_hard else run.model("critic").trust(always=params.always_weigh)
        if is_hard or trust or (params.rounds and not is_open):
            return trust
        why = "verdicts would have no weight"
    run.note("verdicts", f"none requested: {why}")
    return None


def _report(
    run: Run,
    versions: Sequence[Version],
    source: Literal["tests"] | VerdictFormat,
    retries: Retries,
) -> None:
    right = sum(each.is_accepted for each in versions)
    wrong = sum(each.is_rejected for each in versions)
    run.note(
        "verdicts",
        f"{right} right, {wrong} wrong, {len(versions) - right - wrong} none, by {source}",
    )
    if retries.rounds:
        run.note(
            "retries",
            f"{retries.drawn} drawn, {retries.repeated} with an answer tried before, "
            f"{retries.lost_numbers} dropped for lost numbers",
        )

"""Let a critic weigh the vote over drafts, or have what it rejects tried again without the wrong attempt in sight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.api.registry import Params, Use, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Completion
from secondpass.strategies.refining.critics import Reading, criticised, reading_of, tested
from secondpass.strategies.refining.guided_steps import Guide, can_be_guided
from secondpass.strategies.refining.retries import Retries, is_to_be_retried
from secondpass.strategies.refining.versions import HOTTEST, Attempt, elected
from secondpass.strategies.voting.vote import Vote, count

Mode = Literal["filter_vote", "sequential", "parallel", "hybrid", "step_guided"]
RETRYING: tuple[Mode, ...] = ("sequential", "parallel", "hybrid")

VOTING: tuple[Mode, ...] = ("filter_vote", *RETRYING)


class CriticRetry(Params):
    """What the critic's verdicts do, how many drafts there are, and how often each is tried again."""

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
        description="filter_vote: verdicts weigh the vote; sequential: one chain of retries; parallel: one retry of each "
        "draft; hybrid: max_rounds of each; step_guided: a wrong step is drawn again",
    )
    n: int | None = Field(
        default=None, ge=1, le=64, description="drafts; default 4, and 1 for sequential"
    )
    width: int = Field(default=4, ge=1, le=64, description="drafts, or retries, at once at most")
    max_rounds: int | None = Field(
        default=None,
        ge=1,
        le=8,
        description="retries of a draft at most; default 2, and 1 for parallel",
    )
    temperature: float = Field(default=0.7, ge=0, le=2, description="of every draft and retry")
    schedule: bool = Field(
        default=False, description="each retry is 0.15 hotter than the one before it, up to 1.2"
    )
    verdict: Reading | Literal["auto"] = Field(
        default="auto",
        description="labels: the probability that a draft is right; text: a written critique; auto: labels where the "
        "critic's engine gives them",
    )
    filter: Literal["soft", "hard"] = Field(
        default="soft",
        description="soft: verdicts weigh votes; hard: what is called wrong has no vote, unless all is",
    )
    decided: float = Field(
        default=0.75, ge=0, le=1, description="no critic is asked above this vote share"
    )
    always_weigh: bool = Field(
        default=False,
        description="use verdicts even of a critic not calibrated, or with AUROC < 0.6",
    )
    reject_repeats: Literal["auto", "soft", "off"] = Field(
        default="auto",
        description="a retry with an answer that was tried; soft: weighs less; auto: is drawn again where tests rejected it",
    )
    redraws: int = Field(
        default=3, ge=1, le=16, description="step_guided: how often a step is drawn again at most"
    )
    without_prefix: Literal["error", "vote"] = Field(
        default="error", description="step_guided: what to do where the actor cannot go on a text"
    )

    @model_validator(mode="after")
    def _counts_fit_the_mode(self) -> Self:
        if self.mode == "sequential" and self.n not in (None, 1):
            raise ValueError(
                f"n: sequential is one chain, not {self.n}; choose 1, or mode 'hybrid'"
            )
        if self.mode == "parallel" and self.max_rounds not in (None, 1):
            raise ValueError(
                f"max_rounds: parallel has 1, not {self.max_rounds}; choose 1, or mode 'hybrid'"
            )
        return self

    @model_validator(mode="after")
    def _temperatures_make_sense(self) -> Self:
        if self.chains > 1 and self.temperature == 0:
            raise ValueError("temperature: 0 draws n equal drafts; choose one above 0, or n = 1")
        if self.schedule and self.temperature > HOTTEST:
            raise ValueError(
                f"schedule: it ends at {HOTTEST}; choose a temperature of at most that"
            )
        return self

    @property
    def chains(self) -> int:
        """Drafts that are begun."""
        return self.n or (1 if self.mode == "sequential" else 4)

    @property
    def rounds(self) -> int:
        """Retries of a draft at most."""
        if self.mode not in RETRYING:
            return 0
        return self.max_rounds or (1 if self.mode == "parallel" else 2)

    @property
    def retries(self) -> Retries:
        """What draws them."""
        return Retries(
            chains=self.chains,
            rounds=self.rounds,
            width=self.width,
            temperature=self.temperature,
            is_scheduled=self.schedule,
            weighs_repeats=self.reject_repeats != "off",
            drops_repeats=self.reject_repeats == "auto",
        )


@strategy("critic_retry", CriticRetry, paper="2507.15024", signal="critique", update="refine")
async def critic_retry(run: Run, params: CriticRetry) -> Candidate:
    """A critic's verdicts weigh the vote over drafts; in other modes what it rejects is tried again.

    Papers: RefCritic (arXiv 2507.15024: its filter is `filter: hard`), Critique-RL (2510.24320) and AutoMathCritique
    (2411.16579) for retries, Feedback Friction (2506.11930) for tried answers and the schedule, SPC (2504.19162) for
    steps. Ours: a critic not known to be any good weighs nothing; an answer that only one retry gives never wins unless a
    critic that counts calls it right; the wrong attempt is not shown.
    """
    reading, is_hard = reading_of(run, params.verdict), params.filter == "hard"
    vote, attempts = await _drafts(run, params)
    attempts = await run.map(lambda each: tested(run, each), attempts)
    is_tested = any(each.ruling is not None for each in attempts)
    trust = 1.0 if is_tested else _trust(run, params, vote.share)
    if trust is None:
        return run.best
    retries = params.retries
    for number in range(params.rounds + 1):
        is_last = number == params.rounds
        if not is_tested and (trust or is_hard or not is_last):
            attempts = await _ruled(run, attempts, reading, number, told=not is_last)
        run.elect(elected(attempts, trust=trust, is_hard=is_hard))
        if is_tested and any(each.is_accepted for each in attempts):
            run.stop_reason = "accepted"
            break
        if is_last or not any(map(is_to_be_retried, attempts)):
            break
        attempts = [*attempts, *await retries.of(run, attempts, number + 1)]
    _report(run, attempts, "tests" if is_tested else reading, retries)
    return run.best


async def _drafts(run: Run, params: CriticRetry) -> tuple[Vote, list[Attempt]]:
    """The plain vote, whose leader is elected as drafts come, and the drafts in the order of their chains."""
    vote = Vote(n=params.chains)
    found: list[Attempt] = []
    guide = _guide(run, params)

    async def draw(chain: int) -> Completion:
        if guide is not None:
            return await guide.write(run, chain)
        return await run.ask(SOLVE, index=chain, temperature=params.temperature)

    async with run.as_completed(draw, range(params.chains), width=params.width) as drafts:
        async for draft in drafts:
            candidate, ballot = await count(run, vote, draft)
            found.append(
                Attempt(chain=draft.index, completion=draft, candidate=candidate, ballot=ballot)
            )
    if guide is not None:
        run.note("steps", guide.report)
    return vote, sorted(found, key=lambda each: each.chain)


def _guide(run: Run, params: CriticRetry) -> Guide | None:
    """What checks the steps of drafts, in the mode that has them checked."""
    if params.mode != "step_guided":
        return None
    if not can_be_guided(run, falls_back=params.without_prefix == "vote"):
        return None
    return Guide(params.chains, params.redraws, params.temperature)


def _trust(run: Run, params: CriticRetry, share: float | None) -> float | None:
    """How far the critic's verdicts weigh; None, and a note, where nothing depends on them, as of steps that it checked."""
    if params.mode == "step_guided":
        return None
    is_open, is_hard = run.task.kind == "open", params.filter == "hard"
    if share is not None and params.chains > 1 and share > params.decided:
        why = f"a vote share of {share:.2f} is above {params.decided}"
    elif not params.rounds and (share == 1 or (share is None and not (is_open and is_hard))):
        why = "they could not change the vote"
    else:
        trust = 0.0 if is_hard else run.trust("critic", always=params.always_weigh)
        if is_hard or trust or (params.rounds and not is_open):
            return trust
        why = "they would weigh nothing"
    run.note("verdicts", f"none asked for: {why}")
    return None


async def _ruled(
    run: Run, attempts: Sequence[Attempt], reading: Reading, number: int, *, told: bool
) -> list[Attempt]:
    """The attempts, with what the critic says of those of round `number`."""
    messages = attempts[0].completion.messages

    async def rule(attempt: Attempt) -> Attempt:
        if attempt.round < number:
            return attempt
        return await criticised(run, attempt, messages, reading, told=told)

    return await run.map(rule, attempts)


def _report(
    run: Run, attempts: Sequence[Attempt], means: Literal["tests"] | Reading, retries: Retries
) -> None:
    right = sum(each.is_accepted for each in attempts)
    wrong = sum(each.is_rejected for each in attempts)
    run.note(
        "verdicts",
        f"{right} right, {wrong} wrong, {len(attempts) - right - wrong} none, by {means}",
    )
    if retries.rounds:
        run.note(
            "retries",
            f"{retries.drawn} drawn, {retries.repeated} with an answer tried before, "
            f"{retries.lost_numbers} dropped for lost numbers",
        )

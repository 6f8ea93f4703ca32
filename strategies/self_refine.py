"""Review and revise drafts; a revision counts only if something other than its review confirms it."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from secondpass.strategies.api.registry import Params, Use, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Draw
from secondpass.strategies.refining.revise import (
    draw_revision,
    format_issues,
    make_version,
    passes_gate,
    review,
)
from secondpass.strategies.refining.revision_chain import (
    FeedbackSource,
    Gate,
    History,
    RevisionChain,
    RevisionPlan,
)
from secondpass.strategies.refining.versions import is_same, winner

Stop = Literal["either", "verdict", "unchanged", "never"]


class SelfRefine(Params):
    """Number of drafts, feedback and history of revisions, and the gate that a revision must pass."""

    uses: ClassVar[tuple[Use, ...]] = (("rejected", {"gate": ("auto", "prefer", "draw", "tests")}),)

    n: int = Field(
        default=1, ge=1, le=64, description="drafts; with more than one, the answers vote"
    )
    width: int = Field(
        default=4, ge=1, le=64, description="maximum number of concurrent drafts; above n: as n"
    )
    max_rounds: int = Field(
        default=1, ge=1, le=8, description="maximum number of revisions per draft"
    )
    feedback: Literal["auto", "tests", "review", "neutral", "none"] = Field(
        default="auto",
        description="input of a revision; review: the critic's issues and verdict; tests: the output of the task's own "
        "tests; neutral: a turn stating that there may be an error; none: no feedback; auto: tests if the task has "
        "them, else review",
    )
    merged: bool = Field(
        default=False,
        description="review and revise in one call of the actor, without a verdict",
    )
    history: History | Literal["auto"] = Field(
        default="auto",
        description="what the revision prompt shows; last: the newest version and its findings; full: all versions and "
        "findings; feedback_only: findings and earlier answers, no version; auto: feedback_only for a review of a math "
        "or choice task unless the actor is a reasoning model, else last",
    )
    stop: Stop = Field(
        default="either",
        description="condition that ends the revisions before max_rounds; verdict: the review's verdict is ok; "
        "unchanged: the answer did not change; either: verdict or unchanged; never: neither",
    )
    gate: Gate | Literal["auto"] = Field(
        default="auto",
        description="what must accept a changed answer; tests: the task's own tests; vote: the answers of other "
        "drafts; prefer: the judge, in both orders; draw: an independent draft with the same answer; auto: tests if "
        "the task has them; prefer in open tasks; vote if n is above 1; prefer if the judge's calibration is useful; "
        "else draw",
    )
    rejected: Literal["stop", "go_on"] = Field(
        default="stop",
        description="after a rejected revision; stop: end; go_on: revise the rejected version further",
    )
    temperature: float = Field(
        default=0.7,
        ge=0,
        le=2,
        description="sampling temperature of drafts and revisions; 0 is an error unless n is 1",
    )

    @property
    def has_verdict(self) -> bool:
        """True if a review or tests can accept a version."""
        return self.feedback in ("auto", "review", "tests") and not self.merged

    @property
    def sequential_calls(self) -> int:
        """The draft, and for each round a review, a revision and its gate."""
        return 1 + 3 * self.max_rounds

    @property
    def may_test(self) -> bool:
        """True if the task's own tests are run, where it has any."""
        return self.feedback in ("auto", "tests") or self.gate in ("auto", "tests")

    @model_validator(mode="after")
    def _check_feedback(self) -> Self:
        if self.merged and self.feedback not in ("auto", "review"):
            raise ValueError(
                f"merged: feedback {self.feedback!r} has no review; choose false, or feedback 'review'"
            )
        how = "merged" if self.merged else f"feedback {self.feedback!r}"
        if self.history == "feedback_only" and not self.has_verdict:
            raise ValueError(
                f"history: 'feedback_only' needs a review or tests, not {how}; choose 'last' or 'full'"
            )
        if self.stop == "verdict" and not self.has_verdict:
            raise ValueError(
                f"stop: 'verdict' needs a review or tests, not {how}; choose 'unchanged', 'either' or 'never'"
            )
        return self

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.n > 1 and self.temperature == 0:
            raise ValueError(
                "temperature: 0 draws n equal drafts; choose a value above 0, or n = 1"
            )
        if self.n == 1 and self.gate == "vote":
            raise ValueError(
                "gate: 'vote' needs n of at least 2; choose 'auto', 'tests', 'prefer' or 'draw'"
            )
        if self.max_rounds == 1 and self.rejected == "go_on":
            raise ValueError("rejected: 'go_on' needs max_rounds of at least 2; choose 'stop'")
        return self


@strategy("self_refine", SelfRefine, paper="2303.17651", signal="critique", update="refine")
async def self_refine(run: Run, params: SelfRefine) -> Candidate:
    """Review and revise a draft; a revision replaces it only if it passes a gate.

    Papers: Self-Refine (arXiv 2303.17651). SELF (2310.00533), SCoRe (2409.12917) with its parallel drafts, and ExIt
    (2509.04575) are presets.

    Ours: the gate, so that the best version is returned instead of the last one; incorrect versions are left out of the
    prompt where the task can be solved without them; tests in place of a review.
    """
    chains: list[RevisionChain] = []
    work = partial(_revised_draft, run, params, chains)
    async with run.as_completed(work, range(params.n), width=params.width) as finished:
        async for chain in finished:
            if chain.best.is_accepted:
                run.stop_reason = "accepted"
                break
    if params.n > 1:
        changed = sum(chain.is_changed for chain in chains)
        run.note("changed", f"the answer changed within {changed} of {len(chains)} chains")
    return run.best


async def _revised_draft(
    run: Run, params: SelfRefine, chains: list[RevisionChain], index: int
) -> RevisionChain:
    """Generate a draft and its revisions; the chain is appended to `chains` once its draft exists."""
    completion = await run.ask(SOLVE, index=index, draw=Draw(temperature=params.temperature))
    run.propose(run.candidate(completion))  # before the tests, which are slow
    draft = await make_version(run, completion, index, 0, has_tests=params.may_test)
    plan = _plan(run, params, is_tested=draft.verdict is not None)
    chain = RevisionChain(plan, [draft], draft)
    chains.append(chain)
    _elect(run, params, chains)
    for number in range(1, params.max_rounds + 1):
        why = "the tests pass" if chain.best.is_accepted else None
        if why := why or await _round(run, params, chain, number):
            _note(run, params, "stopped", why)
            break
        _elect(run, params, chains)
    _elect(run, params, chains)
    return chain


def _elect(run: Run, params: SelfRefine, chains: list[RevisionChain]) -> None:
    """Elect a version accepted by tests, else the winner of the chains' vote, else the best version."""
    chains = sorted(chains, key=lambda chain: chain.best.chain)
    accepted = [chain.best for chain in chains if chain.best.is_accepted]
    votes = [vote for chain in chains if chain.plan.gate != "tests" for vote in chain.votes]
    if accepted:
        run.elect(accepted[0].candidate)
    elif params.n > 1 and votes:
        run.elect(winner(votes, trust=0.0))
    else:
        run.elect(chains[0].best.candidate)


async def _round(run: Run, params: SelfRefine, chain: RevisionChain, number: int) -> str | None:
    """Revise the newest version; returns the reason to stop, or None."""
    place = chain.versions[0].chain * params.max_rounds + number
    newest = chain.newest
    if why := await _add_findings(run, params, chain, place - 1):
        return why
    revise = partial(
        draw_revision, run, chain, has_tests=params.may_test, temperature=params.temperature
    )
    [revised] = await run.map(revise, [place], min_results=0)
    if revised is None:
        return "the revision failed"
    chain.versions.append(revised)
    if revised.is_accepted:
        chain.best = revised
        return "the tests pass"
    if is_same(revised, newest):
        return "unchanged answer" if params.stop in ("either", "unchanged") else None
    if chain.plan.gate == "vote" or is_same(revised, chain.best):
        return None
    return await _gated(run, params, chain, params.n + place - 1)


async def _gated(run: Run, params: SelfRefine, chain: RevisionChain, drawn: int) -> str | None:
    """Make the newest version the best if it passes the gate; returns the reason to stop, or None.

    `drawn` is the index of the independent draft that the gate `draw` samples.
    """
    gate, revised = chain.plan.gate, chain.newest
    ask = partial(passes_gate, run, gate, chain.best, revised, temperature=params.temperature)
    [is_better] = await run.map(ask, [drawn], failed=False, min_results=0)
    outcome = "accepted" if is_better else "rejected"
    _note(run, params, "gate", f"revision {revised.round} was {outcome}")
    if is_better:
        chain.best = revised
    elif params.rejected == "stop" and gate != "tests":
        return "a revision was rejected"
    return None


async def _add_findings(
    run: Run, params: SelfRefine, chain: RevisionChain, index: int
) -> str | None:
    """Add the findings on the newest version to the chain; returns the reason to stop, or None."""
    newest = chain.newest
    if chain.plan.feedback == "review":
        [found] = await run.map(partial(review, run, newest), [index], min_results=0)
        if found is None:
            return "no readable review"
        if found.verdict == "ok" and params.stop in ("either", "verdict"):
            return "the verdict of the review is ok"
        chain.findings.append(format_issues(run, found, newest))
    elif chain.plan.feedback == "tests":
        if newest.verdict is None:
            return "the tests could not be run"
        chain.findings.append("\n".join(newest.verdict.issues or ()) or "They did not pass.")
    return None


def _plan(run: Run, params: SelfRefine, *, is_tested: bool) -> RevisionPlan:
    """Resolve `auto` by the task and the models; notes report settings that could not be applied."""
    feedback = _feedback(run, params, is_tested=is_tested)
    history = params.history
    if history == "auto":
        is_short = run.task.kind in ("math", "choice") and not run.model().profile.is_thinking
        history = "feedback_only" if feedback == "review" and is_short else "last"
    gate = _gate(run, params, is_tested=is_tested)
    return RevisionPlan(feedback=feedback, history=history, gate=gate)


def _feedback(run: Run, params: SelfRefine, *, is_tested: bool) -> FeedbackSource:
    if params.feedback in ("neutral", "none"):
        return params.feedback
    if is_tested and params.feedback != "review":
        if params.merged:
            run.note("merged", "no effect: the tests are the feedback")
        return "tests"
    if params.feedback == "tests":
        run.note("feedback", "the task has no tests that can be run: a review is used")
    return "merged" if params.merged else "review"


def _gate(run: Run, params: SelfRefine, *, is_tested: bool) -> Gate:
    wanted = params.gate
    if wanted in ("draw", "vote") and run.task.kind == "open":
        run.note(f"gate {wanted}", "answers to an open task cannot be compared: the judge decides")
        return "prefer"
    if wanted == "tests" and not is_tested:
        run.note("gate tests", "the task has no tests that can be run: auto is used")
        wanted = "auto"
    if wanted != "auto":
        return wanted
    if is_tested:
        return "tests"
    if run.task.kind == "open":
        return "prefer"
    if params.n > 1:
        return "vote"
    return "prefer" if run.model("judge").trust() else "draw"


def _note(run: Run, params: SelfRefine, about: str, what: str) -> None:
    """Add a note if there is one chain; notes of several chains would overwrite each other."""
    if params.n == 1:
        run.note(about, what)

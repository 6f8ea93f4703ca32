"""Outcome of a run, derived from its events: answer, token accounting and timing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from secondpass.service.calls.budget import Budget
from secondpass.service.common.events import (
    CallFinished,
    CandidateRecorded,
    Event,
    NoteRecorded,
    VerdictRecorded,
)
from secondpass.service.common.limits import KINDS
from secondpass.strategies.api.values import (
    TRUNCATING,
    BudgetKind,
    Candidate,
    FinishReason,
    Role,
    StopReason,
)

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleUsage:
    """Usage record of one role.

    Attributes:
        calls: Requests to the engine, retries included.
        prompt: Prompt tokens, cached ones included.
        cached: Prompt tokens found in the prefix cache.
        completion: Completion tokens.
        wasted: Completion tokens that were delivered but not used.
        cost: Cost of the tokens, in the currency of the operator's prices.
        is_estimated: True if an engine did not report the usage of a call.
    """

    calls: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    wasted: int = 0
    cost: float = 0.0
    is_estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """Spending of one kind of budget, and its limit (None: unlimited).

    All are counts of tokens, calls or samples; for `cost`, amounts in the currency of the operator's prices.

    Attributes:
        withheld: Amount not spent, but counted towards the limit, because an engine did not report its tokens.
        overrun: Amount by which `spent` exceeds the limit, because an engine exceeded its cap.
    """

    limit: float | None
    spent: float
    withheld: float = 0.0
    overrun: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall time in milliseconds: in an engine, queued for one, and orchestration (neither).

    Time in a task's tests counts towards `total` only. Under uvloop the clock has a resolution of 1 ms, so that shorter
    times may be reported as 0.
    """

    total: float
    queue: float
    engine: float
    orchestration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Savings of an early stop: unfinished samples, and an estimate of their completion tokens."""

    samples: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Answer of a run, with its usage, timing and provenance.

    Attributes:
        candidate: The answer.
        usage: Usage by role; only roles that were called.
        budget: Limit and spending of each kind of budget.
        degraded: Number of failures by role: failed calls and unreadable replies; None without any.
        saved: Savings of an early stop by consensus; None without.
        notes: Last note on each subject.
        candidates: All candidates in order of first appearance.
    """

    candidate: Candidate
    stop_reason: StopReason
    usage: Mapping[Role, RoleUsage]
    budget: Mapping[BudgetKind, Spend]
    timing: Timing
    degraded: Mapping[Role, int] | None = None
    saved: Saved | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()

    @property
    def finish_reason(self) -> FinishReason:
        """Finish reason of the answer in OpenAI's terms: "length" for every truncated text."""
        reason = self.candidate.finish_reason
        return "length" if reason in TRUNCATING else reason

    @property
    def confidence(self) -> float | None:
        """Score of the answer if it lies between 0 and 1, else None."""
        score = self.candidate.score
        return score if score is not None and 0 <= score <= 1 else None

    @property
    def confidence_kind(self) -> str | None:
        """Kind of the confidence (`vote_share`, `judge_score`, `p_true`, ...), or None without one."""
        return self.candidate.score_kind if self.confidence is not None else None


def usage_by_role(events: Iterable[Event], wasted: Mapping[Role, int]) -> dict[Role, RoleUsage]:
    """Sum the usage of all calls that ended, by role.

    `wasted` is final only at the end of the run: until then, a later call may continue from delivered tokens.
    """
    totals: dict[Role, RoleUsage] = {}
    for event in events:
        if isinstance(event, CallFinished):
            subtotal = totals.get(event.role, RoleUsage())
            totals[event.role] = RoleUsage(
                calls=subtotal.calls + event.attempts,
                prompt=subtotal.prompt + event.usage.prompt,
                cached=subtotal.cached + event.usage.cached,
                completion=subtotal.completion + event.usage.completion,
                wasted=wasted.get(event.role, 0),
                cost=subtotal.cost + event.cost,
                is_estimated=subtotal.is_estimated or event.is_estimated,
            )
    return totals


def notes(events: Iterable[Event]) -> dict[str, str]:
    """Return the last note on each subject, and one on completions that repeated themselves."""
    events = list(events)
    found = {event.about: event.what for event in events if isinstance(event, NoteRecorded)}
    calls = [event for event in events if isinstance(event, CallFinished)]
    if count := sum(call.finish_reasons.count("repetition") for call in calls):
        found["repetition"] = f"{count} of the completions ended because they repeated themselves"
    return found


def spending(budget: Budget) -> dict[BudgetKind, Spend]:
    """Return limit and spending of each kind of budget."""
    return {
        kind: Spend(
            limit=float(budget.limit[kind]) if kind in budget.limit else None,
            spent=float(budget.spent[kind]),
            withheld=float(budget.withheld[kind]),
            overrun=float(budget.overrun(kind)),
        )
        for kind in KINDS
    }


def timing(events: Iterable[Event], total: float) -> Timing:
    """Break down `total` seconds. Engine time is the time in which at least one call was in an engine."""
    events = list(events)
    calls = [e for e in events if isinstance(e, CallFinished)]
    tests = [
        (e.at - e.seconds, e.at) for e in events if isinstance(e, VerdictRecorded) and e.seconds
    ]
    engine = _covered((e.at - e.seconds, e.at) for e in calls)
    waited = [(e.at - e.seconds - e.queued, e.at) for e in calls]
    either = _covered(waited)
    return Timing(
        total=total * 1e3,
        queue=(either - engine) * 1e3,
        engine=engine * 1e3,
        orchestration=max(0.0, total - _covered([*waited, *tests])) * 1e3,
    )


def saved(events: Iterable[Event], skipped: int) -> Saved | None:
    """Estimate the savings of `skipped` samples, at the mean length of finished ones.

    The tokens of cancelled calls are subtracted.
    """
    if not skipped:
        return None
    calls = [e for e in events if isinstance(e, CallFinished)]
    finished = [e for e in calls if e.end == "finished"]
    samples = sum(len(e.texts) for e in finished)
    mean = sum(e.usage.completion for e in finished) / samples if samples else 0.0
    already_spent = sum(e.usage.completion for e in calls if e.end == "cancelled")
    return Saved(samples=skipped, tokens=max(0, round(skipped * mean) - already_spent))


def candidates(events: Iterable[Event], best: Candidate) -> tuple[Candidate, ...]:
    """Return all candidates in order of first appearance, each as last reported.

    `best` replaces the last report of that candidate.
    """
    seen = [event.candidate for event in events if isinstance(event, CandidateRecorded)]
    return tuple({(each.index, each.text): each for each in (*seen, best)}.values())


def _covered(intervals: Iterable[Interval]) -> float:
    """Return the total length of the union of intervals."""
    length, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        length += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return length

"""What a run came to, read from its events: the answer, the bill, and where the time went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from secondpass.service.calls.budget import Budget
from secondpass.service.common.events import (
    CallFinished,
    CandidateSeen,
    Event,
    NoteMade,
    VerdictSeen,
)
from secondpass.service.common.limits import KINDS
from secondpass.strategies.api.values import BudgetKind, Candidate, Role, StopReason

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleBill:
    """What the calls of one role used. Tokens; `wasted` completion tokens were delivered and not used.

    `is_estimated` when an engine did not say what a cancelled call used.
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
    """One kind of budget: what was spent, and its limit (None: no limit)."""

    limit: float | None
    spent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds of wall time: in an engine, waiting for one, and neither of the two (ours).

    The time of a task's tests is in the total alone. The event loop's clock counts whole milliseconds under uvloop: what takes less may show as 0.
    """

    total: float
    queue: float
    engine: float
    orchestration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What stopping early saved: samples that were never finished, and an estimate of their tokens."""

    samples: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer of a run and everything there is to say about how it came to be."""

    candidate: Candidate
    stop_reason: StopReason
    usage: Mapping[Role, RoleBill]
    budget: Mapping[BudgetKind, Spend]
    timing: Timing
    degraded: Mapping[Role, int] | None = None
    saved: Saved | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()

    @property
    def confidence(self) -> float | None:
        """The score of the answer where it can be read as a confidence (0 to 1); never made up."""
        score = self.candidate.score
        return score if score is not None and 0 <= score <= 1 else None

    @property
    def confidence_kind(self) -> str | None:
        """What the confidence is: vote_share, judge_score, p_true, ..."""
        return self.candidate.score_kind if self.confidence is not None else None


def bill(events: Iterable[Event], wasted: Mapping[Role, int]) -> dict[Role, RoleBill]:
    """What the finished calls used, by role; `wasted` is known only once it is clear what later calls continued from."""
    totals: dict[Role, RoleBill] = {}
    for event in events:
        if isinstance(event, CallFinished):
            so_far = totals.get(event.role, RoleBill())
            totals[event.role] = RoleBill(
                calls=so_far.calls + event.attempts,
                prompt=so_far.prompt + event.usage.prompt,
                cached=so_far.cached + event.usage.cached,
                completion=so_far.completion + event.usage.completion,
                wasted=wasted.get(event.role, 0),
                cost=so_far.cost + event.cost,
                is_estimated=so_far.is_estimated or event.is_estimated,
            )
    return totals


def notes(events: Iterable[Event]) -> dict[str, str]:
    """What there is to know of how the answer came about: about what, and the last word on it."""
    return {event.about: event.what for event in events if isinstance(event, NoteMade)}


def spending(budget: Budget) -> dict[BudgetKind, Spend]:
    """The books of the budget, kind by kind."""
    return {
        kind: Spend(
            limit=float(budget.limit[kind]) if kind in budget.limit else None,
            spent=float(budget.spent[kind]),
        )
        for kind in KINDS
    }


def timing(events: Iterable[Event], total: float) -> Timing:
    """Where `total` seconds went. Time in an engine is time in which at least one call was there."""
    events = list(events)
    calls = [e for e in events if isinstance(e, CallFinished)]
    tests = [(e.at - e.seconds, e.at) for e in events if isinstance(e, VerdictSeen) and e.seconds]
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
    """What `skipped` samples would have taken at the mean length of the finished ones, less what they took."""
    if not skipped:
        return None
    calls = [e for e in events if isinstance(e, CallFinished)]
    finished = [e for e in calls if e.end == "finished"]
    samples = sum(len(e.texts) for e in finished)
    mean = sum(e.usage.completion for e in finished) / samples if samples else 0.0
    begun = sum(e.usage.completion for e in calls if e.end == "cancelled")
    return Saved(samples=skipped, tokens=max(0, round(skipped * mean) - begun))


def candidates(events: Iterable[Event], best: Candidate) -> tuple[Candidate, ...]:
    """Every candidate there was, in order, each as it was last seen; `best` as it ended."""
    seen = [event.candidate for event in events if isinstance(event, CandidateSeen)]
    return tuple({(each.index, each.text): each for each in (*seen, best)}.values())


def _covered(intervals: Iterable[Interval]) -> float:
    """The length of the union of intervals."""
    length, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        length += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return length

"""Event trace of a run: an append-only list of typed events.

Streams, metrics, traces and tests all subscribe to this list; nothing else reports the progress of a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from secondpass.strategies.api.judgements import ReadingMethod
from secondpass.strategies.api.values import (
    Candidate,
    FinishReason,
    LabelDistribution,
    Message,
    Role,
    StopReason,
    Usage,
)

CallEnd = Literal["finished", "truncated", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base class of all events. `type` is the wire name, `at` the seconds since the start of the run."""

    type: ClassVar[str]
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """The run started, with its resolved strategy, parameters and models."""

    type: ClassVar[str] = "run.started"
    id: str
    strategy: str
    params: Mapping[str, Any]
    models: Mapping[Role, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(Event):
    """An attempt of a call has its lease and is about to be sent.

    `call` and `first_attempt` are as in `CallFinished`.
    """

    type: ClassVar[str] = "call.started"
    call: int
    first_attempt: int = 0
    role: Role
    purpose: str
    index: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDelta(Event):
    """Text of a call as it is delivered. Emitted only if `Trace.keeps_deltas` is set."""

    type: ClassVar[str] = "call.delta"
    call: int
    index: int
    text: str
    reasoning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished(Event):
    """Usage record of one attempt, emitted on every exit path.

    Attributes:
        call: Number of the attempt within the run, from 0.
        first_attempt: `call` of the first attempt of the same call; all its attempts have this number.
        usage: Tokens charged.
        attempts: Engine requests sent: 1, or 0 if the attempt ended while it was queued.
        attempt: Number of the attempt within its call, from 1.
        retried: Another attempt follows.
        wasted: Completion tokens that are unused so far; a later call may still use them.
        overrun: Tokens of `usage` for which no limit of the budget had room.
        withheld: Completion tokens that the engine may have generated beyond an estimated usage. They are not charged.
        is_estimated: The engine did not report the usage. `usage` is an upper bound of the prompt, or an estimate of the
            delivered tokens.
        queued: Seconds of waiting for admission.
        seconds: Seconds in the engine.
        texts: Generated text of each completion, without reasoning.
        messages: The conversation that the call replied to.
    """

    type: ClassVar[str] = "call.finished"
    call: int
    role: Role
    purpose: str
    index: int
    end: CallEnd
    usage: Usage
    attempts: int = 1
    attempt: int = 1
    first_attempt: int = 0
    retried: bool = False
    wasted: int = 0
    overrun: int = 0
    withheld: int = 0
    is_estimated: bool = False
    cost: float = 0.0
    queued: float = 0.0
    seconds: float = 0.0
    texts: tuple[str, ...] = ()
    finish_reasons: tuple[FinishReason | None, ...] = ()
    labels: LabelDistribution | None = None
    reward: float | None = None
    error: str | None = None
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRecorded(Event):
    """A new candidate, or the new leader (`is_best`)."""

    type: ClassVar[str] = "candidate"
    candidate: Candidate
    is_best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecorded(Event):
    """Judgement of a candidate or draft by a judge, a critic, a reward model or the task's tests.

    Attributes:
        verdict: The chosen label, or the status of the tests.
        how: Method by which the verdict was obtained.
        labels: Label probabilities.
        reply: Parsed fields of a structured reply.
        reward: Score of a reward model.
        error: Reason why the reply was unreadable.
        seconds: Duration of the tests.
    """

    type: ClassVar[str] = "verdict"
    role: Role | Literal["verifier"]
    purpose: str
    verdict: str | None = None
    how: ReadingMethod | None = None
    labels: LabelDistribution | None = None
    reply: Mapping[str, Any] | None = None
    reward: float | None = None
    error: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRecorded(Event):
    """A note on how the answer was produced. A later note replaces an earlier one with the same `about`."""

    type: ClassVar[str] = "note"
    about: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDelta(Event):
    """Final text of the answer; later events do not revise it."""

    type: ClassVar[str] = "answer.delta"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The run finished with an outcome. `wasted` contains the unused completion tokens by role."""

    type: ClassVar[str] = "run.finished"
    stop_reason: StopReason
    seconds: float
    overhead: float
    wasted: Mapping[Role, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    """The run failed without an answer. `reason` is the error type; `wasted` is as in `RunFinished`."""

    type: ClassVar[str] = "error"
    reason: str
    seconds: float
    overhead: float
    wasted: Mapping[Role, int] = field(default_factory=dict)


Subscriber = Callable[[Event], None]


class Trace:
    """Event list of a run, which notifies subscribers of each appended event.

    CallDelta events are emitted only with `keeps_deltas`: at a GPU's token rate they would overload the event loop.
    """

    def __init__(self, *subscribers: Subscriber, keeps_deltas: bool = False) -> None:
        self.events: list[Event] = []
        self.keeps_deltas = keeps_deltas
        self._subscribers = list(subscribers)
        self._started_at = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self._started_at

    def subscribe(self, subscriber: Subscriber) -> None:
        """Pass all past events to `subscriber`, then each new one."""
        for event in self.events:
            subscriber(event)
        self._subscribers.append(subscriber)

    def emit(self, event: Event) -> None:
        """Append the event and notify all subscribers."""
        self.events.append(event)
        for subscriber in self._subscribers:
            subscriber(event)

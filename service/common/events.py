"""What happened in a run, as an append-only list of typed events that everyone reads.

Streams, metrics, traces and tests all subscribe to the one list; nothing else reports what a run does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from secondpass.strategies.api.judgements import How
from secondpass.strategies.api.values import (
    Candidate,
    FinishReason,
    LabelRead,
    Message,
    Role,
    StopReason,
    Usage,
)

CallEnd = Literal["finished", "truncated", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all events; `type` is the name on the wire, `at` is seconds since the run began."""

    type: ClassVar[str]
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """The run as it was resolved: what will be done, and with which models."""

    type: ClassVar[str] = "run.started"
    id: str
    strategy: str
    params: Mapping[str, Any]
    models: Mapping[Role, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(Event):
    """An engine request is about to be sent (and has its lease)."""

    type: ClassVar[str] = "call.started"
    call: int
    role: Role
    purpose: str
    index: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDelta(Event):
    """Tokens of a call; only recorded where the trace is full and somebody listens."""

    type: ClassVar[str] = "call.delta"
    call: int
    index: int
    text: str
    reasoning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished(Event):
    """An engine request ended, however it ended, and this is its bill.

    `wasted` are completion tokens that nothing uses by then; a later call may. `is_estimated` says that the engine never
    reported what the call used, so what it may have used at most was charged. `queued` and `seconds` are its wait for
    admission and its time in the engine. `texts` are what it wrote, one for each completion, in reply to `messages`. `attempts` are engine
    requests: 0 for a call that ended while it was queued. `attempt` is the number of this attempt within its call, from 1,
    and `retried` says that another one follows.
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
    retried: bool = False
    wasted: int = 0
    is_estimated: bool = False
    cost: float = 0.0
    queued: float = 0.0
    seconds: float = 0.0
    texts: tuple[str, ...] = ()
    finish_reasons: tuple[FinishReason | None, ...] = ()
    labels: LabelRead | None = None
    reward: float | None = None
    error: str | None = None
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSeen(Event):
    """A candidate there is, or one that leads from now on (`is_best`)."""

    type: ClassVar[str] = "candidate"
    candidate: Candidate
    is_best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictSeen(Event):
    """What a judge, a critic or the task's tests said of a candidate or of a draft, in as far as they said it.

    The label that was chosen, and `how` that was read; the probabilities of the labels; its whole `reply`, field by
    field; a reward; or the `error` why nothing could be read. The tests' verdict is how they ended, and `seconds` how
    long they took.
    """

    type: ClassVar[str] = "verdict"
    role: Role | Literal["verifier"]
    purpose: str
    verdict: str | None = None
    how: How | None = None
    labels: LabelRead | None = None
    reply: Mapping[str, Any] | None = None
    reward: float | None = None
    error: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteMade(Event):
    """Something to know of how the answer came about; the last word on a thing stands."""

    type: ClassVar[str] = "note"
    about: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDelta(Event):
    """Text of the answer: nothing later overrules it."""

    type: ClassVar[str] = "answer.delta"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The run has an outcome. `wasted` are completion tokens by role that nothing used."""

    type: ClassVar[str] = "run.finished"
    stop_reason: StopReason
    seconds: float
    overhead: float
    wasted: Mapping[Role, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    """The run has no answer; `reason` is the error's type, `wasted` as in `RunFinished`."""

    type: ClassVar[str] = "error"
    reason: str
    seconds: float
    overhead: float
    wasted: Mapping[Role, int] = field(default_factory=dict)


Subscriber = Callable[[Event], None]


class Trace:
    """The list itself, and its subscribers, who are told of each event as it is appended.

    `keeps_deltas` says whether CallDelta events are wanted: at a GPU's rate they would flood the loop.
    """

    def __init__(self, *subscribers: Subscriber, keeps_deltas: bool = False) -> None:
        self.events: list[Event] = []
        self.keeps_deltas = keeps_deltas
        self._subscribers = list(subscribers)
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell `subscriber` of every event so far, then of every later one."""
        for event in self.events:
            subscriber(event)
        self._subscribers.append(subscriber)

    def emit(self, event: Event) -> None:
        """Append the event and tell every subscriber."""
        self.events.append(event)
        for subscriber in self._subscribers:
            subscriber(event)

"""What the routes answer, as types: for the OpenAPI document, and for the tests, which hold every reply against them.

The replies themselves are written from events and outcomes (`render`): building models first would cost each of them time.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from secondpass.service.common.events import CallEnd
from secondpass.service.runs.outcome import Saved, Timing
from secondpass.strategies.answers.task import Kind
from secondpass.strategies.api.judgements import How
from secondpass.strategies.api.registry import Signal, Update
from secondpass.strategies.api.values import (
    Candidate,
    Capability,
    FinishReason,
    LabelRead,
    Message,
    Role,
    StopReason,
    Usage,
)

Limit = Literal[
    "max_tokens", "max_prompt_tokens", "max_calls", "max_samples", "max_cost", "deadline_ms"
]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Bill(_Reply):
    """What the calls of one role used, in tokens; `estimated` where an engine did not say it of a cancelled call."""

    calls: int
    prompt: int
    cached: int = Field(description="the part of prompt that was found in the prefix cache")
    completion: int
    wasted: int = Field(description="the part of completion that nothing used")
    cost: float
    estimated: bool


class Books(_Reply):
    """One kind of budget; a limit of null is none."""

    limit: float | None
    spent: float


class ResolvedTask(_Reply):
    """How answers were extracted and compared."""

    kind: Kind
    options: list[str] = []
    tests: str | None = None
    guessed: bool = Field(description="the request did not say it")


class CallEntry(_Reply):
    """A call that ended; `texts` and `messages` are there with a full trace."""

    type: Literal["call.finished"]
    at: float = Field(description="seconds since the run began")
    call: int
    role: Role
    purpose: str
    index: int
    end: CallEnd
    usage: Usage
    attempts: int
    attempt: int = Field(description="number of the attempt within its call, from 1")
    retried: bool = Field(description="another attempt followed")
    wasted: int
    cost: float
    queued: float
    seconds: float
    texts: list[str] = []
    finish_reasons: list[FinishReason | None]
    labels: LabelRead | None
    reward: float | None
    error: str | None
    messages: list[Message] = []
    estimated: bool


class VerdictEntry(_Reply):
    """What a judge, a critic or the task's tests said."""

    type: Literal["verdict"]
    at: float
    role: Role | Literal["verifier"]
    purpose: str
    verdict: str | None
    how: How | None
    labels: LabelRead | None
    reply: dict[str, Any] | None
    reward: float | None
    error: str | None
    seconds: float | None


class Report(_Reply):
    """Everything about a run but its text."""

    strategy: str
    params: dict[str, Any]
    models: dict[Role, str]
    task: ResolvedTask
    answer: str | None = Field(description="what was extracted from the text")
    confidence: float | None = Field(description="0 to 1; never made up")
    confidence_kind: str | None = Field(description="vote_share, judge_score, p_true, ...")
    finish_reason: FinishReason
    stop_reason: StopReason
    degraded: dict[Role, int] | None = Field(
        description="failed calls and unreadable replies that the run survived, by role"
    )
    saved: Saved | None = Field(description="what a vote that was decided early did not draw")
    notes: dict[str, str]
    usage: dict[Role, Bill]
    budget: dict[Limit, Books]
    timing: Timing = Field(description="milliseconds")
    candidates: list[Candidate] = Field(default=[], description="with a trace")
    trace: list[CallEntry | VerdictEntry] = Field(default=[], description="with a trace")


class Answer(Report):
    """The answer to a question, and how it came about."""

    id: str
    created: int
    text: str


class Problem(BaseModel):
    """RFC 9457 problem details; `field` names the culprit where there is one.

    `usage` and `budget` tell what a run without an answer spent, and `role` whose engine failed.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str = Field(default="", description="absent where no field is to blame")
    role: Role | None = None
    usage: dict[Role, Bill] = {}
    budget: dict[Limit, Books] = {}


class OpenAIProblem(BaseModel):
    """What is wrong; `param` names the culprit where there is one."""

    message: str
    type: str
    param: str | None
    code: str
    secondpass: dict[str, Any] = Field(default={}, description="the bill of a run without answer")


class OpenAIError(_Reply):
    """OpenAI's error object."""

    error: OpenAIProblem


class ChatCompletion(BaseModel):
    """OpenAI's chat completion; `secondpass` is there where a strategy answered."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any]
    secondpass: Report | None = None


class ModelCard(_Reply):
    """A model, or a model with a strategy behind an @."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int = Field(default=0, description="absent where the engine does not tell it")


class ModelList(_Reply):
    """Every name that POST /v1/chat/completions takes as a model."""

    object: Literal["list"]
    data: list[ModelCard]


class StrategyCard(_Reply):
    """A strategy; `params` is the JSON schema of its parameters."""

    name: str
    summary: str
    paper: str | None = Field(description="arXiv id")
    signal: Signal
    update: Update
    needs: list[Capability]
    streams: bool
    params: dict[str, Any]


class StrategyList(_Reply):
    """Every strategy, and which are taken where a request names none."""

    default: str
    default_open: str
    strategies: list[StrategyCard]


class Readiness(_Reply):
    """Whether the service takes work, and why not."""

    ready: bool
    reasons: list[str]

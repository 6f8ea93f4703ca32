"""Response models of the routes, for the OpenAPI document and for tests.

Responses are rendered from events and outcomes (`render`) without building these models, which would take time.
The tests validate each kind of response against its model.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from secondpass.service.common.events import CallEnd
from secondpass.service.runs.outcome import Saved, Timing
from secondpass.strategies.answers.task import Kind
from secondpass.strategies.api.judgements import ReadingMethod
from secondpass.strategies.api.registry import Signal, Update
from secondpass.strategies.api.values import (
    Candidate,
    Capability,
    FinishReason,
    LabelDistribution,
    Message,
    Role,
    StopReason,
    Usage,
)

Limit = Literal[
    "max_tokens", "max_prompt_tokens", "max_calls", "max_samples", "max_cost", "deadline_ms"
]


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UsageRecord(_Response):
    """Usage of one role, in tokens.

    `estimated` is true if an engine did not report the usage of a call.
    """

    calls: int
    prompt: int
    cached: int = Field(description="prompt tokens found in the prefix cache")
    completion: int
    wasted: int = Field(description="completion tokens that were delivered and not used")
    cost: float
    estimated: bool


class BudgetUsage(_Response):
    """Limit and spent amount of one kind of budget. A null limit means unlimited."""

    limit: float | None
    spent: float
    withheld: float = Field(
        default=0,
        description="amount that counts towards the limit, but not as spent: an engine did not report its tokens; "
        "absent if 0",
    )
    overrun: float = Field(
        default=0,
        description="amount by which `spent` exceeds the limit: an engine generated more than requested; absent if 0",
    )


class ResolvedTask(_Response):
    """The task that defines how answers are extracted and compared."""

    kind: Kind
    options: list[str] = []
    tests: str | None = None
    guessed: bool = Field(description="true if the request did not specify the task")


class CallEntry(_Response):
    """A terminated attempt of a call. `texts` and `messages` require a full trace."""

    type: Literal["call.finished"]
    at: float = Field(description="seconds since the run started")
    call: int
    role: Role
    purpose: str
    index: int
    end: CallEnd
    usage: Usage
    attempts: int
    attempt: int = Field(description="number of the attempt within its call, from 1")
    first_attempt: int = Field(description="`call` of the first attempt of the same call")
    retried: bool = Field(description="true if another attempt followed")
    wasted: int
    overrun: int = Field(description="tokens of `usage` for which the budget had no room")
    withheld: int = Field(
        description="completion tokens that the engine may have generated beyond an estimated `usage`"
    )
    cost: float
    queued: float
    seconds: float
    texts: list[str] = []
    finish_reasons: list[FinishReason | None]
    labels: LabelDistribution | None
    reward: float | None
    error: str | None
    messages: list[Message] = []
    estimated: bool


class VerdictEntry(_Response):
    """Result of a judge, a critic, a reward model or the task's tests."""

    type: Literal["verdict"]
    at: float
    role: Role | Literal["verifier"]
    purpose: str
    verdict: str | None
    how: ReadingMethod | None
    labels: LabelDistribution | None
    reply: dict[str, Any] | None
    reward: float | None
    error: str | None
    seconds: float | None


class RunReport(_Response):
    """Report of a run: everything except its text."""

    strategy: str
    params: dict[str, Any]
    models: dict[Role, str]
    task: ResolvedTask
    answer: str | None = Field(description="answer extracted from the text")
    confidence: float | None = Field(
        description="score of the answer if it is in 0 to 1, otherwise null"
    )
    confidence_kind: str | None = Field(
        description="kind of the confidence: vote_share, judge_score, p_true, tests, ..."
    )
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    stop_reason: StopReason
    degraded: dict[Role, int] | None = Field(
        description="failed calls and unreadable replies that did not end the run, by role"
    )
    saved: Saved | None = Field(description="samples and tokens that an early consensus saved")
    notes: dict[str, str]
    usage: dict[Role, UsageRecord]
    budget: dict[Limit, BudgetUsage]
    timing: Timing = Field(description="milliseconds")
    candidates: list[Candidate] = Field(default=[], description="only with a trace")
    trace: list[CallEntry | VerdictEntry] = Field(default=[], description="only with a trace")


class Answer(RunReport):
    """The answer to a question: its text and the report of the run."""

    id: str
    created: int
    text: str


class Problem(BaseModel):
    """RFC 9457 problem details.

    `field` names the invalid field, and `role` is the role whose engine failed. `usage` and `budget` report what a run
    without an answer spent.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str = Field(default="", description="invalid field; absent for other errors")
    role: Role | None = None
    usage: dict[Role, UsageRecord] = {}
    budget: dict[Limit, BudgetUsage] = {}


class OpenAIErrorDetails(BaseModel):
    """Details of an error. `param` names the invalid field."""

    message: str
    type: str
    param: str | None
    code: str
    secondpass: dict[str, Any] = Field(
        default={}, description="usage and budget of a run without an answer"
    )


class OpenAIError(_Response):
    """OpenAI's error object."""

    error: OpenAIErrorDetails


class ChatCompletion(BaseModel):
    """OpenAI's chat completion, with the report in `secondpass` if a strategy answered."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any]
    secondpass: RunReport | None = None


class ModelCard(_Response):
    """A model, or a model with a strategy after the @."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int = Field(
        default=0, description="context window in tokens; absent if the engine does not report it"
    )


class ModelList(_Response):
    """Every model; those that generate text also with each strategy."""

    object: Literal["list"]
    data: list[ModelCard]


class StrategyCard(_Response):
    """A strategy. `params` is the JSON schema of its parameters."""

    name: str
    summary: str
    paper: str | None = Field(description="arXiv id")
    signal: Signal
    update: Update
    needs: list[Capability]
    streams: bool
    params: dict[str, Any]


class StrategyList(_Response):
    """Every strategy, and the defaults of requests that do not choose one."""

    default: str
    default_open: str
    strategies: list[StrategyCard]


class Readiness(_Response):
    """Readiness of the service, with the reasons if it is not ready."""

    ready: bool
    reasons: list[str]

"""The vocabulary every other module speaks: values that travel, and the two protocols they travel between.

A strategy sees a `Run` and nothing else; a run sees an `Engine` and nothing else. Everything in between is a
frozen value, so that it can be logged, hashed and replayed.

The error tree (all of it can be raised through `Run`; a strategy need not catch any of it)::

    SecondpassError
    ├── EngineError                 a call failed; `role` and `engine` say where
    │   ├── EngineUnavailable       no connection, 5xx, 429: another attempt may work
    │   ├── StreamCut               the stream ended without a finish reason: another attempt may work
    │   ├── CallRejected            the engine refused the call itself: the same call fails again
    │   └── RoleFailed              a role that the request insists on: no answer so far makes up for it
    ├── CapabilityMissing           the engine cannot do what the call needs
    ├── RoleMissing                 no engine plays the role that the call is for
    ├── BudgetExhausted             the call does not fit what is left of the budget; `kind` says which limit
    ├── UnusableCompletion          a completion that cannot serve: empty, or cut before it answered
    │   └── DegenerateCandidate     nothing to judge: empty, only punctuation, or one thing over and over
    └── VerdictUnreadable           a judge's reply that cannot be parsed (never read as a zero)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from secondpass.strategies.calibration import GradeKind, Measured
from secondpass.strategies.judgements import Judgement, Preference
from secondpass.strategies.profiles import Profile
from secondpass.strategies.quoting import Value
from secondpass.strategies.tasks import Task

Role = Literal["actor", "critic", "judge", "reward"]
Capability = Literal[
    "prefix",
    "labels",
    "tokenize",
    "schema",
    "logprobs",
    "seed",
    "token_counts",
    "reward",
    "text",
]
"""`text` is only ever missing: every engine writes, but for one that only scores."""

BudgetKind = Literal["tokens", "prompt_tokens", "calls", "samples", "cost"]
StopReason = Literal[
    "finished",
    "accepted",
    "consensus",
    "budget_tokens",
    "budget_prompt_tokens",
    "budget_calls",
    "budget_samples",
    "budget_cost",
    "deadline",
    "draining",
    "cancelled",
]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)

Piece: TypeAlias = int | str
"""A token id, or a text between tokens, which the engine makes tokens of by itself."""

SOLVE = "solve"
"""The prompt name that stands for the client's own messages, sent verbatim."""


# -- what is said -----------------------------------------------------------------------------------


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextPart(_Value):
    """A piece of text inside a message with several parts."""

    type: Literal["text"]
    text: str


class ImageURL(_Value):
    """Where an image is: a `data:` URL or an address that the engine may fetch."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Value):
    """An image inside a user message."""

    type: Literal["image_url"]
    image_url: ImageURL


class FunctionCall(_Value):
    """The function that a model asked to call; `arguments` is JSON text as the model wrote it."""

    name: str
    arguments: str


class ToolCall(_Value):
    """One tool call of an assistant turn."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Value):
    """One turn of a conversation, in OpenAI's shape."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[ContentPart, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text of the turn; images are left out."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if isinstance(part, TextPart))


class Sampling(_Value):
    """How an engine draws tokens. `None` leaves a value to the engine's own default."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, lt=2**31)
    min_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**62)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        default=None, max_length=16
    )
    max_tokens: int | None = Field(default=None, ge=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=2)


# -- what is asked of an engine ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to an engine. A value: equal calls are the same request.

    `prefix` is what the assistant turn already holds: token ids, and texts among them, each of which is made tokens of
    alone; or one text, for engines without tokens. `resumable` says that the completion may be gone on with from any of
    its places: its deltas are told token by token, and one that is cut inside its thoughts serves as well.
    `labels`, when given, asks for the probability of each label as the first token instead of for text. `reward` asks
    for one number instead: how good the conversation's last turn is, which is an assistant's; nothing is written.
    `index` is the position of the first of the `n` completions among its siblings. `visible` says that
    somebody acts on the deltas as they come (the client reads them, say), so that none can be taken back. `stream_interval` is how many tokens may be gathered in a delta.
    `traceparent` is the W3C trace context of the request that the call serves.
    """

    role: Role
    purpose: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    n: int = 1
    index: int = 0
    prefix: tuple[Piece, ...] | str | None = None
    labels: tuple[str, ...] = ()
    reward: bool = False
    schema: str | None = None
    logprobs: int | None = None
    thinking: bool | None = None
    resumable: bool = False
    visible: bool = False
    stream_interval: int = 1
    session: str | None = None
    cache_salt: str | None = None
    traceparent: str | None = None

    @property
    def needs(self) -> frozenset[Capability]:
        """The capabilities without which an engine cannot serve this call."""
        wanted: dict[Capability, bool] = {
            "prefix": self.prefix is not None,
            "labels": bool(self.labels),
            "reward": self.reward,
            "schema": self.schema is not None,
            "logprobs": self.logprobs is not None,
        }
        return frozenset(name for name, is_needed in wanted.items() if is_needed)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over everything that decides the reply; who asked, and how it is delivered, is not."""
        value = asdict(self) | {
            "messages": [message.model_dump(exclude_none=True) for message in self.messages],
            "sampling": self.sampling.model_dump(exclude_none=True),
        }
        delivery = ("visible", "stream_interval", "resumable")
        for name in ("session", "cache_salt", "traceparent", *delivery):
            del value[name]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls. `cached` is the part of `prompt` that was found in the prefix cache."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.completion + other.completion,
        )


@dataclass(frozen=True, slots=True)
class Delta:
    """What an engine has to say next about one of the `n` completions of a call.

    `tokens` counts the completion tokens in this delta (0 from engines that count only at the end). `usage` is
    the total of the whole call up to here, whenever the engine states it; the last one stands. `labels` maps each
    label to its probability; `reward` is the score of a reward call. `notice` is not from the engine but from a
    wrapper around it: the call is `queued` for admission, or was `admitted` after `waited` seconds; or the attempt so
    far is void and the call is `retried` from its start; or it is `resumed` from the tokens that were already
    delivered.

    With `Call.logprobs` = k > 0 there is a log probability and a confidence for each token of the delta. A token's
    confidence is minus the mean log probability (natural) of the k most probable tokens at its place, whichever was
    drawn: 0 or more, and the larger the surer (arXiv 2508.15260). With k = 0 there are log probabilities only.
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    tokens: int = 0
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    labels: Mapping[str, float] | None = None
    logprobs: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()
    notice: Literal["queued", "admitted", "retried", "resumed"] | None = None
    waited: float = 0.0
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """An OpenAI request to hand on untouched: `path` below /v1, the raw JSON `body`, and its `headers`."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PlainReply:
    """The untouched reply: `chunks` must be iterated within the block that `forward` opened."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: AsyncIterator[bytes]


class Engine(Protocol):
    """Where completions come from. Wrappers (admission, retries) have the same shape, so they stack.

    `model` is the name that the engine serves. `capabilities` is empty, and `ready` false, until the engine has
    answered; `context_window` is the most tokens that prompt and completion may hold together (None: unknown).
    """

    name: str
    model: str

    @property
    def ready(self) -> bool: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def context_window(self) -> int | None: ...

    async def start(self) -> None:
        """Find out what the engine can do. May be called again until `ready`; never raises EngineError."""

    async def aclose(self) -> None:
        """Free everything the engine holds."""

    def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Yield deltas until each of the `n` completions has its finish reason.

        A `max_tokens` past the end of the context window ends there, with "length".
        Closing the generator aborts the request in the engine. Raises EngineError and its kinds.
        """

    async def count_prompt(self, call: Call) -> int:
        """Prompt tokens of `call`, exactly. Raises CapabilityMissing without `tokenize`."""

    def forward(self, request: PlainRequest) -> AbstractAsyncContextManager[PlainReply]:
        """Hand an OpenAI request on, byte for byte. Raises EngineUnavailable when nothing answered."""


# -- what comes back to a strategy ---------------------------------------------------------------------


class End(NamedTuple):
    """A place in a completion: after so many pieces, and so many characters of its reasoning and of its text."""

    pieces: int
    reasoning: int
    text: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One finished (or cut) completion and the conversation that it answers.

    `index` is its position among its siblings. `finish_reason` is "length" when a limit cut it. `logprobs` and
    `confidences` have an entry for each token where the call asked for them; see `Delta`. `held` are its pieces where
    texts were put between its tokens, of which `token_ids` then says nothing. `ends`, of a resumable one, are the places
    where a token ends; see `continuing`.
    """

    text: str
    messages: tuple[Message, ...]
    role: Role = "actor"
    purpose: str = SOLVE
    index: int = 0
    reasoning: str = ""
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()
    logprobs: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()
    held: tuple[Piece, ...] = ()
    ends: tuple[End, ...] = ()

    @property
    def is_cut(self) -> bool:
        """True when a token limit ended the completion before the model did."""
        return self.finish_reason == "length"

    def in_reply_to(self, messages: tuple[Message, ...]) -> Completion:
        """The same text as the reply to another conversation, which what comes `after` it goes on with.

        A revision in reply to the question alone, say, has forgotten the versions before it.
        """
        return replace(self, messages=messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A possible answer of the run. `score` is None where nothing graded it, which is not a score of 0.

    `answer` is what the task's extraction found in `text`, or None. `score_kind` names what the score is
    (vote_share, judge_score, p_true, ...) and `why` says it for a person. `tokens` are the completion tokens of
    `text`, 0 where the engine does not count them.
    """

    text: str
    answer: str | None = None
    score: float | None = None
    score_kind: str | None = None
    why: str | None = None
    index: int = 0
    finish_reason: FinishReason = "stop"
    tokens: int = 0

    @property
    def is_unfinished(self) -> bool:
        """True when a token limit ended it before it held a finished answer."""
        return self.finish_reason == "length" and self.answer is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a critic or a verifier found. `first_error` is the 0-based first wrong step; None when no step is wrong."""

    accepted: bool
    score: float | None = None
    reasons: str = ""
    first_error: int | None = None


@dataclass(frozen=True, slots=True)
class LabelRead:
    """Probabilities of chosen labels as the next token.

    `probabilities` sums to 1 over the labels; `mass` (0 to 1) is what the labels had together before that:
    a small mass says that the model wanted to say something else.
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    mass: float = 0.0

    def expect(self, values: Mapping[str, float]) -> float:
        """The mean of `values` (one for each label) under the probabilities."""
        return sum(self.probabilities[label] * value for label, value in values.items())


class Draft(Protocol):
    """A completion while it is being written: iterate it for its steps, in order, each once finished."""

    @property
    def completion(self) -> Completion:
        """What has been written so far."""

    def cut(self, steps: int) -> Completion:
        """What was written up to the end of the first `steps` steps that were given, to judge it or to go on from there.

        It is cut between two tokens where these lie between two steps; else what follows the last token before the cut
        is held as text. Raises ValueError for more steps than were given.
        """

    def __aiter__(self) -> AsyncIterator[str]: ...


After = Completion | Draft | Literal["question"] | None
"""Where a prompt is said: as a further turn of a completion's conversation; "question": as the last paragraph of the
client's own question; None: in a fresh conversation."""


class Run(Protocol):
    """All that a strategy sees: the question, the verbs, and the best answer so far.

    Every verb draws on the run's budget and deadline. A strategy need not watch either: what it proposed or
    elected is the answer when one of them ends the run. `stop_reason` may be set by a strategy that knows why it
    stops early (`accepted`, `consensus`).
    """

    stop_reason: StopReason

    @property
    def question(self) -> str:
        """The text of the last user turn."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The client's conversation, verbatim."""

    @property
    def task(self) -> Task: ...

    @property
    def best(self) -> Candidate:
        """The provisional answer. Raises UnusableCompletion while there is none."""

    async def ask(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        visible: bool = False,
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
        logprobs: int | None = None,
        reserved: Reserve | None = None,
        **values: Value,
    ) -> Completion:
        """One completion of `prompt` (a file's name, filled with `values`, or SOLVE).

        `after` says in which conversation. Values of placeholders for candidate text (see `quoting`) are quoted as
        data, in every verb; such a value may be several texts. `reserved` spends what `reserve` set aside.
        """

    def sample(
        self,
        prompt: str,
        n: int,
        *,
        width: int | None = None,
        batch: int = 1,
        role: Role = "actor",
        after: After = None,
        temperature: float | None = None,
        logprobs: int | None = None,
        **values: Value,
    ) -> AbstractAsyncContextManager[AsyncIterator[Completion]]:
        """`n` completions of one prompt, each as soon as it is finished; leaving the block cancels the rest.

        `batch` completions share one engine request; at most `width` (default: all) are drawn at once. With a
        seed they come in index order. A failed request is survived as long as another one gives a completion.
        `logprobs` asks for log probabilities and confidences, see `Delta`.
        """

    async def begin(
        self,
        *,
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        logprobs: int | None = None,
    ) -> Completion:
        """A first part of a reply to the client: as `ask` for SOLVE, but to be gone on with from any of its `ends`.

        It is given also when `max_tokens` cut it inside its thoughts.
        """

    async def extend(
        self,
        completion: Completion,
        *,
        text: str = "",
        purpose: str = "extend",
        temperature: float | None = None,
        max_tokens: int | None = None,
        logprobs: int | None = None,
        resumable: bool = False,
    ) -> Completion:
        """The completion continued, after `text` was appended to it, as one longer completion.

        From its own tokens, where the engine told them and goes on from tokens, with the text's after them; else from
        text. Of a completion that was cut inside its thoughts the thoughts go on, and `text` is one of them. `purpose`
        names the call in bills. A `resumable` one has its `ends`, as one that `begin` gives. Without `text` it may turn
        out that the completion was finished already: nothing is added to it then.
        """

    def steps(
        self,
        prompt: str,
        *,
        role: Role = "actor",
        after: After = None,
        index: int = 0,
        temperature: float | None = None,
        logprobs: int | None = None,
        every: int | None = None,
        **values: Value,
    ) -> AbstractAsyncContextManager[Draft]:
        """A completion seen step by step as it is written; leaving the block aborts it in the engine.

        With `every` its pieces are not steps but of at least that many tokens. `logprobs` as in `sample`.
        """

    def extend_steps(
        self, completion: Completion, *, index: int = 0, temperature: float | None = None
    ) -> AbstractAsyncContextManager[Draft]:
        """The completion (a draft that was `cut`, say) continued, seen step by step: its steps are those to come.

        The draft's completion is the whole of it. `index` tells continuations of one text apart. Raises
        CapabilityMissing where the engine cannot continue (`prefix`).
        """

    async def probe(
        self,
        completion: Completion | Draft,
        prompt: str,
        labels: Sequence[str],
        *,
        role: Role = "actor",
        **values: Value,
    ) -> LabelRead:
        """How probable each label is as the reply to `prompt`, asked as a further turn after `completion`."""

    async def labels(
        self, prompt: str, labels: Sequence[str], *, role: Role = "judge", **values: Value
    ) -> LabelRead:
        """How probable each label is as the reply to `prompt` in a fresh conversation."""

    async def reward(
        self, completion: Completion | Draft | str, *, messages: Sequence[Message] | None = None
    ) -> float:
        """What the reward model thinks of a completion, or of any text, as the last turn of `messages`.

        Without `messages`: of the conversation that the completion answers, or for a text the client's own. Higher is
        better; the scale is the model's (a logit, or a probability for one with two labels), so that rewards of one
        model are compared and nothing else. It costs one call and its prompt tokens. Raises RoleMissing where no
        engine plays `reward`, CapabilityMissing where the one that does cannot score.
        """

    async def judge(
        self,
        prompt: str,
        labels: Sequence[str],
        *,
        after: After = None,
        role: Role = "judge",
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **values: Value,
    ) -> Judgement:
        """Which of the labels is the reply to `prompt`, by the best means that the role's engine has.

        Label probabilities; else a reply held to a schema; else text, parsed strictly and asked for once more if it
        cannot be read. How to reply is added to the prompt, which need not name the labels. `index` tells samples of
        one verdict apart. `temperature` is 0 unless given, and never for a model that thinks. Raises VerdictUnreadable,
        and DegenerateCandidate when what is to be judged says nothing.
        """

    async def critique(
        self,
        prompt: str,
        shape: type[M],
        *,
        after: After = None,
        role: Role = "critic",
        index: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **values: Value,
    ) -> tuple[Completion, M]:
        """A reply in the shape of a pydantic model (see `verdicts`), and the completion that it was read from.

        Held to the shape by the engine where it can, else parsed strictly and asked for once more. How to reply is
        added to the prompt. The completion can be gone on with (`ask(..., after=...)`). Temperature and errors are
        those of `judge`.
        """

    async def prefer(
        self, a: Candidate, b: Candidate, *, prompt: str = "prefer", role: Role = "judge"
    ) -> Preference:
        """Which of two candidates answers the question better, asked in both orders at once.

        With label probabilities a win is a sum of log-odds beyond `judgements.MARGIN`, else the same choice in both
        orders; anything less is a tie. A candidate that says nothing loses without a call. Raises VerdictUnreadable.
        """

    async def verify(self, candidate: Candidate) -> Verdict | None:
        """What the task's own tests say of a candidate; None where it has none, or where they cannot be run.

        No model is asked, and nothing is spent but time. `score` is 1 or 0, and `reasons` the end of what the tests said
        and the code printed. The same answer is tested once.
        """

    def require(self, role: Role, *capabilities: Capability) -> None:
        """Make sure, before anything is spent, that the role can do this. Raises RoleMissing and CapabilityMissing."""

    def profile(self, role: Role) -> Profile:
        """What is particular to the model of a role. Raises RoleMissing."""

    def usual_length(self, role: Role = "actor") -> int | None:
        """Tokens of half of this model's answers, thoughts included, in any strategy; None until a few were seen.

        None under a seed too: what other requests brought must not decide what a repeatable one does.
        """

    def calibration(self, role: Role, kind: GradeKind = "solution") -> Measured | None:
        """What was measured of the grades that the role's model gives its own drafts; None when nothing was."""

    def trust(
        self, role: Role = "judge", *, kind: GradeKind = "solution", always: bool = False
    ) -> float:
        """How far votes may be weighted by this role's grades of a kind: 0 (not at all) or 1, as its calibration says.

        Where these are not calibrated, or have an AUROC below 0.6, the answer is 0 and a note says so; `always` (somebody
        asked for weights whatever was measured) makes it 1.
        """

    def note(self, about: str, what: str) -> None:
        """Say something of how the answer came about in the response's `notes`; the last word on a thing stands."""

    async def same(self, a: str, b: str) -> bool:
        """Are two answers of this task equivalent?"""

    async def class_of(self, candidate: Candidate) -> int | None:
        """The class of a candidate's answer among the answers classed so far, as a small id.

        None for a candidate without an answer, and in open tasks, where no answer equals another.
        """

    async def map(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int | None = None
    ) -> list[R]:
        """`work` over all items, in item order; failed items are left out and counted as degraded.

        Raises the last failure where every item failed.
        """

    def as_completed(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """Results of `work` as they finish (with a seed: in item order); leaving the block cancels the rest."""

    def reserve(
        self, *, tokens: int, prompt_tokens: int = 0, role: Role = "actor"
    ) -> AbstractContextManager[Reserve]:
        """Set aside what a closing call will need, so that earlier calls cannot spend it.

        Raises BudgetExhausted when it is not there.
        """

    def candidate(
        self,
        completion: Completion | Draft,
        *,
        score: float | None = None,
        score_kind: str | None = None,
        why: str | None = None,
    ) -> Candidate:
        """The candidate that a completion holds; a cut one has an answer only if it had finished one."""

    def propose(self, candidate: Candidate) -> None:
        """Keep the candidate if its score is the highest so far; ties go to the earlier one."""

    def elect(self, candidate: Candidate) -> None:
        """Replace the provisional answer, whatever its score."""


class Reserve(Protocol):
    """A part of the budget set aside for one later call of the run: `tokens` completion tokens."""

    tokens: int

    def release(self) -> None:
        """Give it back unspent."""


# -- what can go wrong ---------------------------------------------------------------------------------


class SecondpassError(Exception):
    """The root of every error that secondpass raises on purpose."""


class EngineError(SecondpassError):
    """A call failed in or on its way to an engine."""

    def __init__(self, message: str, *, engine: str = "", role: Role | None = None) -> None:
        super().__init__(message)
        self.engine = engine
        self.role = role


class EngineUnavailable(EngineError):
    """No connection, a 5xx or a 429: another attempt may work. `retry_after` is in seconds."""

    def __init__(
        self,
        message: str,
        *,
        engine: str = "",
        role: Role | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, engine=engine, role=role)
        self.retry_after = retry_after


class StreamCut(EngineError):
    """A stream ended before every completion had its finish reason."""


class CallRejected(EngineError):
    """The engine understood the call and refused it (a 4xx); `status` is its HTTP status."""

    def __init__(
        self, message: str, *, engine: str = "", role: Role | None = None, status: int = 400
    ) -> None:
        super().__init__(message, engine=engine, role=role)
        self.status = status


class RoleFailed(EngineError):
    """A role failed that the request insists on: it ends the run without an answer, whatever was elected so far."""


class CapabilityMissing(SecondpassError):
    """An engine cannot do what a call needs."""

    def __init__(self, engine: str, missing: Iterable[Capability]) -> None:
        self.engine = engine
        self.missing = tuple(sorted(missing))
        super().__init__(f"engine {engine!r} lacks the capability {', '.join(self.missing)}")


class RoleMissing(SecondpassError):
    """No engine plays a role."""

    def __init__(self, role: Role) -> None:
        self.role = role
        super().__init__(f"no engine plays the role {role!r}: name one under roles.{role}")


class BudgetExhausted(SecondpassError):
    """A call does not fit into what is left of one limit of the budget."""

    def __init__(self, kind: BudgetKind) -> None:
        self.kind: BudgetKind = kind
        super().__init__(f"the budget's {kind} are spent")


class UnusableCompletion(SecondpassError):
    """A completion that cannot serve: empty, or cut before it held an answer."""


class DegenerateCandidate(UnusableCompletion):
    """A candidate that gives a judge nothing to judge."""


class VerdictUnreadable(SecondpassError):
    """A judge's reply that could not be parsed."""


SURVIVABLE = (EngineError, UnusableCompletion, VerdictUnreadable)
"""Failures of one piece of work that a run outlives."""

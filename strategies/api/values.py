"""The values that travel between a strategy, the service and an engine.

All are frozen, so that they can be logged, hashed and replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

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


Piece: TypeAlias = int | str
"""A token id, or a text between tokens, which the engine makes tokens of by itself."""

SOLVE = "solve"
"""The prompt name that stands for the client's own messages, sent verbatim."""


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
    where a token ends; see `continuation.segments`.
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
    def is_truncated(self) -> bool:
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

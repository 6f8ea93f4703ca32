"""The values that travel between a strategy, the service and an engine.

All are frozen, so that they can be logged, hashed and replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeAlias

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
]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


PrefixPart: TypeAlias = int | str
"""A token id, or a text between tokens, which the engine tokenizes by itself."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How a verb's completions are drawn; what is None is the client's, then the operator's, then the engine's.

    `temperature` is from 0 to 2, `top_p` above 0 and at most 1, `max_tokens` at least 1. `stop` strings end a completion,
    besides the client's own; a completion that can be continued keeps the string at its end. `logprobs` asks for the log
    probability of each token, and with k > 0 for confidences over the k most probable ones, see `Delta`. `seed_offset`
    tells draws of one prompt and index apart under a client's seed. Raises ValueError.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    seed_offset: int = 0

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature: from 0 to 2, not {self.temperature}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: above 0 and at most 1, not {self.top_p}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens: at least 1, not {self.max_tokens}")
        if type(self.stop) is not tuple or not all(self.stop):
            raise ValueError(f"stop: a tuple of strings, none of them empty, not {self.stop!r}")
        if self.logprobs is not None and self.logprobs < 0:
            raise ValueError(f"logprobs: at least 0, not {self.logprobs}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a completion: what one or several tokens hold, or text that a strategy inserted.

    `token_ids` is None for a text without known tokens, which an engine tokenizes by itself: inserted text, the last
    tokens of a finished completion, any text of an engine that returns no ids. It is empty where the segment before it
    holds the tokens of both; only between other segments a completion can be truncated exactly. `text` may be empty: the
    token that closes the reasoning, or a part of a character. `logprobs` and `confidences` have an entry for each token
    where the call asked for them. `source` numbers the stream that delivered it.
    """

    text: str
    token_ids: tuple[int, ...] | None = None
    is_reasoning: bool = False
    logprobs: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()
    source: int | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One completion, finished or truncated, and the conversation that it answers.

    `segments` are in order, one for each token boundary where the call was `resumable`, else merged as they come.
    `index` is its position among its siblings. `finish_reason` is "length" when a limit truncated it.
    """

    messages: tuple[Message, ...]
    segments: tuple[Segment, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    role: Role = "actor"
    purpose: str = SOLVE
    index: int = 0
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()

    @classmethod
    def of(
        cls, text: str, messages: tuple[Message, ...] = (), *, reasoning: str = "", **rest: Any
    ) -> Completion:
        """A completion that holds this text, without token ids; `rest` are further fields."""
        parts = (Segment(reasoning, is_reasoning=True), Segment(text))
        return cls(messages=messages, segments=tuple(p for p in parts if p.text), **rest)

    # Kept once joined; functools.cached_property takes a lock for it, which costs more than joining does.
    @property
    def text(self) -> str:
        """The text outside of the reasoning."""
        known: str | None = self.__dict__.get("_text")
        if known is None:
            known = "".join([each.text for each in self.segments if not each.is_reasoning])
            self.__dict__["_text"] = known
        return known

    @property
    def reasoning(self) -> str:
        """The reasoning, where the engine returns it apart from the text."""
        known: str | None = self.__dict__.get("_reasoning")
        if known is None:
            known = "".join([each.text for each in self.segments if each.is_reasoning])
            self.__dict__["_reasoning"] = known
        return known

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The ids of all segments that have them."""
        return tuple(i for each in self.segments for i in each.token_ids or ())

    @property
    def logprobs(self) -> tuple[float, ...]:
        """The log probability (natural) of each token, where the call asked for them."""
        return tuple(value for each in self.segments for value in each.logprobs)

    @property
    def confidences(self) -> tuple[float, ...]:
        """The confidence of each token, where the call asked for them; see `Delta`."""
        return tuple(value for each in self.segments for value in each.confidences)

    @property
    def is_truncated(self) -> bool:
        """True when a token limit ended the completion before the model did."""
        return self.finish_reason == "length"

    def with_text(self, text: str) -> Completion:
        """The completion with another text, whose tokens are not known; the reasoning stays."""
        kept = tuple(each for each in self.segments if each.is_reasoning)
        return replace(self, segments=(*kept, Segment(text)) if text else kept)

    def in_reply_to(self, messages: tuple[Message, ...]) -> Completion:
        """The same text as the reply to another conversation, which what comes `after` it continues.

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
    tool_calls: tuple[ToolCall, ...] = ()

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
class LabelDistribution:
    """Probabilities of chosen labels as the next token.

    `probabilities` sums to 1 over the labels; `mass` (0 to 1) is what the labels had together before that:
    a small mass says that the model wanted to say something else.
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    mass: float = 0.0

    def expect(self, values: Mapping[str, float]) -> float:
        """The mean of `values` (one for each label) under the probabilities."""
        return sum(self.probabilities[label] * value for label, value in values.items())

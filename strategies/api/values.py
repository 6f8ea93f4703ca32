"""Immutable, hashable values exchanged between strategies, the service and engines."""

from __future__ import annotations

import math
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
    "n",
    "reward",
    "text",
]
"""A feature of an engine. `n`: several completions per call. `text`: all engines except scoring ones."""

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
FinishReason = Literal["stop", "length", "repetition", "tool_calls", "content_filter"]
TRUNCATING: frozenset[FinishReason] = frozenset(("length", "repetition"))
"""Finish reasons of completions that the model did not end itself."""

PrefixPart: TypeAlias = int | str
"""A token id, or text between tokens, which is tokenized separately."""

SOLVE = "solve"
"""Prompt name of the client's own messages, which are sent verbatim."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextPart(_Value):
    """A text part of a message with several parts."""

    type: Literal["text"]
    text: str


class ImageURL(_Value):
    """Location of an image: a `data:` URL, or an address that the engine fetches."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Value):
    """An image part of a user message."""

    type: Literal["image_url"]
    image_url: ImageURL


class FunctionCall(_Value):
    """A function call requested by a model; `arguments` is JSON text, verbatim."""

    name: str
    arguments: str


class ToolCall(_Value):
    """A tool call in an assistant turn."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Value):
    """One turn of a conversation, in the OpenAI format."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[ContentPart, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text parts of the turn, one a line; images are omitted."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if isinstance(part, TextPart))


_Stop = Annotated[str, Field(min_length=1, max_length=1024)]
_Stops = Annotated[tuple[_Stop, ...], Field(max_length=16, fail_fast=True)]


class Sampling(_Value):
    """Sampling parameters of a call; None: the engine's default."""

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="sampling temperature; 0 is greedy decoding"
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="sample from the tokens with this total probability"
    )
    top_k: int | None = Field(
        default=None, ge=-1, lt=2**31, description="sample from this many tokens; 0 or -1: from all"
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="minimum probability, relative to the likeliest token"
    )
    seed: int | None = Field(default=None, ge=0, lt=2**62, description="seed of random numbers")
    stop: _Stops | None = Field(default=None, description="strings that end a completion")
    max_tokens: int | None = Field(
        default=None, ge=1, description="completion tokens of one call, reasoning included"
    )
    presence_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="penalty for tokens that the completion contains"
    )
    frequency_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="penalty per earlier occurrence in the completion"
    )
    repetition_penalty: float | None = Field(
        default=None,
        gt=0,
        le=2,
        description="factor for tokens in the prompt or completion; above 1 discourages them",
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one or more calls. `cached` counts the prompt tokens found in the prefix cache."""

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
class ReportedUsage:
    """Token counts of a call as an engine reported them; None: not reported.

    `cached` counts the prompt tokens found in the prefix cache; 0 also if the engine does not report them.
    """

    prompt: int | None = None
    cached: int = 0
    completion: int | None = None

    def updated(self, later: ReportedUsage) -> ReportedUsage:
        """Return the report with each count that `later` contains."""
        return ReportedUsage(
            self.prompt if later.prompt is None else later.prompt,
            later.cached or self.cached,
            self.completion if later.completion is None else later.completion,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Sampling options of a verb.

    An option that is None has the client's value, else the operator's, else the engine's default.

    Args:
        temperature: 0 to 2.
        top_p: Above 0, at most 1.
        max_tokens: At least 1. The client's limit also applies.
        stop: Stop strings in addition to the client's. A resumable completion ends with the string that stopped it.
        logprobs: 0: return the log probability of each token. k > 0: also return its confidence, computed from the k
            most probable tokens, see `Delta`.
        seed_offset: Added to the seed, to vary draws of one prompt and index.

    Raises:
        ValueError: An option is out of range, or `stop` is not a tuple of non-empty strings.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    seed_offset: int = 0

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature: must be 0 to 2, not {self.temperature}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: must be above 0 and at most 1, not {self.top_p}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens: must be at least 1, not {self.max_tokens}")
        if type(self.stop) is not tuple or not all(self.stop):
            raise ValueError(f"stop: must be a tuple of non-empty strings, not {self.stop!r}")
        if self.logprobs is not None and self.logprobs < 0:
            raise ValueError(f"logprobs: must be at least 0, not {self.logprobs}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a completion: the text of one or more tokens, or inserted text.

    Attributes:
        text: May be empty, for example for the token that closes the reasoning or for part of a character.
        token_ids: None if unknown: for inserted text, the last tokens of a finished completion, or an engine that
            returns no ids. The engine tokenizes such text separately. Empty if the previous segment contains the tokens
            of both segments; a completion cannot be truncated exactly between the two.
        is_reasoning: True for text inside the reasoning.
        logprobs: Log probability of each token, if the call requested them.
        confidences: Confidence of each token, if the call requested them.
        source: Number of the stream that delivered the segment.
    """

    text: str
    token_ids: tuple[int, ...] | None = None
    is_reasoning: bool = False
    logprobs: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()
    source: int | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A finished or truncated completion, and the conversation that it answers.

    Attributes:
        messages: The conversation, without the completion.
        segments: In order; one per token boundary if the call was `resumable`, else merged.
        role: Role whose model generated it.
        purpose: Name of the call, usually its prompt.
        index: Position among sibling completions.
        finish_reason: "length" if a token limit truncated it, "repetition" if it repeated itself.
        usage: Token counts.
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
        """Return a completion of this text, without token ids; `rest` sets further fields."""
        parts = (Segment(reasoning, is_reasoning=True), Segment(text))
        return cls(messages=messages, segments=tuple(p for p in parts if p.text), **rest)

    # Cached by hand: the lock of functools.cached_property costs more than the join.
    @property
    def text(self) -> str:
        """The text outside the reasoning."""
        known: str | None = self.__dict__.get("_text")
        if known is None:
            known = "".join([each.text for each in self.segments if not each.is_reasoning])
            self.__dict__["_text"] = known
        return known

    @property
    def reasoning(self) -> str:
        """The reasoning, if the engine returns it separately from the text."""
        known: str | None = self.__dict__.get("_reasoning")
        if known is None:
            known = "".join([each.text for each in self.segments if each.is_reasoning])
            self.__dict__["_reasoning"] = known
        return known

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Token ids of all segments that have them."""
        return tuple(i for each in self.segments for i in each.token_ids or ())

    @property
    def logprobs(self) -> tuple[float, ...]:
        """Natural log probability of each token, if the call requested them."""
        return tuple(value for each in self.segments for value in each.logprobs)

    @property
    def confidences(self) -> tuple[float, ...]:
        """Confidence of each token, if the call requested them; see `Delta`."""
        return tuple(value for each in self.segments for value in each.confidences)

    @property
    def is_truncated(self) -> bool:
        """True if a token limit or a repetition ended the completion before the model did."""
        return self.finish_reason in TRUNCATING

    def with_text(self, text: str) -> Completion:
        """Return the completion with another text, without token ids; the reasoning is kept."""
        kept = tuple(each for each in self.segments if each.is_reasoning)
        return replace(self, segments=(*kept, Segment(text)) if text else kept)

    def in_reply_to(self, messages: tuple[Message, ...]) -> Completion:
        """Return the completion as the reply to another conversation, which prompts `after` it then continue.

        For example, a revision in reply to only the question hides the earlier versions.
        """
        return replace(self, messages=messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A possible answer of the run.

    Attributes:
        text: Text of the completion.
        answer: Answer extracted from `text` according to the task; None if it has none.
        score: Any other value than a finite number raises ValueError. None if it was not scored, which differs from 0.
        score_kind: Kind of the score: vote_share, judge_score, p_true, ...
        why: Explanation of the score for a person.
        index: Position among sibling completions.
        finish_reason: As in `Completion`.
        tokens: Completion tokens of `text`; 0 if the engine does not count them.
        tool_calls: Tool calls of the completion.
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

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"score: must be a finite number, not {self.score}")

    @property
    def is_unfinished(self) -> bool:
        """True if it was truncated before a finished answer."""
        return self.finish_reason in TRUNCATING and self.answer is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Verdict of a critic or a verifier.

    Attributes:
        accepted: True if the answer was accepted.
        score: Estimated probability that the answer is correct, 0 to 1; None without one.
        reasons: Why the answer was accepted or rejected; may be empty.
        first_error: 0-based index of the first wrong step; None if no step is wrong.
    """

    accepted: bool
    score: float | None = None
    reasons: str = ""
    first_error: int | None = None


@dataclass(frozen=True, slots=True)
class LabelDistribution:
    """Probabilities of the labels as the next token.

    `probabilities` sums to 1 over the labels. `mass` (0 to 1) is their total probability before normalisation; if it is
    small, the model preferred another token.
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    mass: float = 0.0

    def expect(self, values: Mapping[str, float]) -> float:
        """Return the expected value of `values`, which has an entry for each label."""
        return sum(self.probabilities[label] * value for label, value in values.items())

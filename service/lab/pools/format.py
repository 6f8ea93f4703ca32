"""Line types of a pool file, and the keys of draws.

A pool is a JSON lines file; each line is written at once. The header comes first, then `pass` (one execution of the
recorder), `question` and `sample` in any order. Nothing is repeated and nothing is changed later. A file truncated at any
byte is therefore a valid pool without its last line.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE, FinishReason, Message, Role, Sampling

FORMAT: Literal[1] = 1
DIGITS = 4
"""Decimals stored of log probabilities and confidences."""

Count = Annotated[int, Field(ge=0)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Header(_Line):
    """Properties shared by all samples of questions.

    `model` is the name it was served under. `sampling` has no seed: sample i has `seed` + i; it is None if unknown.
    `formatted` is true if the task's answer-format instruction was added to the questions. `logprobs` is the number of
    alternatives over which confidences were computed.
    """

    kind: Literal["pool"] = "pool"
    format: Literal[1] = FORMAT
    model: str
    sampling: Sampling | None
    seed: Count = 0
    formatted: bool = True
    logprobs: Count | None = None


class QuestionFile(_Line):
    """A file of questions, and how many of its first questions were asked."""

    name: str
    sha256: str
    questions: Count


class RecordingPass(_Line):
    """One execution of the recorder: `n` samples per question of `data`.

    `at` is an ISO 8601 time in UTC; `notes` are set by the operator.
    """

    kind: Literal["pass"] = "pass"
    at: str
    secondpass: str
    engine: str
    capabilities: tuple[str, ...]
    context_window: int | None
    n: Count
    data: tuple[QuestionFile, ...]
    notes: dict[str, str] = {}


class PoolQuestion(_Line):
    """A question as it was sent; `key` is the key of its draws, see `key_of`."""

    kind: Literal["question"] = "question"
    id: str
    key: str
    question: str
    answer: str
    task: TaskRequest
    messages: tuple[Message, ...]


class Sample(_Line):
    """One completion, or one read of labels or of a reward.

    `question` is None for a call made by a strategy. Per token there are its id, log probability, confidence (see `Delta`)
    and number of characters of the text. `seconds` is the time in the engine without the wait for admission,
    `first_seconds` the time to the first token. `max_tokens` is the limit under which the sample was drawn.
    """

    kind: Literal["sample"] = "sample"
    key: str
    index: Count
    question: str | None = None
    role: Role = "actor"
    purpose: str = SOLVE
    text: str
    reasoning: str = ""
    finish_reason: FinishReason
    tokens: Count
    token_ids: tuple[int, ...] = ()
    chars: tuple[Count, ...] = ()
    reasoning_chars: tuple[Count, ...] = ()
    logprobs: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()
    labels: dict[str, float] | None = None
    reward: float | None = None
    prompt: Count
    cached: Count
    max_tokens: int | None = None
    seed: int | None = None
    first_seconds: float
    seconds: float

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("token_ids", "chars", "reasoning_chars", "logprobs", "confidences"):
            values = getattr(self, name)
            if values and len(values) != self.tokens:
                raise ValueError(f"{name}: {len(values)} entries for {self.tokens} tokens")
        for name, text in (("chars", self.text), ("reasoning_chars", self.reasoning)):
            if (counts := getattr(self, name)) and sum(counts) != len(text):
                raise ValueError(
                    f"{name}: the sum is {sum(counts)}, but the text has {len(text)} characters"
                )
        return self


Line = Annotated[Header | RecordingPass | PoolQuestion | Sample, Field(discriminator="kind")]
LINES: TypeAdapter[Header | RecordingPass | PoolQuestion | Sample] = TypeAdapter(Line)


def key_of(call: Call, *, by_sampling: bool = True) -> str:
    """Return the SHA-256 (hex) of everything that determines a call's distribution.

    The key covers the conversation, prefix, schema, labels, whether reasoning is off, and the sampling parameters. It
    excludes the seed and the index, which select a draw, and the role and the purpose. It excludes `max_tokens` because a
    shorter completion is a prefix of a longer one. Reads of labels or of a reward do not depend on sampling. With
    `by_sampling=False` no call does.
    """
    is_sampled = by_sampling and not is_read(call)
    value = {
        "messages": [message.model_dump(exclude_none=True) for message in call.messages],
        "prefix": call.prefix,
        "schema": call.schema,
        "labels": call.labels,
        "thinking": call.thinking,
        "sampling": distribution(call.sampling) if is_sampled else {},
    }
    if call.reward:
        value["reward"] = True
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def distribution(sampling: Sampling) -> dict[str, object]:
    """Return the parameters that change probabilities: all set ones except seed and `max_tokens`."""
    return sampling.model_dump(exclude_none=True, exclude={"seed", "max_tokens"})


def is_read(call: Call) -> bool:
    """Return whether the call reads labels or a reward, which is deterministic and not sampled."""
    return bool(call.labels) or call.reward


def place_of(call: Call, index: int) -> tuple[str, int]:
    """Return (key, index) in a pool of the `index`-th completion of the call."""
    return key_of(call), 0 if is_read(call) else call.index + index

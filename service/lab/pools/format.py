"""The lines of a pool, and what makes two calls the same draw.

A pool is JSON lines, each a whole object that is written at once: first the header, then, in any order, `pass` (one run of
the recorder), `question` and `sample`. Every fact stands once and nothing is ever changed, so a file that was cut
anywhere is a pool still, less its last line.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE, FinishReason, Message, Role, Sampling, Usage

FORMAT: Literal[1] = 1
DIGITS = 4
"""Decimals that log probabilities and confidences are kept with."""

Count = Annotated[int, Field(ge=0)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Header(_Line):
    """What all samples of questions share.

    `sampling` is without a seed: sample i has `seed` + i. None where nobody knows how they were drawn.
    `model` is the name that it was served under. `formatted` says that the task's answer-format instruction was
    added to the questions, and `logprobs` over how many alternatives the confidences were taken.
    """

    kind: Literal["pool"] = "pool"
    format: Literal[1] = FORMAT
    model: str
    sampling: Sampling | None
    seed: Count = 0
    formatted: bool = True
    logprobs: Count | None = None


class DataFile(_Line):
    """A file of questions, and how many of its first ones were asked."""

    name: str
    sha256: str
    questions: Count


class Pass(_Line):
    """One run of the recorder over `data`, `n` samples a question. `at` is UTC, ISO 8601; `notes` are the operator's."""

    kind: Literal["pass"] = "pass"
    at: str
    secondpass: str
    engine: str
    capabilities: tuple[str, ...]
    context_window: int | None
    n: Count
    data: tuple[DataFile, ...]
    notes: dict[str, str] = {}


class PoolQuestion(_Line):
    """A question as it was asked; `key` is that of its draws, see `key_of`."""

    kind: Literal["question"] = "question"
    id: str
    key: str
    question: str
    answer: str
    task: TaskRequest
    messages: tuple[Message, ...]


class Sample(_Line):
    """One completion, or one read of labels or of a reward. `question` is missing where a strategy asked for it.

    Of each token there are its id, its log probability, its confidence (see `Delta`) and how many characters of the
    text were told with it. `seconds` is the whole time in the engine without waiting for admission, `first_seconds` that up to the first token.
    `max_tokens` is the cap under which it was drawn.
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
                raise ValueError(f"{name}: {sum(counts)} characters of {len(text)}")
        return self

    @property
    def usage(self) -> Usage:
        """Tokens that it took."""
        return Usage(self.prompt, self.cached, self.tokens)


Line = Annotated[Header | Pass | PoolQuestion | Sample, Field(discriminator="kind")]
LINES: TypeAdapter[Header | Pass | PoolQuestion | Sample] = TypeAdapter(Line)


def key_of(call: Call, *, by_sampling: bool = True) -> str:
    """SHA-256 (hex) over what decides from which distribution a call draws.

    That is the conversation, the prefix, schema and labels, whether thinking is off, and how tokens are sampled. Not
    in it: the seed and the index, which choose a draw; `max_tokens`, since a shorter completion is the beginning of a
    longer one; who asks and for what. A read of labels or of a reward does not depend on sampling at all, nor does
    anything without `by_sampling`.
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
    """What of `sampling` changes probabilities, and not only which draw is taken or where it ends."""
    return sampling.model_dump(exclude_none=True, exclude={"seed", "max_tokens"})


def is_read(call: Call) -> bool:
    """Is the reply a reading, of which every copy is the same, and no draw?"""
    return bool(call.labels) or call.reward


def place_of(call: Call, index: int) -> tuple[str, int]:
    """Where in a pool the completion stands that is the `index`-th of the call."""
    return key_of(call), 0 if is_read(call) else call.index + index

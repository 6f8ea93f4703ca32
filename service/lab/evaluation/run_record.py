"""Record of one run on one question, as plain values: the input of all metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, FiniteFloat

_Count = Annotated[int, Field(ge=0)]
_Seconds = Annotated[FiniteFloat, Field(ge=0)]
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHeader:
    """Header of a records file: question set, model, ISO date, and the command that wrote it.

    `formatted` is true if the prompts contained the task's answer-format instruction. `sampling` describes the drafts.
    `calibration` describes the judge's calibration. None and "" mean unknown.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    data: str
    model: str
    date: str = ""
    command: str = ""
    engine: str = ""
    formatted: bool | None = None
    sampling: str = ""
    calibration: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedCandidate:
    """A candidate of a run with its correctness and its score (None: not scored).

    `accepted` is the critic's verdict, None without one. `is_revision` is true if it revises another candidate.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    correct: bool
    answer: str | None = None
    score: FiniteFloat | None = None
    score_kind: str | None = None
    tokens: _Count = 0
    accepted: bool | None = None
    is_revision: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer in a chain of revisions; `accepted` is the critic's verdict, None without one."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    correct: bool
    answer: str | None = None
    accepted: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Token usage of a run. `prompt` includes `cached`, and `decode` includes `wasted`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    decode: _Count = 0
    prompt: _Count = 0
    cached: _Count = 0
    wasted: _Count = 0

    def __post_init__(self) -> None:
        if self.cached > self.prompt:
            raise ValueError(f"cached ({self.cached}) must be at most prompt ({self.prompt})")

    @property
    def uncached(self) -> int:
        """Prompt tokens that were not served from the prefix cache."""
        return self.prompt - self.cached


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of a strategy at one setting on one question, for one shuffle of the samples (or seed).

    `turns` are the answers of the final answer's revision chain, in order. `correct` belongs to the final answer, which
    is not always the last turn. `confidence` is from 0 to 1, or None if the strategy reports none. `error` describes
    why a run has no answer; such a run counts as incorrect.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    question: str
    strategy: str
    correct: bool
    setting: str = ""
    shuffle: _Count = 0
    answer: str | None = None
    turns: tuple[Turn, ...] = ()
    candidates: tuple[GradedCandidate, ...] = ()
    usage: Tokens = Tokens()
    seconds: _Seconds = 0.0
    confidence: _Share | None = None
    confidence_kind: str | None = None
    stop_reason: str | None = None
    error: str | None = None

    @property
    def has_known_cost(self) -> bool:
        """True unless the run failed without usage."""
        return self.error is None or self.usage != Tokens()

    @property
    def name(self) -> str:
        """Strategy and setting as tables show them."""
        return f"{self.strategy} {self.setting}".strip()

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Question, strategy, setting and shuffle: unique among records."""
        return (self.question, self.strategy, self.setting, self.shuffle)

    @property
    def label(self) -> str:
        """The key in readable form, for messages."""
        return f"question {self.question!r}, {self.name}, shuffle {self.shuffle}"

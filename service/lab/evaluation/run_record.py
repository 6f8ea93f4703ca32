"""One attempt at one question as a plain value: what every metric reads, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, FiniteFloat

_Count = Annotated[int, Field(ge=0)]
_Seconds = Annotated[FiniteFloat, Field(ge=0)]
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Where attempts come from: question set, model, ISO date, and the command that made them.

    `formatted`: was the task's answer format asked for? `sampling` is that of drafts. None and "": not known.
    `calibration` says what judges were known to be worth; "": nothing was known.
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
    """A candidate of an attempt: is it right, and what did whoever scored it say? `score` None: not scored.

    `accepted` is the critic's verdict on it; None: none is known. `is_revision`: it was made of another one.
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
    """One answer in a chain of revisions. `accepted` is the critic's verdict on it; None: no verdict was asked."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    correct: bool
    answer: str | None = None
    accepted: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What an attempt used. `prompt` includes `cached`; `wasted` decode tokens are part of `decode`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    decode: _Count = 0
    prompt: _Count = 0
    cached: _Count = 0
    wasted: _Count = 0

    def __post_init__(self) -> None:
        if self.cached > self.prompt:
            raise ValueError(f"cached ({self.cached}) must not be more than prompt ({self.prompt})")

    @property
    def uncached(self) -> int:
        """Prompt tokens that had to be computed."""
        return self.prompt - self.cached


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One strategy at one setting on one question, once for each shuffle of the recorded samples (or seed).

    `turns` are the answers of the chain that the final answer came from, in order; `correct` is the final answer's,
    which need not be the last turn's. `confidence` (0 to 1) is None when the strategy claims none. `error` names
    what an attempt without an answer died of; such an attempt counts as wrong.
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
    def is_billed(self) -> bool:
        """Is it known what it cost? It is not where it failed and nobody kept the bill."""
        return self.error is None or self.usage != Tokens()

    @property
    def name(self) -> str:
        """Strategy and setting as tables show them."""
        return f"{self.strategy} {self.setting}".strip()

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What there is one attempt of."""
        return (self.question, self.strategy, self.setting, self.shuffle)

    @property
    def label(self) -> str:
        """The key as a person reads it."""
        return f"question {self.question!r}, {self.name}, shuffle {self.shuffle}"

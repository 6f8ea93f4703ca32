"""Profiles of model families: reasoning delimiters and recommended sampling parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from secondpass.strategies.answers.markers import HARMONY, MISTRAL, THINK, conclusion

THINKING_CAP = 32_768
"""Default cap for a reasoning model: 90% of 11,520 recorded chains of Qwen3-8B end within it."""

PLAIN_CAP = 4_096
"""Default cap for any other model."""


class Profile(BaseModel):
    """Properties of a model family. Other code depends on these, never on a model's name.

    Attributes:
        name: Name of the family.
        is_thinking: True for a reasoning model.
        thinking: Opening and closing delimiter of the reasoning.
        reopens: True if removing the closing delimiter reopens the reasoning; False if the reasoning is a separate message.
        temperature: Recommended by the model's authors for drafts, 0 to 2; None: the engine's default.
        top_p: As `temperature`; above 0, at most 1.
        top_k: As `temperature`; at least 1.
        max_tokens: Default cap of a call's completion tokens, at least 1; None: the default of its kind, see `cap`.
        own_reference: As a judge, the model is better if it first writes its own solution (arXiv 2505.11227): True for
            instruct models, False for reasoning models.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    is_thinking: bool = False
    thinking: tuple[str, str] = THINK
    reopens: bool = True
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    own_reference: bool = True

    @property
    def cap(self) -> int:
        """Completion tokens of a call without another cap: `max_tokens`, else by `is_thinking`."""
        return self.max_tokens or (THINKING_CAP if self.is_thinking else PLAIN_CAP)

    def judge_temperature(self, requested: float | None = None) -> float:
        """Return the temperature of a verdict: `requested`, else 0.

        A reasoning model loops at 0, so 0 becomes its recommended temperature, else 0.6.
        """
        if self.is_thinking and not requested:
            return self.temperature or 0.6
        return requested or 0.0

    def conclusion(self, text: str) -> str:
        """Return the text after the reasoning, which is hidden from judges; without a conclusion, the text."""
        rest = conclusion(text, (self.thinking,))
        return rest.lstrip() if rest and rest.strip() else text


def _reasoning_profile(
    name: str, temperature: float, top_p: float, top_k: int | None = None
) -> Profile:
    return Profile(
        name=name,
        is_thinking=True,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        own_reference=False,
    )


_FAMILIES: tuple[tuple[str, Profile], ...] = (
    (
        r"qwen-?3.*(instruct|embedding|reranker|coder)",
        Profile(name="qwen3-instruct", temperature=0.7, top_p=0.8, top_k=20),
    ),
    (r"qwen-?3|qwq", _reasoning_profile("qwen3", 0.6, 0.95, 20)),
    (r"deepseek.*(r1|reasoner)|r1-distill", _reasoning_profile("deepseek-r1", 0.6, 0.95)),
    (
        r"gpt-oss",
        _reasoning_profile("gpt-oss", 1.0, 1.0).model_copy(
            update={"thinking": HARMONY, "reopens": False}
        ),
    ),
    (
        r"magistral",
        _reasoning_profile("magistral", 0.7, 0.95).model_copy(update={"thinking": MISTRAL}),
    ),
    (r"phi-?4.*reasoning", _reasoning_profile("phi-4-reasoning", 0.8, 0.95, 50)),
    (
        r"openthinker|s1\.1|light-r1|skywork-or1|acereason|nemotron.*reason|thinking",
        _reasoning_profile("thinking", 0.6, 0.95),
    ),
    (r"qwen-?2", Profile(name="qwen2", temperature=0.7, top_p=0.8, top_k=20)),
    (r"llama-?[23]", Profile(name="llama", temperature=0.6, top_p=0.9)),
    (r"mistral|ministral|mixtral", Profile(name="mistral", temperature=0.7)),
    (r"gemma", Profile(name="gemma", temperature=1.0, top_p=0.95, top_k=64)),
    (r"smollm3", _reasoning_profile("smollm3", 0.6, 0.95)),
    (r"smollm", Profile(name="smollm", temperature=0.7, top_p=0.9)),
)

OTHER = Profile(name="other")
"""Profile of an unknown model family."""


def profile_of(model: str, overrides: Iterable[tuple[str, Profile]] = ()) -> Profile:
    """Return the first profile whose pattern occurs in the model's name, ignoring case.

    `overrides` precede the built-in profiles.
    """
    return next(
        (
            profile
            for pattern, profile in (*overrides, *_FAMILIES)
            if re.search(pattern, model, re.IGNORECASE)
        ),
        OTHER,
    )

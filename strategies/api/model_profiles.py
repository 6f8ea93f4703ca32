"""What is particular to a family of models: whether it thinks aloud, between which marks, and how it wants to be drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Profile(BaseModel):
    """How to treat a model. Other code asks for these properties and never for a model's name.

    `thinking` are the marks around its thoughts, and `reopens` says that closed thoughts go on when their closing mark is
    taken away, which is not so where they are a message of their own. `temperature`, `top_p` and `top_k` are what its makers recommend for
    drafts (None: the engine's default). `own_reference`: as a judge it does better when it first writes a solution of
    its own (arXiv 2505.11227: on for instruct models, off for those that reason).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    is_thinking: bool = False
    thinking: tuple[str, str] = ("<think>", "</think>")
    reopens: bool = True
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    own_reference: bool = True

    def judge_temperature(self, wanted: float | None = None) -> float:
        """The temperature of a verdict: `wanted`, else 0; for a model that thinks never 0, at which it would loop."""
        if self.is_thinking and not wanted:
            return self.temperature or 0.6
        return wanted or 0.0

    def conclusion(self, text: str) -> str:
        """What follows the thoughts in a text that still holds them; judges are shown conclusions, not thoughts."""
        _, mark, rest = text.rpartition(self.thinking[1])
        return rest.lstrip() if mark and rest.strip() else text


def _thinks(name: str, temperature: float, top_p: float, top_k: int | None = None) -> Profile:
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
    (r"qwen-?3|qwq", _thinks("qwen3", 0.6, 0.95, 20)),
    (r"deepseek.*(r1|reasoner)|r1-distill", _thinks("deepseek-r1", 0.6, 0.95)),
    (
        r"gpt-oss",
        _thinks("gpt-oss", 1.0, 1.0).model_copy(
            update={
                "thinking": ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
                "reopens": False,
            }
        ),
    ),
    (
        r"magistral",
        _thinks("magistral", 0.7, 0.95).model_copy(update={"thinking": ("[THINK]", "[/THINK]")}),
    ),
    (r"phi-?4.*reasoning", _thinks("phi-4-reasoning", 0.8, 0.95, 50)),
    (
        r"openthinker|s1\.1|light-r1|skywork-or1|acereason|nemotron.*reason|thinking",
        _thinks("thinking", 0.6, 0.95),
    ),
    (r"qwen-?2", Profile(name="qwen2", temperature=0.7, top_p=0.8, top_k=20)),
    (r"llama-?[23]", Profile(name="llama", temperature=0.6, top_p=0.9)),
    (r"mistral|ministral|mixtral", Profile(name="mistral", temperature=0.7)),
    (r"gemma", Profile(name="gemma", temperature=1.0, top_p=0.95, top_k=64)),
    (r"smollm3", _thinks("smollm3", 0.6, 0.95)),
    (r"smollm", Profile(name="smollm", temperature=0.7, top_p=0.9)),
)

OTHER = Profile(name="other")
"""A model of no known family."""


def profile_of(model: str, own: Iterable[tuple[str, Profile]] = ()) -> Profile:
    """The profile of a model by its name: the first whose pattern is found in it, in any case; `own` come first."""
    return next(
        (
            profile
            for pattern, profile in (*own, *_FAMILIES)
            if re.search(pattern, model, re.IGNORECASE)
        ),
        OTHER,
    )

"""Grades of finished drafts from written verdicts.

A verdict is on the whole draft, or states its first wrong step. Grades need no label probabilities.
The judge may first write a reference solution, which its prompts then contain as data. That helps
instruct models and harms reasoning models (arXiv 2505.11227).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, create_model

from secondpass.strategies.api import quoting
from secondpass.strategies.api.calibration import apply_calibration
from secondpass.strategies.api.errors import VerdictUnreadable
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.step_splitter import split_steps
from secondpass.strategies.api.values import SOLVE, Completion, Draw
from secondpass.strategies.judging.reply_schemas import Critique, ReplySchema

WrittenKind: TypeAlias = Literal["first_error", "verdict"]
"""Content of a written verdict: the first wrong step, or whether the whole draft is correct."""

Reference: TypeAlias = Literal["auto", "on", "off"]
"""Use of a reference solution written by the judge; auto: as its model profile recommends."""

SAMPLE_TEMPERATURE = 0.6
"""Sampling temperature of several verdicts on one draft, if the judge's profile recommends none."""


class FirstError(ReplySchema):
    """The first wrong step of a solution (from 1; None if no step is wrong), preceded by the reason."""

    reason: Annotated[str, Field(max_length=600)]
    first_wrong_step: int | None = Field(ge=1)


@lru_cache(maxsize=256)
def first_error_schema(steps: int) -> type[FirstError]:
    """Return the reply schema for a draft, with `first_wrong_step` limited to 1 to `steps`."""
    number = Annotated[int, Field(ge=1, le=steps)]
    return create_model("FirstError", __base__=FirstError, first_wrong_step=(number | None, ...))


def share_before_error(first_wrong: int | None, steps: int) -> float:
    """Return the share (0 to 1) of the steps before the first wrong one; 1 if no step is wrong.

    Raises VerdictUnreadable for a step outside 1 to `steps`.
    """
    if first_wrong is None:
        return 1.0
    if not 1 <= first_wrong <= steps:
        raise VerdictUnreadable(f"first_wrong_step must be from 1 to {steps}, got {first_wrong}")
    return (first_wrong - 1) / steps


@dataclass(frozen=True, slots=True)
class _GradingPrompt:
    """Prompt of a written verdict with its values, the reply schema, and the grade (0 to 1) of a reply."""

    name: str
    values: dict[str, Any]
    schema: type[ReplySchema]
    grade: Callable[[Any], float]


def _grading_prompt(kind: WrittenKind, text: str) -> _GradingPrompt:
    if kind == "verdict":
        return _GradingPrompt(
            "critique",
            {"candidate": text},
            Critique,
            lambda found: float(found.verdict == "correct"),
        )
    steps = split_steps(text)
    return _GradingPrompt(
        "first_error",
        {"steps": steps},
        first_error_schema(len(steps)),
        lambda found: share_before_error(found.first_wrong_step, len(steps)),
    )


async def written_grade(
    run: Run,
    draft: Completion,
    kind: WrittenKind,
    *,
    samples: int = 1,
    reference: str | None = None,
) -> float | None:
    """Return the mean grade (0 to 1) of `samples` written verdicts on a draft; None if none is readable.

    The grade of a verdict on the whole draft is 1 or 0, that of a first wrong step the share of the
    steps before it. Each grade is calibrated if its kind has a calibration. A single verdict is
    drawn at the default temperature of verdicts, several at the one that the judge's profile
    recommends. `reference` is a solution that the prompt contains as data.
    """
    text = run.model("actor").profile.conclusion(draft.text)
    if quoting.degenerate(text):
        return None
    prompt = _grading_prompt(kind, text)
    values = prompt.values if reference is None else prompt.values | {"reference": reference}
    judge = run.model("judge")
    draw = Draw(
        temperature=judge.profile.temperature or SAMPLE_TEMPERATURE if samples > 1 else None
    )
    measured = judge.calibration(kind)

    async def read(sample: int) -> float:
        _, found = await run.critique(
            prompt.name if reference is None else f"{prompt.name}_reference",
            prompt.schema,
            role="judge",
            index=draft.index * samples + sample,
            draw=draw,
            question=run.question,
            **values,
        )
        return apply_calibration(prompt.grade(found), measured)

    found = await run.map(read, range(samples), min_results=0)
    grades = [grade for grade in found if grade is not None]
    return math.fsum(grades) / len(grades) if grades else None


async def reference_solution(run: Run, wanted: Reference = "auto") -> str | None:
    """Have the judge write a reference solution and return its conclusion; None if none is wanted.

    Also None, with a note, if the judge's solution failed, was truncated or is degenerate.
    """
    profile = run.model("judge").profile
    if wanted == "off" or (wanted == "auto" and not profile.own_reference):
        return None
    draw = Draw(temperature=profile.judge_temperature())

    async def write(prompt: str) -> Completion:
        return await run.ask(prompt, role="judge", draw=draw)

    [own] = await run.map(write, [SOLVE], min_results=0)
    text = "" if own is None or own.is_truncated else profile.conclusion(own.text)
    if quoting.degenerate(text):
        run.note("reference", "none: the judge did not finish a reference solution")
        return None
    run.note("reference", "one solution written by the judge, shown with every draft")
    return text

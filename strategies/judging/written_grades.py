"""Grades of finished solutions from a judge's written verdict: the first wrong step, or a verdict on the whole.

No label probabilities are needed. The judge may first write a solution of its own, which it is then shown as data: that
helps instruct models and harms those that reason (arXiv 2505.11227).
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

Written: TypeAlias = Literal["first_error", "verdict"]
"""What the judge is asked for: the first wrong step, or whether the whole is right."""

Reference: TypeAlias = Literal["auto", "on", "off"]
"""Whether the judge first writes a solution of its own; auto: as its profile says."""

TEMPERATURE = 0.6
"""Of several samples of one verdict, where the judge's profile names none."""


class FirstError(ReplySchema):
    """The first wrong step of a solution; `first_wrong_step` counts from 1, None when no step is wrong."""

    reason: Annotated[str, Field(max_length=600)]
    first_wrong_step: int | None = Field(ge=1)


@lru_cache(maxsize=256)
def first_error_among(steps: int) -> type[FirstError]:
    """The shape of a verdict on so many steps, which names one of them: an engine that holds to it names no other."""
    number = Annotated[int, Field(ge=1, le=steps)]
    return create_model("FirstError", __base__=FirstError, first_wrong_step=(number | None, ...))


def share_before(first_wrong: int | None, steps: int) -> float:
    """1 when no step is wrong, else the share (0 to 1) of the steps before the first wrong one.

    Raises VerdictUnreadable for a step outside 1 to `steps`.
    """
    if first_wrong is None:
        return 1.0
    if not 1 <= first_wrong <= steps:
        raise VerdictUnreadable(f"step {first_wrong} of {steps} steps")
    return (first_wrong - 1) / steps


@dataclass(frozen=True, slots=True)
class _Form:
    """A question to the judge: the prompt and what fills it, the shape of the reply, and the grade (0 to 1) in it."""

    prompt: str
    values: dict[str, Any]
    shape: type[ReplySchema]
    grade: Callable[[Any], float]


def _form(kind: Written, text: str) -> _Form:
    if kind == "verdict":
        return _Form(
            "critique",
            {"candidate": text},
            Critique,
            lambda found: float(found.verdict == "correct"),
        )
    steps = split_steps(text)
    return _Form(
        "first_error",
        {"steps": steps},
        first_error_among(len(steps)),
        lambda found: share_before(found.first_wrong_step, len(steps)),
    )


async def written_grade(
    run: Run, draft: Completion, kind: Written, *, samples: int = 1, reference: str | None = None
) -> float | None:
    """The mean grade (0 to 1) over `samples` verdicts on a draft, each calibrated where that was measured.

    A verdict grades 1 or 0; a first wrong step the share of the steps before it. One verdict is drawn as verdicts are,
    several at the temperature that the judge's profile recommends. None where no verdict can be read.
    """
    text = run.model("actor").profile.conclusion(draft.text)
    if quoting.degenerate(text):
        return None
    form = _form(kind, text)
    values = form.values if reference is None else form.values | {"reference": reference}
    judge = run.model("judge")
    draw = Draw(temperature=judge.profile.temperature or TEMPERATURE if samples > 1 else None)
    measured = judge.calibration(kind)

    async def read(sample: int) -> float:
        _, found = await run.critique(
            form.prompt if reference is None else f"{form.prompt}_reference",
            form.shape,
            role="judge",
            index=draft.index * samples + sample,
            draw=draw,
            question=run.question,
            **values,
        )
        return apply_calibration(form.grade(found), measured)

    found = await run.map(read, range(samples), min_results=0)
    grades = [grade for grade in found if grade is not None]
    return math.fsum(grades) / len(grades) if grades else None


async def own_reference(run: Run, wanted: Reference = "auto") -> str | None:
    """The conclusion of a solution that the judge writes itself, where one is wanted.

    None, and a note, where the judge finished none.
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
        run.note("reference", "none: the judge finished no solution of its own")
        return None
    run.note("reference", "one solution of the judge's own, shown with every draft")
    return text

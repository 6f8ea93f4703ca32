"""A grade from the first wrong step of a finished solution, as a judge that reads all of them names it.

The judge need not give label probabilities. It may first write a solution of its own, which it is then shown as data: that
helps instruct models and harms those that reason (arXiv 2505.11227).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field, create_model

from secondpass.strategies import quoting
from secondpass.strategies.core import (
    SOLVE,
    SURVIVABLE,
    Completion,
    EngineError,
    Run,
    UnusableCompletion,
    VerdictUnreadable,
)
from secondpass.strategies.parsing import split_steps
from secondpass.strategies.verdicts import Reply

TEMPERATURE = 0.6
"""Of several samples of one verdict, where the judge's profile names none."""


class FirstError(Reply):
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

    Raises VerdictUnreadable for a step that there is not.
    """
    if first_wrong is None:
        return 1.0
    if not 1 <= first_wrong <= steps:
        raise VerdictUnreadable(f"step {first_wrong} of {steps} steps")
    return (first_wrong - 1) / steps


async def first_error_grade(
    run: Run, draft: Completion, *, samples: int = 1, reference: str | None = None
) -> float | None:
    """The mean over `samples` verdicts of how much of the draft comes before an error; None where none can be read.

    One verdict is drawn as verdicts are, several at the temperature that the judge's profile recommends.
    """
    text = run.profile("actor").conclusion(draft.text)
    if quoting.degenerate(text):
        return None
    steps = split_steps(text)
    prompt = "first_error" if reference is None else "first_error_reference"
    more: dict[str, Any] = {} if reference is None else {"reference": reference}
    temperature = run.profile("judge").temperature or TEMPERATURE if samples > 1 else None

    async def read(sample: int) -> float:
        _, found = await run.critique(
            prompt,
            first_error_among(len(steps)),
            role="judge",
            index=draft.index * samples + sample,
            temperature=temperature,
            question=run.question,
            steps=steps,
            **more,
        )
        return share_before(found.first_wrong_step, len(steps))

    try:
        grades = await run.map(read, range(samples))
    except SURVIVABLE:
        return None
    return sum(grades) / len(grades)


async def own_reference(run: Run) -> str | None:
    """A solution of the judge's own, its conclusion only; None, and a note, where it could not write a whole one."""
    profile = run.profile("judge")
    try:
        own = await run.ask(SOLVE, role="judge", temperature=profile.judge_temperature())
    except (EngineError, UnusableCompletion) as error:
        run.note("reference", f"none: {error}")
        return None
    if own.is_cut or quoting.degenerate(text := profile.conclusion(own.text)):
        run.note("reference", "none: what the judge wrote is no whole solution")
        return None
    run.note("reference", "one solution of the judge's own, shown with every draft")
    return text

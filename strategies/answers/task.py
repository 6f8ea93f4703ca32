"""Tasks: the kind of answer to a question, its extraction from a completion, and its normal form.

Votes count answers instead of texts. Extraction is therefore conservative: an uncertain answer is None.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate
from operator import sub
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from secondpass.strategies.answers import choice, code, numeric, task_guess
from secondpass.strategies.answers.forms import normal_form
from secondpass.strategies.answers.markers import (
    DELIMITERS,
    THINK,
    Delimiters,
    conclusion,
    first_turn,
)

Kind = Literal["math", "choice", "code", "open"]

MAX_BRACE_DEPTH = 100
_BLOCK = 12
MAX_OPTIONS = 26
MAX_OPTION_LENGTH = 2000


def brace_depth(text: str) -> int:
    """Return the nesting depth of `{`, escaped ones included; unmatched `}` are ignored."""
    braces = re.sub(r"[^{}]+", "", text)
    deepest = depth = 0
    for at in range(0, len(braces), _BLOCK):
        total, lowest, highest, alone = _block(braces[at : at + _BLOCK])
        deepest = max(deepest, depth + highest, alone)
        depth = total + max(depth, -lowest)
    return deepest


@lru_cache(maxsize=1 << _BLOCK)
def _block(braces: str) -> tuple[int, int, int, int]:
    """Return four depths of a few braces: last, lowest, highest, and the deepest nesting within.

    The first three count unmatched `}` as negative, so that they can be added to the depth before these braces.
    """
    depths = list(accumulate((1 if brace == "{" else -1 for brace in braces), initial=0))
    lows = accumulate(depths, min)
    return depths[-1], min(depths), max(depths), max(map(sub, depths, lows))


def _option(text: str) -> str:
    if not text.strip():
        raise ValueError("an option must not be blank")
    if brace_depth(text) > MAX_BRACE_DEPTH:
        raise ValueError(f"the braces of an option must not nest deeper than {MAX_BRACE_DEPTH}")
    return text


Option = Annotated[str, Field(min_length=1, max_length=MAX_OPTION_LENGTH), AfterValidator(_option)]


class TaskRequest(BaseModel):
    """The task as stated by a client."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Field(description="kind of the answer")
    options: tuple[Option, ...] = Field(
        default=(),
        max_length=MAX_OPTIONS,
        fail_fast=True,
        validate_default=True,
        description="2 to 26 texts, named A, B, ... in order; only for kind choice",
    )
    tests: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="source text of the tests; only for kind code",
    )

    @field_validator("options")
    @classmethod
    def _options_fit(cls, options: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        kind = info.data.get("kind")
        if kind == "choice" and len(options) < 2:
            raise ValueError(f"kind 'choice' requires 2 to {MAX_OPTIONS} options")
        if kind not in ("choice", None) and options:
            raise ValueError(f"only kind 'choice' takes options, not kind {kind!r}")
        return options

    @field_validator("tests")
    @classmethod
    def _tests_fit(cls, tests: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if kind not in ("code", None) and tests is not None:
            raise ValueError(f"only kind 'code' takes tests, not kind {kind!r}")
        if tests is not None and not tests.strip():
            raise ValueError("tests must not be blank: any code would pass them")
        return tests

    def as_task(self) -> Task:
        """Return the task, not guessed."""
        return Task(**self.model_dump())


class Task(TaskRequest):
    """The task of a run. `guessed` is True if the client did not state it."""

    guessed: bool = False

    @property
    def letters(self) -> str:
        """Letters of the options in order, for example "ABCD"."""
        return choice.letters(self.options)


def guess(question: str) -> Task:
    """Guess the task of a question: choice if it lists options, math if it is quantitative, else open."""
    options = task_guess.options(question)
    is_usable = 2 <= len(options) <= MAX_OPTIONS and all(
        len(option) <= MAX_OPTION_LENGTH and brace_depth(option) <= MAX_BRACE_DEPTH
        for option in options
    )
    if is_usable:
        return Task(kind="choice", options=options, guessed=True)
    return Task(kind="math" if task_guess.is_quantitative(question) else "open", guessed=True)


def extract(
    task: Task, text: str, *, finished: bool = True, delimiters: Delimiters = THINK
) -> str | None:
    """Return the answer in a completion, or None; never an empty string. Takes linear time.

    Reasoning and end tokens are removed. An answer that is uncertain, or a part of something larger, is None.

    Args:
        task: The task, which determines the kind of the answer.
        text: Text of the completion.
        finished: False for a truncated completion. Only a complete final answer then counts: a closed box, or a statement
            whose sentence has ended.
        delimiters: Opening and closing delimiter of the model's reasoning. Those of known models always count.
    """
    tail = conclusion(text, (*DELIMITERS, delimiters))
    if tail is None:
        return None
    match task.kind:
        case "math":
            answer = numeric.extract(first_turn(tail), finished=finished)
        case "choice":
            answer = choice.extract(first_turn(tail), task.options, finished=finished)
        case "code":
            answer = code.extract(tail, finished=finished)
        case "open":
            answer = tail if finished else None
    return (answer and answer.strip()) or None


def normalise(task: Task, answer: str) -> str:
    r"""Return the normal form of an answer: answers with equal forms are equal.

    A number is an exact fraction without separators: "1,000.50" is "2001/2". Other mathematical forms also contain the unit.
    A choice is its upper-case letter.
    """
    match task.kind:
        case "math":
            return normal_form.normalise(answer)
        case "choice":
            return choice.normalise(answer, task.options)
        case "code":
            return code.normalise(answer)
        case "open":
            return " ".join(answer.split())


def needs_comparison(task: Task) -> bool:
    """Return True if answers with different normal forms may be equivalent."""
    return task.kind == "math"


def format_prompt(task: Task) -> str | None:
    """Return the name of the answer-format prompt, if any; `format_choice` has the placeholder `letters`."""
    return {"math": "format_math", "choice": "format_choice"}.get(task.kind)

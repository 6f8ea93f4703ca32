"""What kind of answer a question has, and how that answer is read from a completion and compared.

A vote counts answers, not texts, so everything here errs on one side: an answer that is not certain is None.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from secondpass.strategies.answers import choice, code, numeric, task_guess
from secondpass.strategies.answers.markers import conclusion

Kind = Literal["math", "choice", "code", "open"]

MAX_BRACE_DEPTH = 100
MAX_OPTIONS = 26
MAX_OPTION_LENGTH = 2000


def brace_depth(text: str) -> int:
    """How deep `{` nest in `text`, escaped ones included; a `}` too many counts as nothing."""
    deepest = depth = 0
    for brace in re.findall(r"[{}]", text):
        depth = depth + 1 if brace == "{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _option(text: str) -> str:
    if not text.strip():
        raise ValueError("an option must not be blank")
    if brace_depth(text) > MAX_BRACE_DEPTH:
        raise ValueError(f"an option's braces must not nest deeper than {MAX_BRACE_DEPTH}")
    return text


Option = Annotated[str, Field(min_length=1, max_length=MAX_OPTION_LENGTH), AfterValidator(_option)]


class TaskRequest(BaseModel):
    """The task as a client states it.

    `options` (2 to 26 texts, named A, B, ... in order) belong to kind "choice", and `tests` (source text) to kind
    "code". Raises ValidationError at the field that is missing or out of place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    options: tuple[Option, ...] = Field(default=(), max_length=MAX_OPTIONS, validate_default=True)
    tests: str | None = Field(default=None, min_length=1, validate_default=True)

    @field_validator("options")
    @classmethod
    def _options_fit(cls, options: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        kind = info.data.get("kind")
        if kind == "choice" and len(options) < 2:
            raise ValueError(f"kind 'choice' needs 2 to {MAX_OPTIONS} options")
        if kind not in ("choice", None) and options:
            raise ValueError(f"only kind 'choice' takes options, and this is kind {kind!r}")
        return options

    @field_validator("tests")
    @classmethod
    def _tests_fit(cls, tests: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if kind not in ("code", None) and tests is not None:
            raise ValueError(f"only kind 'code' takes tests, and this is kind {kind!r}")
        if tests is not None and not tests.strip():
            raise ValueError("tests are blank, which any code would pass")
        return tests

    def as_task(self) -> Task:
        """The task that was asked for in so many words."""
        return Task(**self.model_dump())


class Task(TaskRequest):
    """The task of a run, as resolved: `guessed` says that the client did not state it."""

    guessed: bool = False

    @property
    def letters(self) -> str:
        """The letters that name the options, in order: "ABCD"."""
        return choice.letters(self.options)


def guess(question: str) -> Task:
    """The task that `question` seems to set: choice when it lists options, math when it is quantitative."""
    options = task_guess.options(question)
    is_usable = 2 <= len(options) <= MAX_OPTIONS and all(
        len(option) <= MAX_OPTION_LENGTH and brace_depth(option) <= MAX_BRACE_DEPTH
        for option in options
    )
    if is_usable:
        return Task(kind="choice", options=options, guessed=True)
    return Task(kind="math" if task_guess.is_quantitative(question) else "open", guessed=True)


def extract(task: Task, text: str, *, finished: bool = True) -> str | None:
    """The answer that a completion gives; None when it gives none (never the empty string).

    With `finished` False, when a limit cut the completion, only a final answer that is stated and complete
    counts: a closed box, or a statement whose sentence has ended. Thinking is never searched. Linear in the text.
    """
    match task.kind:
        case "math":
            answer = numeric.extract(text, finished=finished)
        case "choice":
            answer = choice.extract(text, task.options, finished=finished)
        case "code":
            answer = code.extract(text, finished=finished)
        case "open":
            answer = conclusion(text) if finished else None
    return (answer and answer.strip()) or None


def normalise(task: Task, answer: str) -> str:
    r"""The canonical form of an answer: equal forms are equal answers.

    Numbers are exact decimals without separators, currency or percent signs ("$1,000.0" is "1000"); fractions of
    integers are "3/4"; LaTeX wrappers and spacing are gone. A choice is its upper-case letter.
    """
    match task.kind:
        case "math":
            return numeric.normalise(answer)
        case "choice":
            return choice.normalise(answer, task.options)
        case "code":
            return code.normalise(answer)
        case "open":
            return " ".join(answer.split())


def needs_comparison(task: Task) -> bool:
    """True when answers with different normal forms may be equivalent all the same."""
    return task.kind == "math"


def format_prompt(task: Task) -> str | None:
    """The name of the prompt that says how to write the answer; `format_choice` has the placeholder `letters`."""
    return {"math": "format_math", "choice": "format_choice"}.get(task.kind)

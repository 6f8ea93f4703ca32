"""Extraction takes linear time: bounded patterns, and twice the calls for twice the text."""

import importlib
import re
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from secondpass.strategies.answers import (
    choice,
    fields,
    items,
    letters,
    markers,
    numeric,
    quantities,
    statements,
)
from secondpass.strategies.answers.task import Task, extract

PARSER = importlib.import_module("re._parser")
UNBOUNDED = PARSER.MAXREPEAT
TASKS = (
    Task(kind="math"),
    Task(kind="choice", options=("an apple", "a banana", "a cherry")),
    Task(kind="open"),
)
UNITS = (
    "{", "\\boxed{", "\\boxed{1} and ", "$1 ", "\\(", "\\[", "1, ", "1 and ", "5 apples, ", "2 hours ", "answer ", "The answer is ",
    "The answer is not A ", "A or ", "A is wrong. ", "So C. ", "<think>", "</think>", "<answer>", '{"answer": ', "```json\n{\n", "#### 1\n",
    "答案是", "정답은 A가 아니라 ", "Rs. ", "- 2\n", "**1", "x = 1, ", "1\u00b9", "e.g. ", "1 000 ", "_", "1_", "<b>", "<<", "if A, ", "A가 ", "1 Ann has 2 and Bob ",
)  # fmt: skip


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for module in (choice, fields, items, letters, markers, numeric, quantities, statements):
        for key, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield f"{module.__name__.rpartition('.')[2]}.{key}", value


def nested(tokens: Any, *, is_inside: bool = False) -> bool:
    """Return True if a repetition without a bound contains another that can match the same text."""
    for operator, argument in tokens:
        name = str(operator)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            _, highest, body = argument
            is_unbounded = highest is UNBOUNDED
            if is_unbounded and is_inside:
                return True
            if nested(body, is_inside=is_inside or is_unbounded):
                return True
        elif (name == "SUBPATTERN" and nested(argument[3], is_inside=is_inside)) or (
            name == "BRANCH" and any(nested(each, is_inside=is_inside) for each in argument[1])
        ):
            return True
    return False


@pytest.mark.parametrize("named", list(patterns()), ids=lambda pair: pair[0])
def test_no_unbounded_repetition_contains_another(named: tuple[str, re.Pattern[str]]) -> None:
    _, pattern = named
    assert not nested(PARSER.parse(pattern.pattern, pattern.flags))


def calls_of(task: Task, text: str) -> int:
    """Return the number of Python and C calls of an extraction."""
    count = 0

    def counted(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        extract(task, text)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("unit", UNITS)
def test_a_text_of_twice_the_size_takes_at_most_twice_the_calls(unit: str, task: Task) -> None:
    extract(task, unit * 10)
    once, twice = (calls_of(task, unit * (size // len(unit))) for size in (20_000, 40_000))
    assert twice <= 2.2 * once + 200


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("unit", UNITS)
def test_a_text_of_200_kilobytes_takes_at_most_seconds(unit: str, task: Task) -> None:
    text = unit * (200_000 // len(unit))
    start = time.process_time()
    extract(task, text)
    assert time.process_time() - start < 6

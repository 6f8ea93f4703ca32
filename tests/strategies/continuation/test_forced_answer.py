"""Parsing of forced answers."""

from __future__ import annotations

import pytest

from secondpass.strategies.answers.task import Task
from secondpass.strategies.continuation.forced_answer import parse_forced_answer
from secondpass.testing.support import MATH

CHOICE = Task(kind="choice", options=("red", "green", "blue"))


@pytest.mark.parametrize(
    ("task", "reply", "answer"),
    [
        (MATH, "42}. And", "42}."),
        (MATH, "\\frac{1}{2}}$", "\\frac{1}{2}}."),
        (MATH, "\\}, 4}", "\\}, 4}."),
        (MATH, "42", None),
        (MATH, "\x00\ufffd}", None),
        (MATH, "}", None),
        (CHOICE, " B. Since", " B"),
        (CHOICE, " (c)", " C"),
        (CHOICE, " D", None),
        (CHOICE, " Blue", None),
        (CHOICE, "", None),
    ],
)
def test_only_a_complete_answer_is_parsed_from_a_forced_reply(
    task: Task, reply: str, answer: str | None
) -> None:
    assert parse_forced_answer(task, reply) == answer

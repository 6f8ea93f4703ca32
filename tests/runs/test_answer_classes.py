"""Answers that count as the same."""

from __future__ import annotations

import pytest

from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.values import Candidate
from secondpass.testing.support import (
    make_run,
)

pytestmark = pytest.mark.anyio


async def test_same_compares_as_the_task_does() -> None:
    run = make_run()
    assert await run.same("1,000", "1000.0")
    assert not await run.same("41", "42")
    choice = make_run(task=Task(kind="choice", options=("red", "blue")))
    assert await choice.same("a", "A")


async def test_equal_answers_have_one_class_and_open_texts_have_none() -> None:
    run = make_run()
    found = [
        await run.class_of(Candidate(text="", answer=answer))
        for answer in ("7", "8", "7.0", None, "8")
    ]
    assert found == [0, 1, 0, None, 1]
    assert await make_run(task=Task(kind="open")).class_of(Candidate(text="x", answer="x")) is None

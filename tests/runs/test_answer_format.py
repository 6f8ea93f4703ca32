"""The answer format that is added to the question of an explicit task."""

from __future__ import annotations

import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.values import SOLVE
from secondpass.testing.support import (
    make_run,
)

pytestmark = pytest.mark.anyio


async def test_an_explicit_task_adds_its_answer_format_to_the_question() -> None:
    engine = ScriptedEngine()
    task = Task(kind="choice", options=("red", "blue"))
    run = make_run(engine, question="Which?", task=task, task_is_explicit=True)
    await run.ask(SOLVE)
    (message,) = engine.calls[0].messages
    assert message.text.startswith("Which?\n\nA) red\nB) blue\n\nExactly one of the options A, B")


async def test_options_that_the_question_names_are_not_repeated() -> None:
    engine = ScriptedEngine()
    task = Task(kind="choice", options=("red", "blue"))
    run = make_run(engine, question="A: red, or B: blue?", task=task, task_is_explicit=True)
    await run.ask(SOLVE)
    assert engine.calls[0].messages[0].text.startswith("A: red, or B: blue?\n\nExactly one")

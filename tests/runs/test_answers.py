"""How answers are asked for, and which of them count as the same."""

from __future__ import annotations

import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.run_spec import Shared
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.values import SOLVE, Candidate
from secondpass.testing.support import MATH, make_run

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("task", "answers", "classes"),
    [
        (MATH, ("1,000", "1000.0", "41", "42"), [0, 0, 1, 2]),
        (Task(kind="choice", options=("red", "blue")), ("a", "A", "B"), [0, 0, 1]),
    ],
)
async def test_answers_are_classed_as_the_task_compares_them(
    task: Task, answers: tuple[str, ...], classes: list[int]
) -> None:
    async with Equivalence(workers=1) as equivalence:
        run = make_run(task=task, shared=Shared(equivalence))
        found = [await run.class_of(Candidate(text="", answer=each)) for each in answers]
    assert found == classes


async def test_equal_answers_have_one_class_and_open_texts_have_none() -> None:
    run = make_run()
    found = [
        await run.class_of(Candidate(text="", answer=answer))
        for answer in ("7", "8", "7.0", None, "8")
    ]
    assert found == [0, 1, 0, None, 1]
    assert await make_run(task=Task(kind="open")).class_of(Candidate(text="x", answer="x")) is None


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

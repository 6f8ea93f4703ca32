"""Answer-format instructions and answer classes."""

from __future__ import annotations

from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.equivalence.numeric import resolve
from secondpass.service.equivalence.worker_process import WorkerFailure
from secondpass.service.runs.answer_classes import AnswerClasses
from secondpass.service.runs.run_spec import SharedResources
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
async def test_classes_follow_the_comparison_of_the_task(
    task: Task, answers: tuple[str, ...], classes: list[int]
) -> None:
    async with Equivalence(workers=1) as equivalence:
        run = make_run(task=task, shared=SharedResources(equivalence))
        class_ids = [await run.class_of(Candidate(text="", answer=each)) for each in answers]
    assert class_ids == classes


async def test_equal_answers_share_a_class_and_open_tasks_have_no_classes() -> None:
    run = make_run()
    class_ids = [
        await run.class_of(Candidate(text="", answer=answer))
        for answer in ("7", "8", "7.0", None, "8")
    ]
    assert class_ids == [0, 1, 0, None, 1]
    assert await make_run(task=Task(kind="open")).class_of(Candidate(text="x", answer="x")) is None


async def test_a_class_id_compares_as_the_one_that_is_valid_now() -> None:
    async with Equivalence(workers=1) as equivalence:
        run = make_run(task=MATH, shared=SharedResources(equivalence))
        bare, one = [
            await run.class_of(Candidate(text="", answer=each)) for each in ("18", "18 cm")
        ]
        assert bare == one
        assert len({bare, one}) == 1
        other = await run.class_of(Candidate(text="", answer="18 m"))
        assert len({bare, one, other}) == 3
        assert [bare, one, other] == [0, 1, 2]


ANSWERS = ["x+x", "2x", "Q+1", "Q+2", "Q+3", "1+Q", "3", "6/2", r"\sqrt{2}", r"\frac{2}{\sqrt{2}}"]


@pytest.mark.parametrize("order", [ANSWERS, ANSWERS[::-1], ANSWERS[4:] + ANSWERS[:4]])
async def test_classes_never_depend_on_when_the_allowance_was_spent(
    order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(request: list[Any]) -> list[Any] | WorkerFailure:
        if "'Q'" in str(request):
            return WorkerFailure.EXHAUSTED
        return [resolve(request[0]), []]

    async with Equivalence() as equivalence:
        monkeypatch.setattr(equivalence, "_ask", ask)
        classes = AnswerClasses(MATH, equivalence)
        found = {answer: await classes.of(answer) for answer in order}
        equal = {(a, b) for a in found for b in found if found[a] == found[b] and a < b}
    assert equal == {("3", "6/2")}  # four answers exhaust a worker: no formula counts as evaluated


async def test_explicit_task_appends_its_answer_format_to_the_question() -> None:
    engine = ScriptedEngine()
    task = Task(kind="choice", options=("red", "blue"))
    run = make_run(engine, question="Which?", task=task, task_is_explicit=True)
    await run.ask(SOLVE)
    (message,) = engine.calls[0].messages
    assert message.text.startswith("Which?\n\nA) red\nB) blue\n\nExactly one of the options A, B")


async def test_options_in_the_question_are_not_repeated() -> None:
    engine = ScriptedEngine()
    task = Task(kind="choice", options=("red", "blue"))
    run = make_run(engine, question="A: red, or B: blue?", task=task, task_is_explicit=True)
    await run.ask(SOLVE)
    assert engine.calls[0].messages[0].text.startswith("A: red, or B: blue?\n\nExactly one")

"""Correctness of answers by kind of question: equivalence, letter, or unit tests in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import anyio

from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.lab.evaluation.answer_log import LoggedAnswer, Setting
from secondpass.service.lab.evaluation.records import RunRecord, Tokens, from_response
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.questions import Question
from secondpass.service.sandbox.runner import run_python
from secondpass.strategies.answers.task import normalise
from secondpass.strategies.api.errors import SecondpassError

SCORED = ("math", "choice", "code")
"""Kinds with a scorer; answers to open questions cannot be scored."""


class CannotScore(SecondpassError):
    """The tests of a question cannot be run; the message contains its location."""


def check_scorable(questions: Iterable[Question]) -> None:
    """Raise BadLine for the first question without a scorer."""
    for question in questions:
        kind = question.task.kind
        if kind not in SCORED:
            problem = f"kind: must be one of {', '.join(SCORED)} to be scored, not {kind!r}"
            raise BadLine(question.path, question.line, problem)
        if kind == "code" and question.task.tests is None:
            raise BadLine(
                question.path, question.line, "test is missing; code is scored by its tests"
            )
        entry = question.row.get("entry_point")
        if entry is not None and not isinstance(entry, str):
            raise BadLine(
                question.path, question.line, f"entry_point: must be a string, not {entry!r}"
            )


class Scorer:
    """Scorer of answers that caches results; at most `sandboxes` programs run concurrently."""

    def __init__(self, equivalence: Equivalence, *, sandboxes: int = 2) -> None:
        self._equivalence = equivalence
        self._sandboxes = anyio.Semaphore(sandboxes)
        self._known: dict[tuple[str, str], tuple[bool, str]] = {}

    async def score(self, question: Question, answer: str) -> tuple[bool, str]:
        """Return whether the answer is correct, and an explanation.

        Raises:
            CannotScore: The question's own tests cannot be run.
            SandboxUnavailable: Code needs the sandbox, which cannot start.
        """
        key = (question.location, answer)
        if key not in self._known:
            self._known[key] = await self._decide(question, answer)
        return self._known[key]

    async def run_record(
        self, setting: Setting, question: Question, epoch: int, answer: LoggedAnswer
    ) -> RunRecord:
        """Return the scored record of an answer; `epoch` counts from 1. Raises like `score`."""
        if answer.document is None:
            return RunRecord(
                question=question.id,
                strategy=setting.strategy,
                setting=setting.label,
                shuffle=epoch - 1,
                correct=False,
                usage=_tokens(answer.usage),
                seconds=answer.seconds,
                error=answer.problem,
            )
        answers = (c["answer"] for c in (answer.document, *answer.document["candidates"]))
        right = {a: (await self.score(question, a))[0] for a in dict.fromkeys(answers) if a}
        return from_response(
            answer.document,
            question.answer,
            lambda text, _: right.get(text, False),
            question=question.id,
            setting=setting.label,
            shuffle=epoch - 1,
        )

    async def _decide(self, question: Question, answer: str) -> tuple[bool, str]:
        task = question.task.as_task()
        if task.kind == "code":
            async with self._sandboxes:
                return await _passes(question, answer)
        if task.kind == "choice":
            gold, given = normalise(task, question.answer), normalise(task, answer)
            return given == gold, f"{given}, expected {gold}"
        is_same = await self._equivalence.same(question.answer, answer)
        return is_same, f"{answer}, expected {question.answer}"


async def _passes(question: Question, code: str) -> tuple[bool, str]:
    entry = question.row.get("entry_point")
    verdict = await run_python(
        program(question.question, code, entry), question.task.tests or "", entry_point=entry
    )
    if verdict.status == "error":
        raise CannotScore(f"{question.location}: test: {verdict.output}")
    return verdict.status == "passed", f"{verdict.status} {verdict.output}".strip()


def program(question: str, code: str, entry_point: str | None) -> str:
    """Return the code, appended to the question if that is a stub which the code only completes."""
    if entry_point is None:
        return code
    defines = re.compile(
        rf"^\s*(?:async\s+)?(?:def|class)\s+{re.escape(entry_point.strip())}\b", re.MULTILINE
    )
    if defines.search(code) is None and defines.search(question) is not None:
        return f"{question}\n{code}"
    return code


def _tokens(usage: Mapping[str, Mapping[str, int]]) -> Tokens:
    usages = list(usage.values())

    def total(name: str) -> int:
        return sum(each.get(name, 0) for each in usages)

    return Tokens(
        decode=total("completion"),
        prompt=total("prompt"),
        cached=total("cached"),
        wasted=total("wasted"),
    )

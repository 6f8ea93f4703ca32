"""Is an answer right? By the kind of its question: equivalence, the letter, or unit tests in the sandbox."""

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
"""The kinds that have a scorer; whether an open answer is right is a matter of opinion."""


class CannotScore(SecondpassError):
    """A question's own tests cannot be run; the text says where they stand."""


def check_scorable(questions: Iterable[Question]) -> None:
    """Raise BadLine for the first question that no scorer can decide."""
    for question in questions:
        kind = question.task.kind
        if kind not in SCORED:
            problem = f"kind: {kind!r} has no scorer; one of {', '.join(SCORED)} has"
            raise BadLine(question.path, question.line, problem)
        if kind == "code" and question.task.tests is None:
            raise BadLine(question.path, question.line, "test is missing: code is scored by it")
        entry = question.row.get("entry_point")
        if entry is not None and not isinstance(entry, str):
            raise BadLine(question.path, question.line, f"entry_point: a name, not {entry!r}")


class Scorer:
    """Scores answers, each distinct one of a question once. `sandboxes` is how many run at once."""

    def __init__(self, equivalence: Equivalence, *, sandboxes: int = 2) -> None:
        self._equivalence = equivalence
        self._sandboxes = anyio.Semaphore(sandboxes)
        self._known: dict[tuple[str, str], tuple[bool, str]] = {}

    async def score(self, question: Question, answer: str) -> tuple[bool, str]:
        """Is the answer right, and a word on why. Raises CannotScore and SandboxUnavailable."""
        key = (question.location, answer)
        if key not in self._known:
            self._known[key] = await self._decide(question, answer)
        return self._known[key]

    async def attempt(
        self, setting: Setting, question: Question, epoch: int, asked: LoggedAnswer
    ) -> RunRecord:
        """What was answered as a record; `epoch` counts from 1. Raises as `score` does."""
        if asked.document is None:
            return RunRecord(
                question=question.id,
                strategy=setting.strategy,
                setting=setting.label,
                shuffle=epoch - 1,
                correct=False,
                usage=_tokens(asked.usage),
                seconds=asked.seconds,
                error=asked.problem,
            )
        given = (c["answer"] for c in (asked.document, *asked.document["candidates"]))
        right = {a: (await self.score(question, a))[0] for a in dict.fromkeys(given) if a}
        return from_response(
            asked.document,
            question.answer,
            lambda answer, _: right.get(answer, False),
            question=question.id,
            setting=setting.label,
            shuffle=epoch - 1,
        )

    async def _decide(self, question: Question, answer: str) -> tuple[bool, str]:
        task = question.task.as_task()
        if task.kind == "code":
            async with self._sandboxes:
                return await _passes(question, answer)
        gold, said = normalise(task, question.answer), normalise(task, answer)
        if task.kind == "choice":
            return said == gold, f"{said}, and {gold} is right"
        return await self._equivalence.same(gold, said), f"{answer}, and {question.answer} is right"


async def _passes(question: Question, code: str) -> tuple[bool, str]:
    entry = question.row.get("entry_point")
    verdict = await run_python(
        program(question.question, code, entry), question.task.tests or "", entry_point=entry
    )
    if verdict.status == "error":
        raise CannotScore(f"{question.location}: test: {verdict.output}")
    return verdict.status == "passed", f"{verdict.status} {verdict.output}".strip()


def program(question: str, code: str, entry_point: str | None) -> str:
    """The code; put after the question where that is a stub of the function which the code only continues."""
    if entry_point is None:
        return code
    defines = re.compile(
        rf"^\s*(?:async\s+)?(?:def|class)\s+{re.escape(entry_point.strip())}\b", re.MULTILINE
    )
    if defines.search(code) is None and defines.search(question) is not None:
        return f"{question}\n{code}"
    return code


def _tokens(usage: Mapping[str, Mapping[str, int]]) -> Tokens:
    bills = list(usage.values())

    def total(name: str) -> int:
        return sum(bill.get(name, 0) for bill in bills)

    return Tokens(
        decode=total("completion"),
        prompt=total("prompt"),
        cached=total("cached"),
        wasted=total("wasted"),
    )

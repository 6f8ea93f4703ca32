"""Questions with known answers, from JSON lines: what is recorded, replayed and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from secondpass.service.lab.pools.jsonl import BadLine, Row, read_rows
from secondpass.strategies.answers.task import Kind, TaskRequest
from secondpass.strategies.api.values import Message

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what is right: of a choice the upper-case letter, of code a solution, else the answer's text.

    `id` is unique among the questions that were read together; `row` is the line as it stands in `path`:`line`.
    """

    id: str
    question: str
    answer: str
    task: TaskRequest
    row: Row
    path: Path
    line: int

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation that a client would send."""
        return (Message(role="user", content=self.question),)

    @property
    def location(self) -> str:
        """Where it stands, as FILE:LINE."""
        return f"{self.path}:{self.line}"


def read_questions(
    path: Path | str, kind: str | None = None, *, limit: int | None = None
) -> tuple[Question, ...]:
    """The questions of a file, at most the first `limit`.

    A row has `id`, `question` and `answer` (text or a number), options of a choice in `choices`, unit tests of code in
    `test`. Its task kind is its own `kind`; without one, `kind` where it is given; else choice or code where the row
    has choices or a test. Raises BadLine for a row without any of these, for a kind that there is not, and for
    an id that stands twice.
    """
    path = Path(path)
    found: dict[str, Question] = {}
    for line, row in read_rows(path):
        if limit is not None and len(found) == limit:
            break
        question = _question(row, kind, path, line)
        if question.id in found:
            first = found[question.id].line
            raise BadLine(path, line, f"the id {question.id!r} stands in line {first} already")
        found[question.id] = question
    if not found:
        raise BadLine(path, None, "there is no question in it")
    return tuple(found.values())


def read_all(
    paths: Sequence[Path], kind: str | None = None, *, limit: int | None = None
) -> tuple[Question, ...]:
    """The questions of all files, `limit` of each. Raises BadLine, for one id in two files too."""
    found: dict[str, Question] = {}
    for path in paths:
        for question in read_questions(path, kind, limit=limit):
            if question.id in found:
                problem = f"the id {question.id!r} stands in {found[question.id].location} already"
                raise BadLine(path, question.line, problem)
            found[question.id] = question
    return tuple(found.values())


def _question(row: Row, kind: str | None, path: Path, line: int) -> Question:
    task = _task(row, kind, path, line)
    answer = _text(row, "answer", path, line)
    if task.kind == "choice" and answer not in (letters := task.as_task().letters):
        raise BadLine(path, line, f"answer: one of {', '.join(letters)}, not {answer!r}")
    return Question(
        id=_text(row, "id", path, line),
        question=_text(row, "question", path, line),
        answer=answer,
        task=task,
        row=row,
        path=path,
        line=line,
    )


def _text(row: Row, key: str, path: Path, line: int) -> str:
    value = row.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if value is None:
        raise BadLine(path, line, f"{key} is missing")
    if not isinstance(value, str) or not value.strip():
        raise BadLine(path, line, f"{key}: a text is wanted, not {value!r}")
    return value


def _task(row: Row, kind: str | None, path: Path, line: int) -> TaskRequest:
    """The row's task; fields of another kind's are not looked at."""
    wanted = row.get("kind") or kind or _evident(row)
    if wanted is None:
        raise BadLine(path, line, f"kind is missing, and none was given: one of {', '.join(KINDS)}")
    if wanted not in KINDS:
        raise BadLine(path, line, f"kind: one of {', '.join(KINDS)}, not {wanted!r}")
    values: dict[str, Any] = {"kind": wanted}
    if wanted == "choice":
        values["options"] = row.get("choices", ())
    elif wanted == "code":
        values["tests"] = row.get("test")
    try:
        return TaskRequest.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = {"options": "choices", "tests": "test"}.get(str(problem["loc"][0]), "kind")
        said = problem["msg"].removeprefix("Value error, ")
        raise BadLine(path, line, f"{field}: {said}") from error


def _evident(row: Row) -> str | None:
    if "choices" in row:
        return "choice"
    return "code" if "test" in row else None

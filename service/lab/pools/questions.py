"""Questions with known answers, read from JSON lines files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from secondpass.service.common import validation
from secondpass.service.lab.pools.jsonl import BadLine, Row, read_rows
from secondpass.strategies.answers.task import Kind, TaskRequest
from secondpass.strategies.api.values import Message

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its gold answer: an upper-case letter (choice), a solution (code), or a text.

    `id` is unique among the questions read together; `row` is the JSON object at `path`:`line`.
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
        """The conversation a client would send."""
        return (Message(role="user", content=self.question),)

    @property
    def location(self) -> str:
        """Location of the question as FILE:LINE."""
        return f"{self.path}:{self.line}"


def read_questions(
    path: Path | str, kind: str | None = None, *, limit: int | None = None
) -> tuple[Question, ...]:
    """Read the questions of a file, at most the first `limit`.

    A row has `id`, `question` and `answer` (string or number), the options of a choice in `choices`, and the unit tests
    of code in `test`. The task kind is the row's `kind`, else the argument `kind`, else choice or code if the row has
    `choices` or `test`. Raises BadLine for a missing field, an unknown kind, or a duplicate id.
    """
    path = Path(path)
    found: dict[str, Question] = {}
    for line, row in read_rows(path):
        if limit is not None and len(found) == limit:
            break
        question = _question(row, kind, path, line)
        if question.id in found:
            first = found[question.id].line
            raise BadLine(path, line, f"the id {question.id!r} is already in line {first}")
        found[question.id] = question
    if not found:
        raise BadLine(path, None, "the file contains no question")
    return tuple(found.values())


def read_all(
    paths: Sequence[Path], kind: str | None = None, *, limit: int | None = None
) -> tuple[Question, ...]:
    """Read the questions of all files, at most `limit` of each.

    Raises BadLine, also for an id in two files.
    """
    found: dict[str, Question] = {}
    for path in paths:
        for question in read_questions(path, kind, limit=limit):
            if question.id in found:
                problem = f"the id {question.id!r} is already in {found[question.id].location}"
                raise BadLine(path, question.line, problem)
            found[question.id] = question
    return tuple(found.values())


def _question(row: Row, kind: str | None, path: Path, line: int) -> Question:
    task = _task(row, kind, path, line)
    answer = _text(row, "answer", path, line)
    if task.kind == "choice" and answer not in (letters := task.as_task().letters):
        raise BadLine(path, line, f"answer: must be one of {', '.join(letters)}, not {answer!r}")
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
        raise BadLine(path, line, f"{key}: must be a non-empty string, not {value!r}")
    return value


def _task(row: Row, kind: str | None, path: Path, line: int) -> TaskRequest:
    """Return the row's task; fields of other kinds are ignored."""
    task_kind = row.get("kind") or kind or _implied_kind(row)
    if task_kind is None:
        raise BadLine(
            path,
            line,
            f"kind is missing and no default was given: must be one of {', '.join(KINDS)}",
        )
    if task_kind not in KINDS:
        raise BadLine(path, line, f"kind: must be one of {', '.join(KINDS)}, not {task_kind!r}")
    values: dict[str, Any] = {"kind": task_kind}
    if task_kind == "choice":
        values["options"] = row.get("choices", ())
    elif task_kind == "code":
        values["tests"] = row.get("test")
    try:
        return TaskRequest.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = {"options": "choices", "tests": "test"}.get(str(problem["loc"][0]), "kind")
        reason = validation.message_with_value(problem)
        raise BadLine(path, line, f"{field}: {reason}") from error


def _implied_kind(row: Row) -> str | None:
    if "choices" in row:
        return "choice"
    return "code" if "test" in row else None

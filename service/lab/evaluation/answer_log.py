"""What was asked of a service and what it answered, kept as it comes, so that nothing is asked twice.

One file of JSON lines in the log folder. Each answer is on the disk before it counts; a line that a kill cut in two is
taken off, and its question asked again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from secondpass.service.lab.pools.jsonl import BadLine, parse_row
from secondpass.service.lab.pools.questions import Question
from secondpass.strategies.api.errors import SecondpassError

FILE_NAME = "asked.jsonl"

Json = dict[str, Any]
Key = tuple[str, str, str, int]


class AnswerLogInUse(SecondpassError):
    """Another process writes to the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A strategy as it is asked for: with its parameters, sampling and budget, of one model, at one route."""

    strategy: str
    model: str
    params: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)
    route: str = "solve"

    @property
    def label(self) -> str:
        """The parameters as tables show them: "n=8 stop=lead"."""
        return " ".join(f"{k}={v}" for k, v in sorted(self.params.items()) if v is not None)

    @property
    def key(self) -> str:
        """The same for equal settings, and for no others."""
        return digest(
            [
                self.strategy, self.model, dict(self.params),
                dict(self.sampling), dict(self.budget), self.route,
            ]
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """An answer object of POST /solve; or, where the run ended with nothing to show, the problem and its bill."""

    document: Json | None
    seconds: float
    problem: str | None = None
    usage: Mapping[str, Json] = field(default_factory=dict)


class AnswerLog:
    """The answers that there are; each that is added is on the disk when `add` returns."""

    def __init__(self, file: BinaryIO, found: dict[Key, LoggedAnswer]) -> None:
        self._file = file
        self._found = found

    def find(self, setting: Setting, question: Question, epoch: int) -> LoggedAnswer | None:
        """What a question was answered in an epoch (from 1), if it was asked."""
        return self._found.get(_key(setting, question, epoch))

    def add(self, setting: Setting, question: Question, epoch: int, asked: LoggedAnswer) -> None:
        """Keep an answer."""
        key = _key(setting, question, epoch)
        row = {
            "setting": key[0],
            "question": key[1],
            "digest": key[2],
            "epoch": key[3],
            "strategy": setting.strategy,
            "seconds": round(asked.seconds, 6),
        }
        if asked.document is None:
            row |= {"problem": asked.problem, "usage": dict(asked.usage)}
        else:
            row["document"] = asked.document
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._found[key] = asked


@contextmanager
def open_answer_log(folder: Path) -> Iterator[AnswerLog]:
    """The book of a log folder, new or begun. Raises AnswerLogInUse, and BadLine for a line that nothing here wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AnswerLogInUse(f"another evaluation is writing to {folder}") from error
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        file.truncate(whole)  # what a kill left of a line
        found: dict[Key, LoggedAnswer] = {}
        for number, line in enumerate(content[:whole].split(b"\n"), 1):
            if line:
                key, asked = _read(path, number, line)
                found[key] = asked
        yield AnswerLog(file, found)


def digest(value: Any) -> str:
    """A short name of a JSON value: the same for equal values."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def question_digest(question: Question) -> str:
    """A name of what is asked: the question and its task, but not what is right."""
    task = question.task
    return digest([question.question, task.kind, list(task.options)])


def _key(setting: Setting, question: Question, epoch: int) -> Key:
    return setting.key, question.id, question_digest(question), epoch


def _read(path: Path, number: int, line: bytes) -> tuple[Key, LoggedAnswer]:
    row = parse_row(path, number, line)
    try:
        key = (row["setting"], row["question"], row["digest"], row["epoch"])
        document = row.get("document")
        problem = None if document is not None else row["problem"]
        return key, LoggedAnswer(document, row["seconds"], problem, row.get("usage", {}))
    except KeyError as error:
        raise BadLine(path, number, f"{error.args[0]} is missing") from error

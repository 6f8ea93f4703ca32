"""Append-only log of the answers of a service, so that an interrupted evaluation asks nothing twice.

The log is one file of JSON lines in the log folder. An answer is on the disk before it counts. A partial last line,
left by a killed process, is removed and its question is asked again.
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
"""Setting key, question id, question digest and epoch."""


class AnswerLogInUse(SecondpassError):
    """Another process holds the lock of the log folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A strategy with its parameters, sampling and budget, for one model at one route."""

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
        """Digest of all fields: equal for equal settings only."""
        return digest(
            [
                self.strategy, self.model, dict(self.params),
                dict(self.sampling), dict(self.budget), self.route,
            ]
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """Response document of POST /solve, or the problem and the usage of a run without an answer.

    `seconds` is the wall time of the request; `usage` is by role and only set together with `problem`.
    """

    document: Json | None
    seconds: float
    problem: str | None = None
    usage: Mapping[str, Json] = field(default_factory=dict)


class AnswerLog:
    """The logged answers by setting, question and epoch."""

    def __init__(self, file: BinaryIO, found: dict[Key, LoggedAnswer]) -> None:
        self._file = file
        self._found = found

    def find(self, setting: Setting, question: Question, epoch: int) -> LoggedAnswer | None:
        """Return the answer of an epoch (from 1), or None if the question was not asked."""
        return self._found.get(_key(setting, question, epoch))

    def add(self, setting: Setting, question: Question, epoch: int, answer: LoggedAnswer) -> None:
        """Append an answer; it is on the disk when this returns."""
        key = _key(setting, question, epoch)
        row = {
            "setting": key[0],
            "question": key[1],
            "digest": key[2],
            "epoch": key[3],
            "strategy": setting.strategy,
            "seconds": round(answer.seconds, 6),
        }
        if answer.document is None:
            row |= {"problem": answer.problem, "usage": dict(answer.usage)}
        else:
            row["document"] = answer.document
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._found[key] = answer


@contextmanager
def open_answer_log(folder: Path) -> Iterator[AnswerLog]:
    """Open the log of `folder`, or create it.

    Raises:
        AnswerLogInUse: Another process writes to the folder.
        BadLine: A line is not a log entry.
    """
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
        file.truncate(whole)  # drop a partial last line
        found: dict[Key, LoggedAnswer] = {}
        for number, line in enumerate(content[:whole].split(b"\n"), 1):
            if line:
                key, answer = _read(path, number, line)
                found[key] = answer
        yield AnswerLog(file, found)


def digest(value: Any) -> str:
    """Return a short hash of a JSON value, equal for equal values."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def question_digest(question: Question) -> str:
    """Return a hash of the question and its task, without the gold answer."""
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

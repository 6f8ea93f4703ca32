"""Reading of JSON lines files, with errors that name file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from secondpass.strategies.api.errors import SecondpassError

Row = dict[str, Any]


class BadLine(SecondpassError):
    """A file cannot be used; the message starts with its path, and the line if it is known."""

    def __init__(self, path: Path | str, line: int | None, problem: str) -> None:
        self.path, self.line, self.problem = Path(path), line, problem
        super().__init__(f"{path}: {problem}" if line is None else f"{path}:{line}: {problem}")


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number from 1, JSON object); blank lines are skipped. Raises BadLine."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadLine(path, None, error.strerror or str(error)) from error
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield number, parse_row(path, number, line)


def parse_row(path: Path, number: int, line: bytes) -> Row:
    """Parse the JSON object of one line. Raises BadLine."""
    try:
        row = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadLine(path, number, f"invalid JSON: {error}") from error
    if not isinstance(row, dict):
        raise BadLine(path, number, f"must be a JSON object, not {type(row).__name__}")
    return row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")

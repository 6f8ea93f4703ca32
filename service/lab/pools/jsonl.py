"""Files of JSON lines, read so that whatever is wrong is told by file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from secondpass.strategies.api.errors import SecondpassError

Row = dict[str, Any]


class BadLine(SecondpassError):
    """A file that cannot be used; the text begins with its name, and with the line where one is to blame."""

    def __init__(self, path: Path | str, line: int | None, problem: str) -> None:
        self.path, self.line, self.problem = Path(path), line, problem
        super().__init__(f"{path}: {problem}" if line is None else f"{path}:{line}: {problem}")


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Each JSON object with its line, counted from 1; blank lines are passed over. Raises BadLine."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadLine(path, None, error.strerror or str(error)) from error
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield number, parse_row(path, number, line)


def parse_row(path: Path, number: int, line: bytes) -> Row:
    """The object of one line. Raises BadLine."""
    try:
        row = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadLine(path, number, f"no JSON: {error}") from error
    if not isinstance(row, dict):
        raise BadLine(path, number, f"a JSON object is wanted, not {type(row).__name__}")
    return row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")

"""Reading of question files, and errors with file and line."""

from pathlib import Path
from typing import Any

import pytest

from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.questions import read_all, read_questions
from tests.lab.pools.support import ROWS, write_rows

FINE: dict[str, Any] = {"id": "z", "question": "Which?", "answer": "B", "choices": ["no", "yes"]}


def test_a_row_becomes_a_question_with_its_task(tmp_path: Path) -> None:
    rows = [*ROWS, FINE, {"id": "k", "question": "def f():", "answer": "1", "test": "assert f()"}]
    read = read_questions(write_rows(tmp_path / "q.jsonl", rows), "open")
    assert [question.id for question in read] == ["a", "b", "c", "z", "k"]
    assert [question.task.kind for question in read] == ["open"] * 5
    assert read[1].answer == "42"
    assert (read[3].line, read[3].row) == (4, FINE)


def test_the_kind_follows_from_choices_and_tests(tmp_path: Path) -> None:
    rows = [FINE, {"id": "k", "question": "def f():", "answer": "1", "test": "assert f()"}]
    read = read_questions(write_rows(tmp_path / "q.jsonl", rows))
    assert [question.task.kind for question in read] == ["choice", "code"]
    assert read[0].task.options == ("no", "yes")
    assert read[1].task.tests == "assert f()"


def test_the_kind_of_a_row_has_precedence(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "q.jsonl", [ROWS[0] | {"kind": "math"}])
    assert read_questions(path, "open")[0].task.kind == "math"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "x", "question": "Why?"}, "answer is missing"),
        ({"id": "x", "question": "Why?", "answer": None}, "answer is missing"),
        (
            {"id": "x", "question": "Why?", "answer": []},
            r"answer: must be a non-empty string, not \[\]",
        ),
        ({"question": "Why?", "answer": "1"}, "id is missing"),
        ({"id": "x", "answer": "1"}, "question is missing"),
        ({"id": "a", "question": "Why?", "answer": "1"}, "the id 'a' is already in line 1"),
        (FINE | {"kind": "maths"}, "kind: must be one of math, choice, code, open, not 'maths'"),
        (FINE | {"kind": "choice", "choices": ["one"]}, "choices: .* 2 to 26 options"),
        (FINE | {"kind": "choice", "answer": "C"}, "answer: must be one of A, B, not 'C'"),
    ],
)
def test_an_invalid_row_is_reported_with_file_and_line(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = write_rows(tmp_path / "q.jsonl", [ROWS[0], row])
    with pytest.raises(BadLine, match=f"^{path}:2: {message}"):
        read_questions(path, "math")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]\n", ":1: must be a JSON object, not list"),
        ('\n{"id": NaN}\n', ":2: invalid JSON: NaN is not a JSON number"),
        ('{"id": \n', ":1: invalid JSON"),
        ("\n", ": the file contains no question"),
    ],
)
def test_a_file_without_rows_is_reported(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(BadLine, match=f"^{path}{message}"):
        read_questions(path, "math")


def test_a_row_without_a_kind_needs_a_default(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "q.jsonl")
    with pytest.raises(BadLine, match=f"^{path}:1: kind is missing.*: must be one of math, choice"):
        read_questions(path)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadLine, match=r"q\.jsonl: No such file"):
        read_questions(tmp_path / "q.jsonl")


def test_a_duplicate_id_is_reported_with_both_locations(tmp_path: Path) -> None:
    first, second = (write_rows(tmp_path / name) for name in ("one.jsonl", "two.jsonl"))
    with pytest.raises(BadLine, match=f"^{second}:1: the id 'a' is already in {first}:1"):
        read_all([first, second], "math")


def test_the_limit_applies_per_file(tmp_path: Path) -> None:
    others = [row | {"id": f"other-{row['id']}"} for row in ROWS]
    paths = [write_rows(tmp_path / "1.jsonl"), write_rows(tmp_path / "2.jsonl", others)]
    read = read_all(paths, "math", limit=2)
    assert [question.id for question in read] == ["a", "b", "other-a", "other-b"]

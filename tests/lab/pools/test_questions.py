"""Questions are read whole, or it is told by file and line what is wrong."""

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


def test_a_kind_is_evident_from_choices_and_from_tests(tmp_path: Path) -> None:
    rows = [FINE, {"id": "k", "question": "def f():", "answer": "1", "test": "assert f()"}]
    read = read_questions(write_rows(tmp_path / "q.jsonl", rows))
    assert [question.task.kind for question in read] == ["choice", "code"]
    assert read[0].task.options == ("no", "yes")
    assert read[1].task.tests == "assert f()"


def test_the_kind_of_a_row_itself_wins(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "q.jsonl", [ROWS[0] | {"kind": "math"}])
    assert read_questions(path, "open")[0].task.kind == "math"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"id": "x", "question": "Why?"}, "answer is missing"),
        ({"id": "x", "question": "Why?", "answer": None}, "answer is missing"),
        ({"id": "x", "question": "Why?", "answer": []}, r"answer: a text is wanted, not \[\]"),
        ({"question": "Why?", "answer": "1"}, "id is missing"),
        ({"id": "x", "answer": "1"}, "question is missing"),
        ({"id": "a", "question": "Why?", "answer": "1"}, "the id 'a' stands in line 1 already"),
        (FINE | {"kind": "maths"}, "kind: one of math, choice, code, open, not 'maths'"),
        (FINE | {"kind": "choice", "choices": ["one"]}, "choices: .* 2 to 26 options"),
        (FINE | {"kind": "choice", "answer": "C"}, "answer: one of A, B, not 'C'"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_by_file_and_line(
    tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    path = write_rows(tmp_path / "q.jsonl", [ROWS[0], row])
    with pytest.raises(BadLine, match=f"^{path}:2: {says}"):
        read_questions(path, "math")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1]\n", ":1: a JSON object is wanted, not list"),
        ('\n{"id": NaN}\n', ":2: no JSON: NaN is no JSON number"),
        ('{"id": \n', ":1: no JSON"),
        ("\n", ": there is no question in it"),
    ],
)
def test_a_file_that_holds_no_rows_is_named(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(BadLine, match=f"^{path}{says}"):
        read_questions(path, "math")


def test_a_row_that_tells_no_kind_needs_one_to_be_given(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "q.jsonl")
    with pytest.raises(BadLine, match=f"^{path}:1: kind is missing.*: one of math, choice"):
        read_questions(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadLine, match=r"q\.jsonl: No such file"):
        read_questions(tmp_path / "q.jsonl")


def test_one_id_in_two_files_is_told_with_both_places(tmp_path: Path) -> None:
    first, second = (write_rows(tmp_path / name) for name in ("one.jsonl", "two.jsonl"))
    with pytest.raises(BadLine, match=f"^{second}:1: the id 'a' stands in {first}:1 already"):
        read_all([first, second], "math")


def test_a_limit_holds_for_each_file(tmp_path: Path) -> None:
    others = [row | {"id": f"other-{row['id']}"} for row in ROWS]
    paths = [write_rows(tmp_path / "1.jsonl"), write_rows(tmp_path / "2.jsonl", others)]
    read = read_all(paths, "math", limit=2)
    assert [question.id for question in read] == ["a", "b", "other-a", "other-b"]

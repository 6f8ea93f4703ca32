"""The letter that is read from a completion of a choice task: on the function and over HTTP."""

from collections.abc import Iterator

import pytest

from secondpass.strategies.answers.task import Task, extract
from tests.cases.reading import answer_over_http, replying, rows_of
from tests.http.serving import Served

OPTIONS = ("2 m/s", "4 m/s", "8 m/s", "16 m/s", "32 m/s")
ROWS = rows_of("choice")
EACH_ROW = pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda n: ROWS[n]["text"][:50])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with replying(ROWS) as running:
        yield running


@EACH_ROW
def test_the_function_reads_the_letter_or_none(number: int) -> None:
    row = ROWS[number]
    assert extract(Task(kind="choice", options=OPTIONS), row["text"]) == row["want"]


@EACH_ROW
def test_the_service_reads_the_letter_or_none(served: Served, number: int) -> None:
    task = {"kind": "choice", "options": list(OPTIONS)}
    assert answer_over_http(served, number, task) == ROWS[number]["want"]

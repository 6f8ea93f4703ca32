"""The answer that is read from a completion of a math task: on the function and over HTTP."""

from collections.abc import Iterator
from functools import partial

import anyio
import pytest

from secondpass.service.equivalence.checker import Equivalence
from secondpass.strategies.answers.task import Task, extract, normalise
from tests.cases.reading import Row, answer_over_http, replying, rows_of
from tests.http.serving import Served

MATH = Task(kind="math")
ROWS = rows_of("math_extract")
EACH_ROW = pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda n: ROWS[n]["text"][:50])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with replying(ROWS) as running:
        yield running


def is_accepted(answer: str | None, row: Row) -> bool:
    """Return True if an answer is equivalent to an accepted one."""
    if answer is None:
        return None in row["accept"]
    accepted = [each for each in row["accept"] if each is not None]
    forms = {normalise(MATH, each) for each in accepted}
    return normalise(MATH, answer) in forms or any(
        anyio.run(partial(_equivalent, answer, each)) for each in accepted
    )


async def _equivalent(answer: str, accepted: str) -> bool:
    async with Equivalence() as equivalence:
        return await equivalence.same(answer, accepted)


@EACH_ROW
def test_the_function_reads_an_accepted_answer(number: int) -> None:
    row = ROWS[number]
    answer = extract(MATH, row["text"])
    assert is_accepted(answer, row), answer
    assert answer not in row["never"]


@EACH_ROW
def test_the_service_reads_an_accepted_answer(served: Served, number: int) -> None:
    row = ROWS[number]
    answer = answer_over_http(served, number, {"kind": "math"})
    assert is_accepted(answer, row), answer
    assert answer not in row["never"]

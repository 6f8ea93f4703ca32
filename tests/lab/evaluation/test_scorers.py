"""Scoring of answers by kind, with real comparisons and a real sandbox."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.lab.evaluation.scorers import CannotScore, Scorer, program
from secondpass.service.lab.pools.questions import Question
from secondpass.strategies.answers.task import TaskRequest

pytestmark = pytest.mark.anyio

STUB = "def f(x):\n    '''one more'''\n"
TESTS = "def check(candidate):\n    assert candidate(1) == 2\n"


@pytest.fixture
async def scorer() -> AsyncIterator[Scorer]:
    async with Equivalence() as equivalence:
        yield Scorer(equivalence)


def question(
    answer: str, row: dict[str, Any] | None = None, text: str = "?", **task: Any
) -> Question:
    return Question("q", text, answer, TaskRequest(**task), row or {}, Path("q.jsonl"), 7)


@pytest.mark.parametrize(
    ("gold", "given", "is_right"),
    [
        ("42", "42", True),
        ("42", "$42.00", True),
        ("1,000", "1000", True),
        ("\\frac{1}{2}", "0.5", True),
        ("x^2+2x+1", "(x+1)^2", True),
        ("42", "41", False),
        ("x", "y", False),
        ("2", "9^{9^{9^{9^{9}}}}", False),
    ],
)
async def test_math_is_scored_by_equivalence(
    scorer: Scorer, gold: str, given: str, is_right: bool
) -> None:
    assert (await scorer.score(question(gold, kind="math"), given))[0] is is_right


@pytest.mark.parametrize(
    ("given", "is_right"), [("B", True), ("b", True), ("A", False), ("C", False)]
)
async def test_a_choice_is_scored_by_its_letter(scorer: Scorer, given: str, is_right: bool) -> None:
    asked = question("B", kind="choice", options=("first", "second"))
    assert (await scorer.score(asked, given))[0] is is_right


@pytest.mark.parametrize(
    ("code", "is_right"),
    [
        ("def f(x):\n    return x + 1", True),
        ("    return x + 1", True),
        ("def f(x):\n    return x", False),
        ("import os\nos._exit(0)", False),
    ],
)
async def test_code_is_scored_by_its_tests(scorer: Scorer, code: str, is_right: bool) -> None:
    asked = question("", {"entry_point": "f"}, STUB, kind="code", tests=TESTS)
    assert (await scorer.score(asked, code))[0] is is_right


async def test_tests_that_cannot_run_raise(scorer: Scorer) -> None:
    asked = question("", {"entry_point": "f"}, STUB, kind="code", tests="def check(:")
    with pytest.raises(CannotScore, match=r"q\.jsonl:7: test: "):
        await scorer.score(asked, "def f(x):\n    return x + 1")


def test_a_body_is_appended_to_its_stub() -> None:
    whole = "def f(x):\n    return 1"
    assert program(STUB, whole, "f") == whole
    assert program(STUB, "    return 1", "f ") == STUB + "\n    return 1"
    assert program("Write f.", "    return 1", "f") == "    return 1"
    assert program(STUB, "    return 1", None) == "    return 1"

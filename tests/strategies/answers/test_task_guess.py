"""Guesses of the task of a question."""

import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.answers.task import (
    Task,
    guess,
)


def in_lines(mark: str) -> Callable[[list[str]], str]:
    return lambda options: "\n".join(
        mark.format(letter) + option
        for letter, option in zip(string.ascii_uppercase, options, strict=False)
    )


@pytest.mark.parametrize(
    "question",
    [
        "Which one?\nA) red\nB) blue\nC) green",
        "The sky at noon is\n\nA. red\nB. blue\nC. green\n\nAnswer:",
        "Which one?\n(A) red\n(B) blue\n(C) green\n",
        "Which one? (A) red (B) blue (C) green",
        "Which one? A) red, B) blue, C) green",
        "Which one? A. red B. blue C. green",
        "For example:\nA) yes\nB) no\n\nNow which one?\nA) red\nB) blue\nC) green",
    ],
)
def test_a_question_with_listed_options_is_a_choice(question: str) -> None:
    assert guess(question) == Task(kind="choice", options=("red", "blue", "green"), guessed=True)


@given(
    st.lists(st.text("abcdefgh ", min_size=1).map(str.strip).filter(bool), min_size=2, max_size=26),
    st.sampled_from(["{}) ", "({}) ", "{}. "]),
)
def test_every_list_of_options_is_found(options: list[str], mark: str) -> None:
    task = guess(f"Which of these?\n{in_lines(mark)(options)}\n")
    assert task.options == tuple(options)


@pytest.mark.parametrize(
    "question",
    [
        "What is 17*3?",
        "17 + 25 =",
        "Natalia sold 48 clips in April, and half as many in May. How many clips did she sell?",
        "Solve for x: 2x + 3 = 7",
        r"Evaluate $\frac{1}{2} + \frac{1}{3}$.",
        r"What is the smallest integer $n$ with $n^2 > 50$?",
        "A train travels 60 km in 45 minutes. What is its average speed?",
    ],
)
def test_a_quantitative_question_is_maths(question: str) -> None:
    assert guess(question) == Task(kind="math", guessed=True)


@pytest.mark.parametrize(
    "question",
    [
        "",
        "Hello, how are you?",
        "Tell me a joke.",
        "Who wrote Faust?",
        "How many people live in Berlin?",
        "Explain what $E = mc^2$ means.",
        "Write a function that returns the sum of 2 numbers, given 3 lists.",
        "Translate into German: I have 3 dogs and 2 cats. How much is that?",
        "Compare A. Smith and B. Jones.",
        "Explain how (A) TCP and (B) UDP differ.",
        "Who was J. S. Bach?",
        "The 1990s and the 2000s: which music was better?",
    ],
)
def test_any_other_question_is_open(question: str) -> None:
    assert guess(question) == Task(kind="open", guessed=True)

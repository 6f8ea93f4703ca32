"""Extraction of numbers and formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.answers.task import (
    Task,
    extract,
    normalise,
)

MATH = Task(kind="math")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{12}.", "12"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{x = \fbox{7}}", r"x = \fbox{7}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{5} but not \boxed{}", "5"),
        (r"\boxed{5} but not \boxed{ { } }", "5"),
        (r"an open { brace, then \boxed{5}", "5"),
        (r"\boxed{5}. The answer is 6.", "5"),
        (r"\boxed{", None),
        ("She pays 2 * 9 = 18.\n#### 18", "18"),
        ("#### 3. Add them up\nThe sum is 12", "12"),
        ("#### Result 1\n#### 1,234", "1,234"),
        ("The answer is 12.5.", "12.5"),
        ("The answer is 12.", "12"),
        ("the final answer is: **12**", "12"),
        ("**Answer:** 12", "12"),
        ("Answer = 12", "12"),
        ("### Answer\n12", "12"),
        ("The answer is\n\\[ x = 12 \\]", "12"),
        (r"The answer is $\frac{3}{4}$ of it", r"\frac{3}{4}"),
        ("The answer is $18 per day, for 3 days.", "18"),
        ("The answer to both is 3 + 4 = 7 apples.", "7"),
        ("The answer is 4. No, wait: the answer is 5.", "5"),
        ("The answer is even.", "even"),
        ("The answer is sin(x) + 1.", "sin(x) + 1"),
        ("The answer is about 2 million people.", "2 million"),
        ("The answer is $x^2 + 1$.", "x^2 + 1"),
        ("It costs 5 dollars. The answer is N.", "5"),
        ("3 and then 4", "4"),
        ("that is -3", "-3"),
        ("10-3 leaves us 7-3", "7-3"),
        ("a loss of \u22123", "-3"),
        ("it makes $1,234.50 a year", "1234.50"),
        ("it makes 25%.", "25"),
        ("a share of 3/4.", "3/4"),
        (r"a share of \frac{3}{4}", r"\frac{3}{4}"),
        ("one of 3,4", "3,4"),
        (r"it is 10{,}000", "10000"),
        ("in room B12", None),
        ("no number", None),
        ("", None),
        ("<think>The answer is 3.</think>The answer is 4.", "4"),
        (r"\boxed{3}</think>so it is 4", "4"),
        (r"<think>\boxed{3}", None),
        (r"<think>\boxed{3}</think>", None),
    ],
)
def test_a_finished_completion_has_its_last_most_explicit_answer(
    text: str, answer: str | None
) -> None:
    assert extract(MATH, text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 12", None),
        ("The answer is 12.", None),
        ("The answer is 12. ", "12"),
        ("The answer is 12\n", "12"),
        ("The answer is 12.5. So", "12.5"),
        ("The answer is 5.\nNo: the answer is 1", None),
        (r"The answer is $12$", None),  # " and $13$" may follow
        ("The answer is $12$.\n", "12"),
        (r"\boxed{12}", "12"),
        (r"\boxed{12} and \boxed{1", None),
        (r"\boxed{12", None),
        ("#### 12", None),
        ("#### 12\n", "12"),
        ("17 + 3 = 20\n", None),
        (r"<think>\boxed{12}", None),
    ],
)
def test_a_truncated_completion_has_only_a_finished_answer(text: str, answer: str | None) -> None:
    assert extract(MATH, text, finished=False) == answer


@given(number=st.integers(), more=st.integers(0, 999), words=st.text("abc .\n"))
def test_truncation_never_changes_a_stated_answer(number: int, more: int, words: str) -> None:
    stated = f"{words}\nThe answer is {number}.{more}. That is all."
    answers = {extract(MATH, stated[:end], finished=False) for end in range(len(stated) + 1)}
    assert answers <= {None, f"{number}.{more}"}


@given(st.integers(0, 10**400))
def test_the_last_number_is_extracted_digit_by_digit(number: int) -> None:
    answer = extract(MATH, f"We get 17 of them, so {number:,} in all.")
    assert answer
    assert normalise(MATH, answer) == str(number)

"""Extraction and normalisation of choices."""

import pytest

from secondpass.strategies.answers.task import (
    Task,
    extract,
    normalise,
)

FRUIT = Task(kind="choice", options=("an apple", "a banana", "a cherry", "none of these"))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"\boxed{B. a banana}", "B"),
        (r"\boxed{a banana}", "B"),
        ("The answer is (B).", "B"),
        ("The answer is B", "B"),
        ("The answer is B, because bananas are yellow.", "B"),
        ("The answer is B) a banana.", "B"),
        ("The correct answer is **option B**.", "B"),
        ("Answer: B", "B"),
        ("**Answer:** b", "B"),
        ("Answer: a banana", "B"),
        ("The answer is the banana.", "B"),
        ("The answer is A. No, the answer is B.", "B"),
        ("Let me think.\n\n**B**\n\nIt is yellow.", "B"),
        ("B", "B"),
        ("(b)", "B"),
        ("B.", "B"),
        ("B) a banana", "B"),
        ("a banana", "B"),
        ("It is yellow, so it must be a banana.", "B"),
        ("A dog ate it.", None),
        ("The answer is A dog.", None),
        ("I like both.", None),
        ("The answer is A or B.", None),
        ("The answer is B and C", None),
        ("A\nB\nC", None),
        ("A) an apple\nB) a banana", None),
        ("A) an apple B) a banana", None),
        ("A) an apple\nB) a banana\n\n**B**", "B"),
        ("an apple or a banana", None),
        ("The answer is E.", None),
        ("", None),
        ("<think>Answer: A</think>Answer: B", "B"),
        ("<think>Answer: A\n", None),
    ],
)
def test_a_choice_is_extracted_only_if_it_is_unambiguous(text: str, letter: str | None) -> None:
    assert extract(FRUIT, text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{B}", "B"),
        ("The answer is B", None),
        ("The answer is (B)", "B"),
        ("Answer: B\n", "B"),
        ("The answer is a banana", None),
        ("Hm.\nB\n", None),
        ("B", None),
    ],
)
def test_a_truncated_reply_has_only_a_completely_stated_choice(
    text: str, letter: str | None
) -> None:
    assert extract(FRUIT, text, finished=False) == letter


@pytest.mark.parametrize("answer", ["b", "(B)", "B.", " B ", "a banana", r"\text{B}"])
def test_the_normal_form_of_a_choice_is_its_letter(answer: str) -> None:
    assert normalise(FRUIT, answer) == "B"

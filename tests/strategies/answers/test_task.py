import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from secondpass.strategies.answers.task import (
    Kind,
    Task,
    TaskRequest,
    brace_depth,
    extract,
    format_prompt,
    guess,
    needs_comparison,
    normalise,
)
from secondpass.strategies.prompts import PROMPTS, placeholders

MATH = Task(kind="math")
OPEN = Task(kind="open")
CODE = Task(kind="code")
FRUIT = Task(kind="choice", options=("an apple", "a banana", "a cherry", "none of these"))
TASKS = (MATH, FRUIT, OPEN, CODE)

A_TASK = st.sampled_from(TASKS)
HOSTILE = st.lists(
    st.sampled_from(
        [*"{}\\$#*().,=/-:\n 0123456789ABab%\u20ac\u2212", "\\boxed{", "The answer is "]
    )
    | st.sampled_from(["Answer: ", "#### ", "12", "(B)", "<think>", "</think>", "\\frac{1}{2}"])
    | st.sampled_from(["\\text{", "apple", "```\n", "**", "\\!", "{,}", "\\(", "\\)", "dollars"])
).map("".join)


# -- the task itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"kind": "maths"}, "kind", "'math', 'choice', 'code' or 'open'"),
        ({}, "kind", "required"),
        ({"kind": "choice"}, "options", "2 to 26 options"),
        ({"kind": "choice", "options": ["one"]}, "options", "2 to 26 options"),
        ({"kind": "choice", "options": ["x"] * 27}, "options", "at most 26"),
        ({"kind": "choice", "options": ["x", " "]}, "options", "blank"),
        ({"kind": "choice", "options": ["x", ""]}, "options", "at least 1"),
        ({"kind": "choice", "options": ["x", "y" * 2001]}, "options", "at most 2000"),
        ({"kind": "choice", "options": ["x", "{" * 101]}, "options", "deeper than 100"),
        ({"kind": "math", "options": ["x", "y"]}, "options", "only kind 'choice'"),
        ({"kind": "open", "tests": "assert True"}, "tests", "only kind 'code'"),
        ({"kind": "code", "tests": ""}, "tests", "at least 1"),
        ({"kind": "math", "guessed": True}, "guessed", "not permitted"),
        ({"kind": "math", "unit": "m"}, "unit", "not permitted"),
    ],
)
def test_an_invalid_task_is_rejected_at_the_invalid_field(
    body: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        TaskRequest.model_validate(body)
    (error,) = caught.value.errors()
    assert error["loc"][0] == field
    assert words in error["msg"]


def test_a_stated_task_is_not_marked_as_guessed() -> None:
    task = TaskRequest(kind="choice", options=("x", "y")).as_task()
    assert task == Task(kind="choice", options=("x", "y"), guessed=False)
    assert task.model_dump()["guessed"] is False
    assert task.letters == "AB"


def test_a_task_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        MATH.kind = "open"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "depth"), [("", 0), ("{}{}", 1), ("{{}}", 2), ("}}{", 1), ("{" * 1000, 1000)]
)
def test_brace_depth_counts_nesting(text: str, depth: int) -> None:
    assert brace_depth(text) == depth


def test_every_format_prompt_exists_with_its_documented_placeholders() -> None:
    assert format_prompt(MATH) == "format_math"
    assert format_prompt(FRUIT) == "format_choice"
    assert format_prompt(OPEN) is None
    assert format_prompt(CODE) is None
    assert placeholders("format_math") == frozenset()
    assert placeholders("format_choice") == {"letters"}
    assert "\\boxed{}" in PROMPTS["format_math"]


def test_only_mathematical_answers_need_a_comparison() -> None:
    assert [task.kind for task in TASKS if needs_comparison(task)] == ["math"]


# -- other answers -------------------------------------------------------------------------------------


def test_an_open_answer_is_the_whole_finished_text() -> None:
    assert extract(OPEN, "<think>hm</think>\n Hello. \n") == "Hello."
    assert extract(OPEN, "Hello.", finished=False) is None
    assert extract(OPEN, " \n") is None
    assert normalise(OPEN, "Hello,\n  you.") == "Hello, you."


def test_code_is_the_last_fenced_block() -> None:
    text = "First\n```python\na = 1\n```\nbetter\n```python\nif b:\n    b = 2\n```\n"
    assert extract(CODE, text) == "if b:\n    b = 2"
    assert extract(CODE, text + "```\ncut", finished=False) == "if b:\n    b = 2"
    assert extract(CODE, "c = 3") == "c = 3"
    assert extract(CODE, "c = 3", finished=False) is None


# -- always --------------------------------------------------------------------------------------------


@given(A_TASK, HOSTILE | st.text(), st.booleans())
def test_an_answer_is_never_empty_and_normalises_to_something_stable(
    task: Task, text: str, finished: bool
) -> None:
    answer = extract(task, text, finished=finished)
    if answer is not None:
        assert answer.strip() == answer != ""
        canonical = normalise(task, answer)
        assert canonical
        assert normalise(task, canonical) == canonical


@given(A_TASK, HOSTILE)
def test_an_answer_of_a_truncated_completion_is_one_of_the_finished_one(
    task: Task, text: str
) -> None:
    if extract(task, text, finished=False) is not None:
        assert extract(task, text) is not None


@given(A_TASK, HOSTILE)
def test_the_reasoning_never_contains_the_answer(task: Task, reasoning: str) -> None:
    reasoning = reasoning.replace("think", "")
    assert extract(task, f"<think>{reasoning}") is None
    assert extract(task, f"<think>{reasoning}</think>") is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("task", [MATH, FRUIT, CODE], ids=lambda task: task.kind)
@pytest.mark.parametrize(
    "unit",
    [
        "{", "}", "{}", "\\", "\\boxed{", "\\boxed{}", "\\boxed{1}", "\\boxed", "\\boxed ", "\\{",
        "1", "1,", "1,111,", "1.", "1/", "1 ", "-", "$", "$1", "1$ ", "\\frac{1", "\\frac{1}{",
        "answer", "answer ", "answer is ", "answer:", "answer\n", "####", "#### 1\n", "#### ",
        "#### answer", "*", " ", "\n", "A) ", "(A", "A\n", "A.", "B. an apple\n", "\\text{", "```\n",
        "<think>", "</think>", "1{,}", ".1", "1:", "answer is \\(", "answer is $1", "\\[",
    ],
)  # fmt: skip
def test_a_hostile_completion_of_200_kb_is_parsed(unit: str, task: Task) -> None:
    text = unit * (200_000 // len(unit))
    part = text[:50_000]
    for completion in (text, part + "}" * 50_000, f"The answer is {part}", f"\\boxed{{{part}}}"):
        for finished in (True, False):
            answer = extract(task, completion, finished=finished)
            if answer is not None:
                assert normalise(task, answer)
    guess(text)
    brace_depth(text)


# -- guessing ------------------------------------------------------------------------------------------
@given(HOSTILE | st.text())
def test_a_guess_is_never_code_and_is_always_marked_as_guessed(question: str) -> None:
    task = guess(question)
    kinds: tuple[Kind, ...] = ("math", "choice", "open")
    assert task.kind in kinds
    assert task.guessed

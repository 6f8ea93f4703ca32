import string
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from secondpass.strategies.prompts import PROMPTS, placeholders
from secondpass.strategies.tasks import (
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
def test_a_wrong_task_is_refused_at_the_field_that_is_wrong(
    body: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        TaskRequest.model_validate(body)
    (error,) = caught.value.errors()
    assert error["loc"][0] == field
    assert words in error["msg"]


def test_a_stated_task_is_not_guessed_and_says_so() -> None:
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


def test_every_format_prompt_exists_and_has_the_placeholders_it_promises() -> None:
    assert format_prompt(MATH) == "format_math"
    assert format_prompt(FRUIT) == "format_choice"
    assert format_prompt(OPEN) is None
    assert format_prompt(CODE) is None
    assert placeholders("format_math") == frozenset()
    assert placeholders("format_choice") == {"letters"}
    assert "\\boxed{}" in PROMPTS["format_math"]


def test_only_formulas_need_more_than_their_normal_form() -> None:
    assert [task.kind for task in TASKS if needs_comparison(task)] == ["math"]


# -- answers of maths ----------------------------------------------------------------------------------


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
        ("10-3 leaves us 7-3", "3"),
        ("a loss of \u22123", "-3"),
        ("it makes $1,234.50 a year", "1234.50"),
        ("it makes 25%.", "25"),
        ("a share of 3/4.", "3/4"),
        (r"a share of \frac{3}{4}", r"\frac{3}{4}"),
        ("one of 3,4", "4"),
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
def test_a_finished_completion_gives_its_last_most_explicit_answer(
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
        (r"The answer is $12$", "12"),
        (r"\boxed{12}", "12"),
        (r"\boxed{12} and \boxed{1", None),
        (r"\boxed{12", None),
        ("#### 12", None),
        ("#### 12\n", "12"),
        ("17 + 3 = 20\n", None),
        (r"<think>\boxed{12}", None),
    ],
)
def test_a_cut_completion_gives_only_an_answer_that_it_had_finished(
    text: str, answer: str | None
) -> None:
    assert extract(MATH, text, finished=False) == answer


@given(number=st.integers(), more=st.integers(0, 999), words=st.text("abc .\n"))
def test_no_cut_of_a_completion_changes_what_it_stated(number: int, more: int, words: str) -> None:
    stated = f"{words}\nThe answer is {number}.{more}. That is all."
    answers = {extract(MATH, stated[:end], finished=False) for end in range(len(stated) + 1)}
    assert answers <= {None, f"{number}.{more}"}


@pytest.mark.parametrize(
    ("answer", "canonical"),
    [
        ("1,000", "1000"),
        ("1000.0", "1000"),
        ("$1000", "1000"),
        (r"\$1{,}000.00", "1000"),
        (r"10,\!080", "10080"),
        ("1000 dollars", "1000"),
        ("25%", "25"),
        (r"25\%", "25"),
        ("+007", "7"),
        (".50", "0.5"),
        ("-0.0", "0"),
        ("\u22123", "-3"),
        ("3/4", "3/4"),
        (r"\dfrac{3}{4}", "3/4"),
        (r"-\tfrac{3}{4}", "-3/4"),
        ("2 1/2", r"2\frac{1}{2}"),
        (r"2 \frac{1}{2}", r"2\frac{1}{2}"),
        (r"$\left( 1, 2 \right)$", "(1,2)"),
        (r"\( x + 1 \).", "x+1"),
        (r"\text{ellipse}", "ellipse"),
        ("Ellipse.", "ellipse"),
        ("AB", "AB"),
        ("1,2,3", "1,2,3"),
        ("2 apples", "2 apples"),
        ("x**2", "x^2"),
        ("2 pi", r"2 \pi"),
        ("**18**", "18"),
        ("$1.25 million", "1250000"),
        (r"2{,}500 \text{ thousand}", "2500000"),
        ("0.0001 thousand", "0.1"),
        (r"1\\ 2", r"1\\2"),
        (r"\begin{pmatrix} 1 \\ -2 \end{pmatrix}", r"\begin{pmatrix}1\\-2\end{pmatrix}"),
        ("$", "$"),
    ],
)
def test_the_normal_form_drops_how_an_answer_is_written(answer: str, canonical: str) -> None:
    assert normalise(MATH, canonical) == normalise(MATH, answer)
    assert normalise(MATH, answer).replace(" ", "") == canonical.replace(" ", "")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12), st.decimals(places=12))
def test_normal_forms_of_numbers_are_equal_exactly_when_the_numbers_are(
    a: Decimal, b: Decimal
) -> None:
    if not b.is_finite():
        b = a
    one, grouped = normalise(MATH, f"{a:f}"), normalise(MATH, f"${a:,f}")
    assert one == grouped
    assert Decimal(one) == a
    assert (one == normalise(MATH, f"{b:f}")) == (a == b)


@given(st.integers(0, 10**400))
def test_the_last_number_survives_extraction_digit_by_digit(number: int) -> None:
    answer = extract(MATH, f"We get 17 of them, so {number:,} in all.")
    assert answer
    assert normalise(MATH, answer) == str(number)


# -- answers of a choice -------------------------------------------------------------------------------


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
def test_a_choice_is_read_only_where_one_was_made(text: str, letter: str | None) -> None:
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
def test_a_cut_reply_chose_only_what_it_stated_in_full(text: str, letter: str | None) -> None:
    assert extract(FRUIT, text, finished=False) == letter


@pytest.mark.parametrize("answer", ["b", "(B)", "B.", " B ", "a banana", r"\text{B}"])
def test_the_normal_form_of_a_choice_is_its_letter(answer: str) -> None:
    assert normalise(FRUIT, answer) == "B"


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
def test_what_counts_in_a_cut_completion_counts_in_the_finished_one(task: Task, text: str) -> None:
    if extract(task, text, finished=False) is not None:
        assert extract(task, text) is not None


@given(A_TASK, HOSTILE)
def test_thinking_never_holds_the_answer(task: Task, thought: str) -> None:
    thought = thought.replace("think", "")
    assert extract(task, f"<think>{thought}") is None
    assert extract(task, f"<think>{thought}</think>") is None


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
def test_a_hostile_completion_of_200_kb_is_read_all_the_same(unit: str, task: Task) -> None:
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
def test_listed_options_make_a_choice(question: str) -> None:
    assert guess(question) == Task(kind="choice", options=("red", "blue", "green"), guessed=True)


@given(
    st.lists(st.text("abcdefgh ", min_size=1).map(str.strip).filter(bool), min_size=2, max_size=26),
    st.sampled_from(["{}) ", "({}) ", "{}. "]),
)
def test_every_list_of_options_is_found_again(options: list[str], mark: str) -> None:
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
def test_anything_else_is_open(question: str) -> None:
    assert guess(question) == Task(kind="open", guessed=True)


@given(HOSTILE | st.text())
def test_a_guess_is_never_code_and_always_says_that_it_is_one(question: str) -> None:
    task = guess(question)
    kinds: tuple[Kind, ...] = ("math", "choice", "open")
    assert task.kind in kinds
    assert task.guessed

"""Answer classes as a function of the set of answers."""

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.equivalence.numeric import resolve
from secondpass.strategies.answers.forms.form import NormalForm
from secondpass.strategies.answers.forms.normal_form import normal_form
from secondpass.strategies.answers.forms.partition import partition
from secondpass.strategies.answers.forms.units import Unit, asked_unit, parse_unit
from tests.equivalence.math_pairs import math_pairs

NUMBERS = [
    "18",
    "18.0",
    "36/2",
    "0.18",
    "1800",
    r"\sqrt{18}",
    r"3\sqrt{2}",
    "x+x",
    "2x",
    "eighteen",
]
UNITS = ["", " cm", " m", " apples", "%", " dollars", " cents", r"\text{ cm}"]
NAMES = ["", "", "x = ", "y = ", r"\text{Area} = "]
ANSWERS = st.builds(
    "{}{}{}".format, st.sampled_from(NAMES), st.sampled_from(NUMBERS), st.sampled_from(UNITS)
)


def resolved(answer: str) -> NormalForm:
    form = normal_form(answer)
    equation = None if form.equation is None else resolve(form.equation)
    return NormalForm(resolve(form.value), form.unit, form.name, equation)


def classes(answers: Sequence[str], asked: Unit | None = None) -> set[frozenset[str]]:
    """Return the classes as sets of answers."""
    ids = partition([resolved(answer) for answer in answers], asked)
    return {
        frozenset(answer for answer, other in zip(answers, ids, strict=True) if other == number)
        for number in set(ids)
    }


@pytest.mark.parametrize("order", list(permutations(["18 cm", "18", "18 m"])))
def test_an_answer_without_a_unit_is_a_class_of_its_own_beside_two_units(
    order: tuple[str, ...],
) -> None:
    assert classes(order) == {frozenset([each]) for each in order}


@pytest.mark.parametrize("order", list(permutations(["18 cm", "18", "18 centimeters", "17"])))
def test_an_answer_without_a_unit_has_the_only_unit(order: tuple[str, ...]) -> None:
    assert classes(order) == {frozenset(["18 cm", "18", "18 centimeters"]), frozenset(["17"])}


@pytest.mark.parametrize("order", list(permutations(["18 cm", "18", "18 m", "0.18 m"])))
def test_the_unit_that_the_question_names_decides_between_units(order: tuple[str, ...]) -> None:
    asked = asked_unit("How many centimeters long is it?")
    assert classes(order, asked) == {
        frozenset(["18 cm", "18", "0.18 m"]),
        frozenset(["18 m"]),
    }


@pytest.mark.parametrize("order", list(permutations(["x=5", "5", "y=5"])))
def test_an_answer_without_a_name_is_a_class_of_its_own_beside_two_names(
    order: tuple[str, ...],
) -> None:
    assert classes(order) == {frozenset([each]) for each in order}


@given(st.lists(ANSWERS, min_size=2, max_size=7, unique=True).flatmap(
    lambda answers: st.tuples(st.just(answers), st.permutations(answers))
))  # fmt: skip
def test_classes_never_depend_on_the_order_of_answers(pair: tuple[list[str], list[str]]) -> None:
    answers, shuffled = pair
    assert classes(answers) == classes(shuffled)


@given(st.lists(ANSWERS, min_size=2, max_size=6, unique=True), st.randoms())
def test_repeated_answers_never_change_the_classes(answers: list[str], random: object) -> None:
    assert classes(answers) == classes([*answers, *answers])


@given(
    st.lists(
        st.sampled_from([a for pair in math_pairs() for a in pair[:2]]), min_size=3, max_size=3
    )
)
def test_equality_of_values_with_stated_units_and_names_is_transitive(answers: list[str]) -> None:
    forms = [
        NormalForm(form.value, form.unit or parse_unit("cm"), form.name or "z", form.equation)
        for form in map(resolved, answers)
    ]

    def same(i: int, j: int) -> bool:
        one, other = partition([forms[i], forms[j]])
        return one == other

    assert same(0, 1) == same(1, 0)
    assert same(0, 2) or not (same(0, 1) and same(1, 2))


@pytest.mark.parametrize(
    ("question", "unit"),
    [
        ("How many minutes does it take?", "60 time"),
        ("How many apples are left?", "noun apple"),
        ("How many square feet is the floor?", parse_unit("square feet")),
        ("What is the length in centimeters?", "1/100 length"),
        ("What is the total cost in dollars?", "usd"),
        ("A rope of 5 feet is cut. How many pieces are there?", "noun piece"),
        ("How long is it?", None),
        ("What is the price in dollars, and what in cents?", None),
        ("", None),
    ],
)
def test_the_unit_of_a_question_is_read_where_it_is_unambiguous(
    question: str, unit: str | Unit | None
) -> None:
    found = asked_unit(question)
    assert (found if isinstance(unit, Unit) else found and found.name) == unit


@given(st.text(max_size=300))
def test_arbitrary_questions_do_not_raise(question: str) -> None:
    asked_unit(question)
    asked_unit(f"How many {question} in {question}?")

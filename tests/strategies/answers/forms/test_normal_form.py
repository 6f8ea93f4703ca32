"""Normal forms of mathematical answers, in any notation and of hostile text."""

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.answers.forms.normal_form import normal_form
from secondpass.strategies.answers.task import Task, normalise

MATH = Task(kind="math")


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        ("1,000", "1000"),
        ("1000.0", "1000"),
        (r"\$1{,}000.00", "$1000"),
        (r"10,\!080", "10080"),
        (r"25\%", "25 percent"),
        ("+007", "7"),
        ("-0.0", "0"),
        (r"-\tfrac{3}{4}", "-3/4"),
        (r"2 \frac{1}{2}", "2.5"),
        (r"$\left( 1, 2 \right)$", "(1,2)"),
        (r"\text{ellipse}", "Ellipse."),
        ("x**2", "x^2"),
        ("2 pi", r"2 \pi"),
        ("**18**", "18"),
        ("$1.25 million", "1250000 dollars"),
        (r"2{,}500 \text{ thousand}", "2500000"),
        (r"\begin{pmatrix} 1 \\ -2 \end{pmatrix}", r"\begin{pmatrix}1\\-2\end{pmatrix}"),
    ],
)
def test_the_normal_form_does_not_depend_on_notation(answer: str, other: str) -> None:
    assert normalise(MATH, answer) == normalise(MATH, other)


@pytest.mark.parametrize(
    ("answer", "unit"),
    [
        ("18", None),
        ("$18", "usd"),
        ("18 cents", "1/100 usd"),
        ("5%", "percent"),
        ("18 red apples", "noun red apple"),
        ("3 km/h", "5/18 length time^-1"),
        ("2x", None),
        ("5 sin x", None),
    ],
)
def test_the_unit_is_separate_from_the_value(answer: str, unit: str | None) -> None:
    form = normal_form(answer)
    assert (form.unit and form.unit.name) == unit


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12), st.decimals(places=12))
def test_normal_forms_of_numbers_are_equal_exactly_if_the_numbers_are(
    a: Decimal, b: Decimal
) -> None:
    if not b.is_finite():
        b = a
    assert normalise(MATH, f"{a:f}") == normalise(MATH, f"{a:,f}")
    assert (normalise(MATH, f"{a:f}") == normalise(MATH, f"{b:f}")) == (a == b)


PIECES = [
    *["{", "}", "(", ")", "[", "]", "|", "$", "\\", "\\frac", "\\sqrt", "\\text{", "\\begin{pmatrix}", "&", "\\\\"],
    *["^", "_", "!", "%", ",", ";", ":", "=", "<", "\\le", "\\pm", "\\in", "\\cup", "\\circ", "\\binom", "\\choose"],
    *["1", "9", "0.5", "1e999", "x", "ab", "no", " ", "cm", "m/s", "apples", "and", "per", "million", "€", "£", "¢"],
    *["½", "√", "²", "₈", "７", "−", "π", "°", "\ue000", "...", "\\ldots", "twenty", "R 2", "pm", "USD", "Rs."],
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_arbitrary_answers_have_a_normal_form_that_is_stable(text: str) -> None:
    assert normal_form(text) == normal_form(text)


@pytest.mark.parametrize(
    "piece", [*PIECES, "a ", "a-", "1 a ", "1,000", "x=", "1 m ", "0.", "1 1/2 ", "hundred "]
)
def test_long_answers_take_linear_time(piece: str) -> None:
    start = time.perf_counter()
    normal_form((piece * 2000)[:2000])
    normal_form("5 " + (piece * 2000)[:1990])
    assert time.perf_counter() - start < 1

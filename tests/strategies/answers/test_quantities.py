"""Quantities are read whole or not at all, in sentences of several languages."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secondpass.strategies.answers.task import Task, extract, normalise

MATH = Task(kind="math")

SENTENCES = (
    "The answer is {}.",
    "Thus we get {}.",
    "So the result is {}, as claimed.",
    "**Final answer:** {}",
    "Die Antwort ist {}.",
    "Also ergibt sich {}.",
    "La réponse est {}.",
    "La respuesta es {}.",
    "A resposta é {}.",
    "La risposta è {}.",
    "Ответ: {}.",
    "答案是 {}。",
    "答えは {} です。",
    "정답은 {} 입니다.",
    "الإجابة هي {}.",
    "उत्तर {} है।",
    "Cevap: {}",
    "Đáp án là {}.",
    "<answer>{}</answer>",
)

NUMBER = st.integers(2, 999)
SMALL = st.integers(2, 59)


def joined(template: str, *parts: st.SearchStrategy[int]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda values: template.format(*values))


def any_joined(templates: list[str]) -> st.SearchStrategy[str]:
    return st.one_of([joined(each, *[NUMBER] * each.count("{}")) for each in templates])


FORMULAS = any_joined(
    [
        "{}^{}", "{} + {}", "{}*{}", "{} - {}", "{}√{}", "{}π", "{}x + {}", "{}/{} + {}", "({} + {})/{}", "sqrt({}) + {}",
        "{} × 10^{}", "{} \\cdot {}", "\\frac{{{}}}{{{}}}", "{}\\sqrt{{{}}}", "${}^{{{}}}$", "$\\frac{{{}}}{{{}}}$",
        "$x = {} + {}y$", "{} plus {}", "{} times {}", "{}x + {}y = {}", "$({}, {})$", "({}, {})", "[{}, {})",
        "\\begin{{pmatrix}}{}&{}\\\\{}&{}\\end{{pmatrix}}", "{} 1/{}", "{} ± {}", "x² + {}x + {}", "∛{} + {}", "{} base {}", "{} (base {})", "{} i + {}", "{}x - {}y", "{}! - {}!", "{} E+{}", "{}_{}", "{}e-{}", "2{}.5e{}", "twice {}",
    ]
)  # fmt: skip
LISTS = any_joined(
    [
        "{}, {}, and {}", "{} and {}", "{} or {}", "x = {} or x = {}", "x = {} oppure x = {}", "x = {} ya da x = {}", "x = {}, y = {}", "${}$ and ${}$", "$x={}$ or $x={}$",
        "{} apples and {} pears", "either {} or {}", "{}; {}; {}", "{} und {}", "{} et {}", "{} y {}", "{} e {}", "{} и {}", "{}和{}", "{} ve {}", "{} và {}", "{} remainder {}", "{} R {}", "${}$ R ${}$", "{}余{}", "{}—{}",
        "Tom has {} and Ann has {}", "Tom gets {}, Ann gets {}, and Bob gets {}", "{} red, {} blue", "{} for every {}",
    ]
)  # fmt: skip
RATIOS = any_joined(
    ["{}:{}", "{} : {} : {}", "{} to {}", "{} out of {}", "{} in {}", "{} of {}", "{} per {}"]
)
RANGES = any_joined(
    [
        "{}-{}",
        "{}–{}",
        "{} to {} days",
        "from {} to {}",
        "between {} and {}",
        "{} bis {}",
        "{} à {}",
    ]
)
DATES = st.one_of(
    joined("{}/{}/20{}", SMALL, SMALL, st.integers(10, 30)),
    joined("20{}-{:02}-{:02}", st.integers(10, 30), st.integers(1, 12), st.integers(1, 28)),
    joined("May {}", SMALL),
    joined("{} May 20{}", SMALL, st.integers(10, 30)),
    joined("March {}, 20{}", SMALL, st.integers(10, 30)),
    joined("{}月{}日", SMALL, SMALL),
    joined("{}:{:02} PM", st.integers(1, 12), st.integers(0, 59)),
    joined("{} p.m.", SMALL),
    joined("{}.{}.{}", SMALL, SMALL, SMALL),
)  # fmt: skip
UNITS = any_joined(
    [
        "{} hours and {} minutes", "{} hours {} minutes", "{} h {} min", "{} feet {} inches", "{} ft {} in", "{} kg {} g",
        "{} dollars and {} cents", "{} Stunden und {} Minuten", "{} heures et {} minutes", "{} horas y {} minutos",
        "{} ore e {} minuti", "{}小时{}分钟", "{}時間{}分", "{}시간 {}분", "{} saat {} dakika", "{} giờ {} phút",
        "{}'{}\"", "{}°{}'", "{} dozen", "{}th", "{}k",
    ]
)  # fmt: skip


def is_whole(answer: str, whole: str) -> bool:
    """Return True if an answer contains every numeral of a quantity, or is the right side of its equation."""
    numerals = re.findall(r"\d+", whole)
    found = re.findall(r"\d+", answer)
    return found == numerals or "".join(found) == "".join(numerals)


@given(st.one_of(FORMULAS, LISTS, RATIOS, RANGES, DATES, UNITS), st.sampled_from(SENTENCES))
@example("5 apples and 3 pears", "Thus we get {}.")
def test_no_proper_part_of_a_quantity_is_read(whole: str, sentence: str) -> None:
    answer = extract(MATH, sentence.format(whole))
    assert answer is None or is_whole(answer, whole), answer


@given(
    st.lists(NUMBER, min_size=2, max_size=4, unique=True),
    st.sampled_from([" and ", ", ", " or ", "\n", "$ and $", r" \text{ or } ", " y ", " und "]),
)
def test_several_boxes_are_one_list(numbers: list[int], separator: str) -> None:
    boxes = separator.join(f"\\boxed{{{number}}}" for number in numbers)
    assert extract(MATH, f"So $x = {boxes}$.") == ", ".join(map(str, numbers))


@given(NUMBER, st.sampled_from(SENTENCES))
def test_a_lone_numeral_is_read_in_every_language(number: int, sentence: str) -> None:
    assert extract(MATH, sentence.format(number)) == str(number)


@given(
    NUMBER,
    st.sampled_from(
        ["apples", "km", "dollars", "%", "€", "cm²", "kg", "people", "minutes", "degrees"]
    ),
)
def test_a_numeral_is_read_without_its_unit(number: int, unit: str) -> None:
    answer = extract(MATH, f"Thus we get {number} {unit}.")
    assert answer is not None
    assert normalise(MATH, answer) == str(number)


@given(NUMBER, NUMBER)
def test_a_negated_numeral_is_not_read(wrong: int, right: int) -> None:
    assert extract(MATH, f"The answer is not {wrong}.") is None
    assert extract(MATH, f"Die Antwort ist nicht {wrong}, sondern {right}.") == str(right)
    assert extract(MATH, f"We get {right}, not {wrong}.") == str(right)


@given(st.one_of(FORMULAS, LISTS, UNITS, DATES), st.sampled_from(SENTENCES), st.integers(0, 60))
def test_a_truncated_quantity_is_never_read(whole: str, sentence: str, length: int) -> None:
    text = sentence.format(whole)
    answer = extract(MATH, text[:length], finished=False)
    assert answer is None or is_whole(answer, whole), answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("By Eq. 3, we get 7.", "7"),
        ("See Fig. 2. The answer is 7 (see note 3).", "7"),
        ("In the U.S. 5 people won.", "5"),
        ("Dr. Smith has 7 apples, e.g. red ones.", "7"),
        ("The answer is 42[1].", "42"),
        ("The answer is 42 [3].", "42"),
        ("The answer is 1.5 × 10^6 km.", "1.5 × 10^6"),
        ("The answer is 10^{-3}.", "10^{-3}"),
        ("There are 2¹⁰ ways.", "2¹⁰"),
        ("The answer is 2 ½.", "2 ½"),
        ("Die Antwort ist 1.234,5.", "1234.5"),
        ("Die Antwort ist 1.234.", None),
        ("La risposta è 1.000.000.", "1000000"),
        ("The answer is 1,00,000.", "100000"),
        ("The answer is 1 000 000.", "1000000"),
        ("答案：４２", "42"),
        ("उत्तर: ४२", "42"),
        ("The answer is 3 dozen.", None),
        ("The answer is twice 6.", None),
        ("The answer is the square root of 16.", None),
        ("The roots are\n- 2\n- 3", None),
        ("1. First\n2. Second\n3. Total is 72.", "72"),
        ("There are $501$ values of $k$.", "501"),
        ("So $AB = 5$.", "5"),
        ("Thus $3x + 2y = 7$.", "3x + 2y = 7"),
        ("So 15 pages - 5 pages = 10 pages are left.", "10"),
        ("Dividing by 6, we find $k=1$.", "1"),
        ("The number that is not on top is $18$.", "18"),
        (r"\boxed{2} to \boxed{3}", None),
        (r"(a) \boxed{2} (b) \boxed{3}", "2, 3"),
        ("The answer is:\n\n42", "42"),
        ("The mean is 5 and the median is 6.", None),
        ("So the farmer earns 30 x $2.5 = $75.", "75"),
        ("Answer: 3; Answer: 4", None),
        ("The answer to part (a) is 3 and to part (b) is 4.", None),
        ("The probability is 1/6 (about 16.67%).", "1/6"),
        ("The answer is forty-two (42).", "42"),
        ("Phone: +1 555 123 4567", "+1 555 123 4567"),
        ("A resposta é R$ 1.250,50.", "1250.50"),
        ("Es sind 1.500 Euro.", None),
    ],
)  # fmt: skip
def test_a_quantity_is_read_in_its_context(text: str, answer: str | None) -> None:
    assert extract(MATH, text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": 18, "steps": 3}', "18"),
        ('Here:\n```json\n{"final_answer": "3/4"}\n```\nDone.', "3/4"),
        ('```\n{"result": {"answer": 7}}\n```', "7"),
        (r'{"answer": "\frac{1}{2}"}', r"\frac{1}{2}"),
        (r'{"answer": "\\boxed{5}"}', "5"),
        ('So {"answer": "18 apples"}', "18"),
        ('{"answer": ["1", "2"]}', "1, 2"),
        ('{"answer": null} 5', "5"),
        ('{"answer": null}', None),
        ("<answer>1</answer> <answer>2</answer> 3", "2"),
        ("<answer>1</answer> <answer>2", "1"),
        ("<answer>\n\\boxed{18}\n</answer>", "18"),
        ("<answer>The answer is 18.</answer>", "18"),
        ("<answer>18", "18"),
        ("<answer></answer> 5", None),
    ],
)
def test_a_marked_field_is_the_answer(text: str, answer: str | None) -> None:
    assert extract(MATH, text) == answer


def test_an_open_field_of_a_truncated_completion_is_not_an_answer() -> None:
    assert extract(MATH, "<answer>18", finished=False) is None
    assert extract(MATH, "<answer>17</answer> <answer>18", finished=False) is None
    assert extract(MATH, "<answer>18</answer>", finished=False) == "18"

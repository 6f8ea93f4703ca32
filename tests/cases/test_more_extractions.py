"""The answers that are read from many more phrasings, in fourteen languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.answers.task import Task, extract
from tests.cases.reading import rows_of
from tests.cases.test_choice import OPTIONS
from tests.cases.test_math_extract import MATH, is_accepted

CHOICE = Task(kind="choice", options=OPTIONS)
CHOICES = rows_of("choice_more")
NUMERALS = rows_of("math_extract_more")

STATEMENTS = (
    ("I don't think that ", "the answer is {}."), ("Suppose ", "the answer is {}."), ("If ", "the answer is {}, we are done."),
    ("Many students think ", "the answer is {}."), ("It is wrong to say ", "the answer is {}."), ("Could ", "the answer be {}?"),
    ("Ich glaube nicht, dass ", "die Antwort {} ist."), ("Angenommen, ", "die Antwort ist {}?"), ("Si ", "la réponse est {}, c'est fini."),
    ("Supongamos que ", "la respuesta es {}."), ("Se ", "a resposta é {}, acabou."), ("Supponiamo che ", "la risposta è {}."),
    ("Не уверен, что ", "ответ {}."), ("如果", "答案是{}，那么速度太大。"), ("もし", "答えは{}なら、速すぎます。"), ("만약 ", "정답은 {}라면 빠릅니다."),
    ("إذا كانت ", "الإجابة هي {}."), ("यदि ", "उत्तर {} है, तो गति अधिक है।"), ("Eğer ", "cevap {} ise hızlıdır."), ("Nếu ", "đáp án là {} thì nhanh."),
)  # fmt: skip


@pytest.mark.parametrize("row", CHOICES, ids=lambda row: row["text"][:50])
def test_the_letter_or_none_is_read(row: dict[str, str]) -> None:
    assert extract(CHOICE, row["text"]) == row["want"]


@pytest.mark.parametrize("row", NUMERALS, ids=lambda row: row["text"][:50])
def test_an_accepted_answer_is_read(row: dict[str, list[str | None]]) -> None:
    answer = extract(MATH, str(row["text"]))
    assert is_accepted(answer, row), answer


@given(st.sampled_from(STATEMENTS), st.sampled_from("ABCDE"))
def test_a_denied_or_supposed_letter_is_never_read(statement: tuple[str, str], letter: str) -> None:
    before, claim = statement
    assert extract(CHOICE, before + claim.format(letter)) is None


@given(st.sampled_from(CHOICES), st.sampled_from("ABCDE"))
def test_a_final_statement_decides(row: dict[str, str], letter: str) -> None:
    text = row["text"]
    if not any(mark in text.lower() for mark in ("answer>", "boxed", '"answer', "<think>", "fbox")):
        assert extract(CHOICE, f"{text}\n\nThe answer is {letter}.") == letter

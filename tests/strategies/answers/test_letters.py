"""Letters of options in fourteen languages; negated and rejected letters are never read."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secondpass.strategies.answers.languages import LANGUAGES
from secondpass.strategies.answers.task import Task, extract

OPTIONS = ("2 m/s", "4 m/s", "8 m/s", "16 m/s", "32 m/s")
CHOICE = Task(kind="choice", options=OPTIONS)
LETTERS = st.sampled_from("ABCDE")

STATED: dict[str, list[str]] = {
    "en": [
        "The answer is {}.", "The correct option is {}.", "The best answer is option {}.", "Answer - {}", "=> {}", "I'd go with {}.",
        "{} is correct.", "Option {} is correct.", "({}) is the correct answer.", "Hence ({}).", "The answer is clearly {}.",
        "Answer: <{}>", "Answer: {{{}}}", "[[{}]]", "**Correct answer: {}**", "The answer is {} because it is fast.",
    ],
    "de": ["Die richtige Antwort ist {}.", "Die Antwort lautet: {}", "Antwort {} ist richtig.", "{} ist richtig.", "Ich wähle {}.", "Lösung: {})"],
    "fr": ["La bonne réponse est la {}.", "Réponse : {}", "Je choisis {}.", "Donc {}.", "{} est la bonne réponse."],
    "es": ["La opción correcta es la {}.", "Respuesta: {}", "Elijo {}.", "Por lo tanto, la respuesta es ({})."],
    "pt": ["A resposta correta é {}.", "A resposta é a alternativa {}.", "Resposta: {}"],
    "it": ["La risposta corretta è {}.", "Risposta: {}", "L'opzione corretta è {}."],
    "ru": ["Правильный ответ: {}", "Ответ — {}.", "Правильный вариант — {}", "Ответ {}"],
    "zh": ["答案是{}。", "答案：{}", "正确答案是（{}）。", "正确选项是 {}。", "所以选{}。", "故选：{}", "【答案】{}"],
    "ja": ["正解は{}です。", "答え：{}", "正しい選択肢は{}です。", "したがって、答えは {}", "{}が正解です。"],
    "ko": ["정답은 {}입니다.", "정답: {}", "답은 ({})입니다.", "{}가 정답입니다.", "따라서 정답은 {}이다."],
    "ar": ["الإجابة هي {}.", "الإجابة الصحيحة هي {}", "الجواب: {}", "الخيار الصحيح هو {}"],
    "hi": ["उत्तर {} है।", "सही उत्तर ({}) है।", "उत्तर: {}", "सही विकल्प {} है"],
    "tr": ["Cevap: {}", "Doğru cevap {}'dir.", "Cevap {} şıkkıdır.", "Doğru seçenek {}."],
    "vi": ["Đáp án là {}.", "Đáp án: {}", "Câu trả lời đúng là {}.", "Chọn {}."],
}  # fmt: skip
REPLACED: dict[str, str] = {
    "en": "The answer is not {} but {}.",
    "de": "Die Antwort ist nicht {}, sondern {}.",
    "fr": "La réponse n'est pas {} mais {}.",
    "es": "La respuesta no es {} sino {}.",
    "pt": "A resposta não é {}, mas {}.",
    "it": "La risposta non è {} ma {}.",
    "ru": "Ответ не {}, а {}.",
    "zh": "答案不是{}而是{}。",
    "ja": "答えは{}ではなく{}です。",
    "ko": "정답은 {}가 아니라 {}입니다.",
    "ar": "الإجابة ليست {} بل {}.",
    "hi": "उत्तर {} नहीं, बल्कि {} है।",
    "tr": "Cevap {} değil, {}'dir.",
    "vi": "Đáp án không phải là {} mà là {}.",
}
DENIED: dict[str, list[str]] = {
    "en": [
        "The answer is not {}.", "The answer cannot be {}.", "It is not {}.", "{} is wrong.", "({}) is incorrect.", "Not ({}).",
        "I would not pick {}.", "{} is not correct.", "We can rule out {}.", "The answer is anything but {}.",
    ],
    "de": ["Die Antwort ist nicht {}.", "{} ist falsch.", "{} ist nicht richtig.", "Ich wähle nicht {}."],
    "fr": ["La réponse n'est pas {}.", "{} est fausse.", "Ce n'est pas {}."],
    "es": ["La respuesta no es {}.", "{} es incorrecta.", "No es {}."],
    "pt": ["A resposta não é {}.", "{} está errada.", "Não é {}."],
    "it": ["La risposta non è {}.", "{} è sbagliata.", "Non è {}."],
    "ru": ["Ответ не {}.", "{} неверно.", "Это не {}."],
    "zh": ["答案不是{}。", "{}是错误的。", "不选{}。"],
    "ja": ["答えは{}ではありません。", "{}は間違いです。", "{}ではない。"],
    "ko": ["정답은 {}가 아닙니다.", "{}는 틀렸습니다."],
    "ar": ["الإجابة ليست {}.", "{} خاطئة."],
    "hi": ["उत्तर {} नहीं है।", "{} गलत है।", "{} सही नहीं है।"],
    "tr": ["Cevap {} değil.", "{} yanlıştır.", "{} doğru değil."],
    "vi": ["Đáp án không phải là {}.", "{} sai.", "Không phải {}."],
}  # fmt: skip
ALTERNATIVES: dict[str, str] = {
    "en": "The answer is {} or {}.",
    "de": "Die Antwort ist {} oder {}.",
    "fr": "La réponse est {} ou {}.",
    "es": "La respuesta es {} o {}.",
    "pt": "A resposta é {} ou {}.",
    "it": "La risposta è {} o {}.",
    "ru": "Ответ: {} или {}.",
    "zh": "答案是{}或{}。",
    "ja": "答えは{}か{}です。",
    "ko": "정답은 {} 또는 {}입니다.",
    "ar": "الإجابة هي {} أو {}.",
    "hi": "उत्तर {} या {} है।",
    "tr": "Cevap {} veya {}.",
    "vi": "Đáp án là {} hoặc {}.",
}
EACH_LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)


def test_every_language_of_the_table_is_tested() -> None:
    for phrases in (STATED, REPLACED, DENIED, ALTERNATIVES):
        assert list(phrases) == list(LANGUAGES)


@EACH_LANGUAGE
@given(data=st.data(), letter=LETTERS)
def test_a_stated_letter_is_read(language: str, data: st.DataObject, letter: str) -> None:
    phrase = data.draw(st.sampled_from(STATED[language]))
    assert extract(CHOICE, phrase.format(letter)) == letter


@EACH_LANGUAGE
@given(letter=LETTERS)
def test_full_width_and_enclosed_letters_are_read(language: str, letter: str) -> None:
    for offset in (0xFF21, 0x24B6, 0x1F170):
        wide = chr(ord(letter) - ord("A") + offset)
        assert extract(CHOICE, STATED[language][0].format(wide)) == letter


@EACH_LANGUAGE
@given(wrong=LETTERS, right=LETTERS)
def test_the_replacement_of_a_negated_letter_is_read(language: str, wrong: str, right: str) -> None:
    assume(wrong != right)
    assert extract(CHOICE, REPLACED[language].format(wrong, right)) == right


@EACH_LANGUAGE
@given(data=st.data(), letter=LETTERS)
def test_a_negated_letter_is_never_read(language: str, data: st.DataObject, letter: str) -> None:
    phrases = st.sampled_from(DENIED[language]).map(lambda phrase: phrase.format(letter))
    passages = data.draw(st.lists(phrases, min_size=1, max_size=3))
    separator = data.draw(st.sampled_from([" ", "\n", "\n\n"]))
    assert extract(CHOICE, separator.join(passages)) is None


@EACH_LANGUAGE
@given(one=LETTERS, other=LETTERS)
def test_two_letters_are_ambiguous(language: str, one: str, other: str) -> None:
    assume(one != other)
    assert extract(CHOICE, ALTERNATIVES[language].format(one, other)) is None


@given(st.permutations("ABCDE"), st.sampled_from([" is wrong", " is incorrect", " is false"]))
def test_the_letter_after_eliminations_is_read(letters: list[str], predicate: str) -> None:
    *wrong, right = letters
    eliminated = ", ".join(letter + predicate for letter in wrong)
    assert extract(CHOICE, f"{eliminated}. So {right}.") == right
    assert extract(CHOICE, f"{eliminated}.") is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is A dog.", None),
        ("A car moves.", None),
        ("Answer: a car", None),
        ("The answer is a bit unclear.", None),
        ("The answer is a.", "A"),
        ("answer: b", "B"),
        ("Is the answer B?", None),
        ("The answer is B or possibly C.", None),
        ("The other option is B.", None),
        ("The answer is obvious from point B.", None),
        ("A or B is correct.", None),
        ("A is correct. B is also correct: B is correct.", None),
        ("Option A: wrong. Option B: right.", None),
        ("The answer is A, not B.", "A"),
        ("Answer: B\n\nA is wrong because it is slow.", "B"),
        ("It's not 2 m/s.", None),
        ('{"choice": "C", "reason": "A is slow"}', "C"),
        ('```json\n{"answer": {"option": "(C)"}}\n```', "C"),
        ('{"answer": "not A"}', None),
        ("<answer>(B) 4 m/s</answer>", "B"),
        ("<answer>The answer is B.</answer> A", "B"),
        (r"\boxed{A} or \boxed{B}", None),
        (r"\boxed{not A}", None),
        ("The answer is F.", None),
        ("The answer is B.<|im_end|>\n<|im_start|>user\nThe answer is C.", "B"),
    ],
)
def test_a_letter_is_read_only_from_a_clear_statement(text: str, letter: str | None) -> None:
    assert extract(CHOICE, text) == letter

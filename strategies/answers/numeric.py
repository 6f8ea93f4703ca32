"""Extraction of numeric answers and formulas from a completion. An uncertain answer is None."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from secondpass.strategies.answers.fields import answer_field
from secondpass.strategies.answers.items import cleaned, number
from secondpass.strategies.answers.languages import ABBREVIATIONS, LANGUAGES
from secondpass.strategies.answers.markers import last_box, strip_formula_delimiters
from secondpass.strategies.answers.quantities import Quantity, quantities
from secondpass.strategies.answers.statements import (
    Statement,
    any_of,
    ending,
    every,
    folded,
    is_supposed,
    list_words,
    sentence_end,
    sentences,
    statements,
)

_HASHES = re.compile(r"(?<!\#)\#{4}(?!\#)[ \t]{0,8}([^\n]{0,200})(\n?)")
_COMMAND = re.compile(r"\\(?:text|mathrm|mbox|operatorname)\s?\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(
    r"(?<![A-Za-z])(?!(?:sin|cos|tan|log|ln|exp|pi|sqrt|mod)\b)[A-Za-z]{2,}"
    r"|(?<![A-Za-z])[A-Za-z]\.[A-Za-z]\."
    r"|[\u00c0-\u024f\u0370-\u03bf\u03c1-\u1fff\u3040-\ud7ff]"
)
_NAME = re.compile(
    r"\s*+(?:[A-Za-z]\w{0,3}|[A-Za-z](?:_\{?\w{1,3}\}?)?\s?(?:\([A-Za-z\d]{1,3}\))?"
    r"|[-|(\[]?\s*+m?\s*+(?:\\[A-Za-z]{2,12}\s?\{?\s?){0,4}[A-Z]{1,4}'?\s*+\}?[|)\]]?)\s*+"
)
_SEVERAL = re.compile(
    r",\s?[A-Za-z]\w{0,2}\s?=|\$.*\$|\\\)|\\begin|\\(?:text|mbox)\{\s?(?:and|or)\b"
)
_NUMERAL = re.compile(
    r"[-+]?(?:\\?[$\u20ac\u00a3\u00a5\u20b9]\s?)?(?:\d{1,3}(?:[ \u00a0\u202f]\d{3})+|\d[\d.,\u2019]*)(?:[.,]\d+)?"
)
_DIGIT = re.compile(r"\d|\\(?:pi|infty|sqrt|emptyset|varnothing)\b|=")
_MAX_SENTENCES = 50
_SENTENCE_WINDOW = 4000

_COPULA_BEFORE = re.compile(
    rf"(?:{every('copula')}|[=\u2248:])[ ]{{0,2}}(?:(?:{every('lead')}|about|approximately|approx\.?|just)[ ]{{1,2}}){{0,2}}\Z"
)
_SECOND_VALUE = re.compile(
    rf"[\s,;]{{0,3}}(?:{list_words()})\b[^.;\n]{{1,60}}?(?:{every('copula')})\s{{1,2}}"
)
_NEGATION_BEFORE = re.compile(
    rf"(?:{every('negation')})(?:(?!{every('copula')})[^.,;:!?\uff0c\d=]){{0,25}}\Z"
)
_REPLACEMENT = {
    code: re.compile(any_of(language.but, is_spaced=language.is_spaced) + r"[\s,]{0,3}")
    for code, language in LANGUAGES.items()
}
_NEGATION = {
    code: re.compile(r"[\s,]{0,3}" + any_of(language.negation, is_spaced=language.is_spaced))
    for code, language in LANGUAGES.items()
}
_SUBORDINATE = re.compile(
    r"\b(?i:after|before|when|if|once|unless|since|because|than|until|to reach)\s(?:[a-z]{1,12}\s){0,2}\Z"
)
_FRAME = re.compile(
    r"(?<!sulting )(?<!results )\b(?:for|in|within|during)\s(?:the |each |every )?\Z"
)
_ENUMERATOR = re.compile(
    r"[ \t>]{0,8}(?:(?:[-*+\u2022]|\(?(?:\d{1,3}|[a-z]|[ivx]{1,4})[.)])[ \t]{1,4}|\#{1,6}[ \t]{0,4})"
)
_BULLET_VALUE = re.compile(
    r"[ \t]{0,8}(?:[-*+\u2022]|\(?(?:\d{1,2}|[a-z])[.)])[ \t]{1,4}[^\n]{0,12}?[-\d$\\(][^\n]{0,30}"
)


def extract(text: str, *, finished: bool) -> str | None:
    """Return the answer in a field, in a box, after ####, in a statement, or at the end of a text."""
    text = folded(text)
    if field := answer_field(text, finished=finished):
        return field.content and _from_field(field.content)
    return _from_text(text, finished=finished)


def _from_field(content: str) -> str | None:
    """Return the answer in the content of a field, which is its value or a text that contains it.

    In more than 4,000 characters, only a marked answer is found.
    """
    found = _marked(content, finished=True)
    if found is not None:
        return found[0]
    if len(content) > _SENTENCE_WINDOW:
        return None
    content = content.strip().rstrip(".").strip()
    if _is_expression(content):
        return _right_side(content)
    found = _read_sentence(content, "en")
    return found[0] if found else _short_text(content)


def _from_text(text: str, *, finished: bool) -> str | None:
    found = _marked(text, finished=finished)
    if found is not None:
        return found[0]
    return _concluded(text) if finished else None


def _marked(text: str, *, finished: bool) -> tuple[str | None] | None:
    """Return the boxed, hashed or stated answer, which may be None; None if nothing marks an answer."""
    box = last_box(text)
    if box and (finished or box.is_last):
        return (box.content,)
    text = ending(text)
    hashed = _after_hashes(text, finished=finished)
    return (hashed,) if hashed else _stated(text, finished=finished)


def _after_hashes(text: str, *, finished: bool) -> str | None:
    """Return the content of the last #### line that is not a heading in words."""
    last = None
    for match in _HASHES.finditer(text):
        value = match[1].strip(" *_.\t\r")
        if _is_expression(value) and (finished or match[2]):
            last = value
    return last


def _stated(text: str, *, finished: bool) -> tuple[str | None] | None:
    """Return the last readable statement's value, or (None,) if it is unclear; None without one."""
    later: tuple[int, tuple[str | None]] | None = None
    for statement in statements(text):
        is_open = statement.is_question or is_supposed(text, statement.start)
        found = None if is_open else _read(statement, finished=finished)
        if later is not None:
            start, value = later
            is_same_sentence = sentence_end(text[statement.start : start]) is None
            return (None,) if is_same_sentence and found not in (None, value) else value
        if found == (None,) and finished and _is_corrected(text, statement):
            return None
        if found is not None:
            later = statement.start, found
        elif not finished or (
            is_open and statement.end + len(statement.sentence) >= len(text.rstrip()) - 1
        ):
            return (None,)
    return later and later[1]


def _is_corrected(text: str, statement: Statement) -> bool:
    """Return True if a statement is negated and a numeral follows its sentence."""
    negation = _NEGATION[statement.language].match(statement.sentence)
    rest = text[statement.end + len(statement.sentence) :]
    return bool((statement.is_negated or negation) and _DIGIT.search(rest))


def _read(statement: Statement, *, finished: bool) -> tuple[str | None] | None:
    """Return the value of a statement, or (None,) if it contains an unclear one; None for words alone.

    A single letter is not a value, because models copy "the answer is N" from prompts.
    """
    code = statement.language
    if not (finished or statement.is_closed):
        return None
    if statement.formula is not None and "\n" in statement.line + statement.formula:
        return (_right_side(statement.formula),)
    affirmed = _affirmed(statement, cleaned(statement.sentence))
    if affirmed is None:
        return (None,)
    sentence = affirmed.strip(" *_`\"'\t\r\u201c\u201d")
    if _is_expression(sentence):
        value = _right_side(sentence, code)
        return None if value and len(value) == 1 and value.isalpha() else (value,)
    if (found := _read_sentence(sentence, code)) is not None:
        return found
    word = _short_text(sentence)
    return (word,) if word and not (len(word) == 1 and word.isalpha()) else None


def _affirmed(statement: Statement, sentence: str) -> str | None:
    """Return the part of a sentence after what it negates; None if it only negates."""
    code = statement.language
    negation = _NEGATION[code].match(sentence)
    if statement.is_negated or negation:
        replacement = _REPLACEMENT[code].search(sentence, negation.end() if negation else 0)
        return sentence[replacement.end() :] if replacement else None
    if LANGUAGES[code].negates_before and (denied := _NEGATION[code].search(sentence)):
        sentence = sentence[denied.end() :].lstrip(" ,")
        if replacement := _REPLACEMENT[code].match(sentence):
            sentence = sentence[replacement.end() :]
        return sentence if _DIGIT.search(sentence) else None
    return sentence


def _read_sentence(sentence: str, language: str) -> tuple[str | None] | None:
    """Return the value of the first quantity in a sentence after a statement; None without a quantity."""
    found = [each for each in quantities(sentence, language) if not each.is_reference]
    if not found:
        return None
    first = found[0]
    if _NEGATION_BEFORE.search(sentence, max(0, first.start - 40), first.start):
        return (None,)
    if len(found) > 1 and _SECOND_VALUE.fullmatch(sentence, first.end, found[1].start):
        return (None,)
    return (_value_of(first, language),)


def _value_of(quantity: Quantity, language: str = "en") -> str | None:
    return quantity.value and _right_side(quantity.value, language)


def _short_text(sentence: str) -> str | None:
    """Return an answer of at most three words, such as "even"."""
    word = sentence.strip(" .*_`\"'")
    is_short = len(word.split()) <= 3 and any(map(str.isalpha, word)) and not re.search(r"\d", word)
    return (
        word
        if is_short and word.casefold() not in ABBREVIATIONS and word[-1] not in ":,;"
        else None
    )


def _is_expression(text: str) -> bool:
    """Return True for text without words, such as 18, $x + 1$ or 3/4; False for "18 apples"."""
    is_balanced = text.count("{") == text.count("}")
    return is_balanced and any(map(str.isalnum, text)) and not _WORD.search(_COMMAND.sub(" ", text))


def _right_side(expression: str, language: str = "en") -> str | None:
    """Return the value in "x = 5" or "12 - 5 = 7"; other equations are returned unchanged.

    A numeral has its separators of thousands removed; None if they are ambiguous.
    """
    if (stripped := strip_formula_delimiters(expression.strip(" *_`")).rstrip(". ")) == "":
        return None
    expression = stripped
    left, equals, right = expression.rpartition("=")
    sides = [_COMMAND.sub(" ", side) for side in left.split("=")]
    is_value = (
        bool(equals and right.strip() and left.strip())
        and left[-1:] not in "<>:\\&"
        and not _SEVERAL.search(expression)
        and (
            _NAME.fullmatch(left.split("=")[0]) is not None
            or not re.search("[A-Za-z]", sides[0])
            or (len(sides) > 1 and re.search(r"\d", sides[-1]) is not None)
        )
        and not re.search("[A-Za-z]", "".join(sides[-1:] if len(sides) > 1 else ""))
    )
    value = right.strip() if is_value else expression
    if value[:1] in "\\([{" or not _NUMERAL.fullmatch(value):
        return value
    return number(value, language)


def _concluded(text: str) -> str | None:
    """Return the last formula, else the last numeral, of the last sentence with a quantity."""
    for sentence in islice(_last_sentences(text), _MAX_SENTENCES):
        language = _decimal_language(sentence)
        found = [
            each
            for each in quantities(sentence, language)
            if not each.is_reference and _DIGIT.search(each.value or "0")
        ]
        if found:
            return _decided(sentence, found)
    return None


def _decimal_language(sentence: str) -> str:
    """Return the language with a decimal comma of a sentence; "en" for any other language."""
    if not _SEPARATED.search(sentence) or _ENGLISH.search(sentence):
        return "en"
    return next((code for code, words in _FOREIGN.items() if words.search(sentence)), "en")


_SEPARATED = re.compile(r"\d[.,]\d")
_ENGLISH = re.compile(
    r"\b(?:the|is|are|of|and|so|we|it|in|each|total|has|have|for)\b", re.IGNORECASE
)
_FOREIGN = {
    code: re.compile(
        any_of(
            {
                *language.copula,
                *language.because,
                *language.intro,
                *language.join,
                *language.negation,
            }
        )
    )
    for code, language in LANGUAGES.items()
    if language.decimal_comma
}


def _decided(sentence: str, found: list[Quantity]) -> str | None:
    kept = [
        each
        for each in found
        if not _NEGATION_BEFORE.search(sentence, max(0, each.start - 40), each.start)
    ]
    if not kept:
        return None
    main = [
        each
        for each in kept
        if each.has_formula
        or "=" in sentence[each.start : each.end]
        or not _SUBORDINATE.search(sentence, max(0, each.start - 40), each.start)
    ]
    kept = main or kept
    last = kept[-1]
    is_equation = last.has_formula or "=" in sentence[last.start : last.end]
    is_frame = _FRAME.search(sentence, max(0, last.start - 20), last.start) is not None
    if len(kept) > 1 and is_frame and not is_equation:
        return None
    if (
        len(kept) > 1
        and _SECOND_VALUE.fullmatch(sentence, kept[-2].end, last.start)
        and _COPULA_BEFORE.search(sentence, 0, kept[-2].start)
    ):
        return None
    formulas = [each for each in kept if each.has_formula]
    if formulas and not last.has_formula and not _COPULA_BEFORE.search(sentence, 0, last.start):
        last = formulas[-1]
    return _value_of(last)


def _last_sentences(text: str) -> Iterator[str]:
    """Yield the last sentences of a text, last first, without the markers of lists."""
    stripped = text.rstrip()
    window = stripped[-_SENTENCE_WINDOW:]
    if len(stripped) > len(window):
        window = window.partition("\n")[2] or window
    lines = [line for line in window.split("\n") if line.strip()]
    if len(lines) > 1 and all(_BULLET_VALUE.fullmatch(line.rstrip()) for line in lines[-2:]):
        return
    for sentence in reversed(sentences(cleaned(window))):
        if sentence[-1] in "?\u061f":
            continue
        marker = _ENUMERATOR.match(sentence)
        yield sentence[marker.end() :] if marker else sentence

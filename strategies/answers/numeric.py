"""Extraction of numeric answers and formulas from a completion."""

from __future__ import annotations

import re

from secondpass.strategies.answers.markers import (
    Statement,
    conclusion,
    last_box,
    statements,
    strip_formula_delimiters,
)

_NUMERAL = re.compile(
    r"""(?<![A-Za-z0-9_])
        (?P<sign> [-+\u2212]?) (?:\\?[$\u20ac\u00a3\u00a5]\s?)?
        (?P<value> (?:\d+\s?)? \\[dt]?frac\{-?\d+\}\{\d+\}
                 | (?: \d(?:[\d,]*\d)? (?:\.\d+)? | \.\d+ ) (?: /\d+ | :\d\d(?!\d) )?
                   (?: [ ](?:thousand|million|billion|trillion)\b )? )""",
    re.VERBOSE | re.ASCII,
)
_HASHES = re.compile(r"(?<!\#)\#{4}(?!\#)[ \t]{0,8}([^\n]{0,200})(\n?)")
_GROUPED = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+)(\.\d*)?", re.ASCII)
_THIN_SPACE = re.compile(r"(?<!\\)\\[!,]")
_COMMAND = re.compile(r"\\(?:text|mathrm|mbox|operatorname)\s?\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"(?<![A-Za-z])(?!(?:sin|cos|tan|log|ln|exp|pi|sqrt|mod)\b)[A-Za-z]{2,}")
_ASSIGNED = re.compile(r"(?:[A-Za-z]\w{0,3}|[^A-Za-z=]{1,200})=([^=]+)")


def extract(text: str, *, finished: bool) -> str | None:
    """Return the final answer: boxed, after ####, stated, or the last number of a finished text."""
    tail = conclusion(text)
    if tail is None:
        return None
    box = last_box(tail)
    if box and (finished or box.is_last):
        return box.content
    return (
        _after_hashes(tail, finished=finished)
        or _stated(tail, finished=finished)
        or (_last_number(tail) if finished else None)
    )


def _after_hashes(text: str, *, finished: bool) -> str | None:
    """Return the content of the last #### line that is not a heading in words."""
    last = None
    for match in _HASHES.finditer(text):
        value = match[1].strip(" *_.\t\r")
        if _is_expression(value) and (finished or match[2]):
            last = value
    return last


def _stated(text: str, *, finished: bool) -> str | None:
    for statement in statements(text):
        value = _read(statement, finished=finished)
        if value or not finished:
            return value
    return None


def _read(statement: Statement, *, finished: bool) -> str | None:
    """Return the value of a statement, or None.

    A single letter is not a value, because models copy "the answer is N" from prompts.
    """
    value = _value(statement, finished=finished)
    return None if value and len(value) == 1 and value.isalpha() else value


def _value(statement: Statement, *, finished: bool) -> str | None:
    formula = statement.formula
    if formula and _is_expression(formula):
        return _right_side(formula)
    if not finished and not statement.is_closed:
        return None
    sentence = statement.sentence.strip(" *_`\"'\t\r")
    if _is_expression(sentence):
        return _right_side(sentence)
    right = sentence.rpartition("=")[2].strip()
    if match := _NUMERAL.search(_join_digits(right)):
        return _numeral(match)
    is_short = len(sentence.split()) <= 3 and any(map(str.isalpha, sentence))
    return sentence if is_short else None


def _is_expression(text: str) -> bool:
    """Return True for text without words, such as 18, $x + 1$ or 3/4; False for "18 apples"."""
    is_balanced = text.count("{") == text.count("}")
    return is_balanced and any(map(str.isalnum, text)) and not _WORD.search(_COMMAND.sub(" ", text))


def _right_side(expression: str) -> str:
    """Return the value in "x = 5" or "12 - 5 = 7"; other equations are returned unchanged."""
    expression = strip_formula_delimiters(expression.strip(" *_`")).rstrip(". ")
    assigned = _ASSIGNED.fullmatch(expression.replace(" ", ""))
    return expression.rpartition("=")[2].strip() if assigned else expression


def _last_number(text: str) -> str | None:
    last = None
    for match in _NUMERAL.finditer(_join_digits(text)):
        last = match
    return _numeral(last) if last else None


def _join_digits(text: str) -> str:
    r"""Remove LaTeX thin spaces and unwrap {,}, both of which separate thousands."""
    return _THIN_SPACE.sub("", text.replace("{,}", ","))


def _numeral(match: re.Match[str]) -> str:
    """Return the number without currency signs and thousands separators; the last number of "3,4"."""
    value = match["value"]
    whole, slash, divisor = value.partition("/")
    grouped = _GROUPED.fullmatch(whole)
    whole = whole.replace(",", "") if grouped else whole.rpartition(",")[2]
    return match["sign"].replace("\u2212", "-").replace("+", "") + whole + slash + divisor

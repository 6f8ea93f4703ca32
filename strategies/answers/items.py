"""Numerals, formulas, commands and symbols in a sentence, and the value of a numeral."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from secondpass.strategies.answers.languages import LANGUAGES

Kind = Literal["formula", "latex", "number", "symbol"]

_SPACE = "[ \u00a0\u202f\u2009]"
_NUMBER = rf"""(?:(?<![\w)\]}}.,])[-+\u2013])? (?:\\?[$\u20ac\u00a3\u00a5\u20b9]\s?)?
    (?: (?<![\d.,]) \d{{1,3}} (?:{_SPACE}\d{{3}}){{1,40}} (?![\d]) (?:[.,]\d{{1,400}}(?![\d]))?
      | \d++ (?:[.,]\d++ | ['\u2019]\d{{3}}(?!\d))*+ | (?<!\d)\.\d+ )
    (?: (?:[eE][-+]?|[ ]E[-+])\d+ (?![A-Za-z\d_]) )?
    (?: [ ](?:thousand|million|billion|trillion)\b )?"""
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_RAISED = r"\u00b2\u00b3\u00b9\u2070-\u2079\u207a\u207b\u207f\u2080-\u2089"
_ITEM = re.compile(
    rf"""(?P<formula> \$\$[^$]{{1,1000}}\$\$ | (?<!\\)\$(?!\s)[^$\n]{{1,500}}(?<!\s)(?<!\\)\$(?!\d)
        | \\\((?:[^\\]|\\(?![()])){{1,1000}}+\\\) | \\\[(?:[^\\]|\\(?![\[\]])){{1,2000}}+\\\] )
      | (?P<latex> \\begin\{{(?P<env>[a-zA-Z*]{{1,20}})\}} (?:[^\\]|\\(?!end)){{0,1000}}+ \\end\{{(?P=env)\}}
        | \\(?!boxed|fbox|quad|qquad|text\b)[A-Za-z]{{1,30}} (?:\[[^\[\]]{{0,40}}\])? (?: \s?\{{(?:[^{{}}]|\{{[^{{}}]{{0,100}}\}}){{0,200}}+\}} ){{0,2}} )
      | (?P<number> {_NUMBER} )
      | (?P<symbol> [\u221a-\u221c\u03c0\u221e\u00bc-\u00be\u2150-\u215e\u00b1\u2213]
          | (?:(?<![\w'\u2019\u00b0])|(?<=[{_UNSPACED}]))(?<![A-Za-z]\.)[A-Za-z]
            (?![^\W{_RAISED}{_UNSPACED}]|['\u2019][a-z]|\.[A-Za-z])
        | (?<![A-Za-z])(?:sin|cos|tan|log|ln|exp|sqrt|cot|arcsin|arccos|arctan)(?=[\s(\d\u221a\u03c0]|$)
        | (?<![A-Za-z])pi(?![A-Za-z])
        | (?<=\d)[A-Za-z](?![^\W\d{_RAISED}{_UNSPACED}])
        | (?:(?<=[\d)\]])|(?<=(?<![A-Za-z])[A-Za-fi-knp-rt-z]))[{_RAISED}]{{1,20}} )""",
    re.VERBOSE,
)
_PROSE = re.compile(
    r"\\(?:text|mathrm|mbox|operatorname|textbf|mathbf|begin|end)\s?\{[^{}]*\}|\\[A-Za-z]+"
    r"|(?P<word>(?<![A-Za-z])(?!(?:sin|cos|tan|log|exp|sqrt|mod|max|min|gcd|lcm)\b)(?=[A-Z]*[a-z])[A-Za-z]{3,})"
)
_POWER = re.compile(r"\$\s?\^\s?\{?\s?-?\d\s?\}?\$")
_FOREIGN_DOLLAR = re.compile(r"(?<![A-Za-z])(?:R|US|A|CA|HK|NZ|S)\$(?=[ ]?\d)")
_CITATION = re.compile(r"(?<=[\w.%)}$])[ ]?\[\^?\d{1,3}(?:,[ ]?\d{1,3}){0,5}\](?![(\w{])")
_BOLD = re.compile(r"(?<![\w*)])(\*\*\*?|__)(?=\S)([^*_\n]{1,300})(?<=\S)\1(?![\w*(])")
_CALCULATION = re.compile(r"<<[^<>\n]{1,200}>>")
_PICTOGRAM = re.compile("[\u2600-\u2794\u2798-\u27bf\ufe0f\U0001f300-\U0001faff]")
_THIN_SPACE = re.compile(r"(?<!\\)\\[!,](?=\d{3})")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_POINT_GROUPS = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_COMMA_GROUPS = re.compile(
    r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-+]?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?"
)
_AMBIGUOUS = re.compile(r"[-+]?[1-9]\d{0,2}[.,]\d{3}")
_CURRENCY = re.compile(r"\\?[$\u20ac\u00a3\u00a5\u20b9]\s?")
_FACTOR_AFTER = re.compile(r" [-\d$\\(]")
_NUMBER_BEFORE = re.compile(r"\d \Z")
_REMAINDER = re.compile(r"[\d$] [rR] [\d$]")
_AFTER_CONNECTOR = re.compile(r" {1,2}(?:-?[\d$]|\\[\[(A-Za-z]|[^\W\d_]{2})")


@dataclass(frozen=True, slots=True)
class Item:
    """One numeral, formula, command or symbol of a text."""

    kind: Kind
    start: int
    end: int


def cleaned(text: str) -> str:
    """Return the text without markup, citations and pictograms, with thousands in one numeral."""
    text = _CALCULATION.sub("", _PICTOGRAM.sub("", text))
    text = _THIN_SPACE.sub("", text.replace("{,}", ","))
    return _CITATION.sub("", _BOLD.sub(r"\2", _FOREIGN_DOLLAR.sub("$", text)))


def items(text: str) -> list[Item]:
    """Return the items of a text in order. A dollar sign before prose is a currency."""
    found: list[Item] = []
    position = 0
    while match := _ITEM.search(text, position):
        kind = cast("Kind", match.lastgroup if match.lastgroup != "env" else "latex")
        if kind == "formula" and match[0][1:2].isdigit() and has_prose(match[0]):
            position = match.start() + 1
            continue
        is_power = kind == "formula" and _POWER.fullmatch(match[0])
        if not is_power and (kind != "symbol" or not _is_connector(text, match)):
            found.append(Item(kind, match.start(), match.end()))
        position = match.end()
    return found


def _is_connector(text: str, match: re.Match[str]) -> bool:
    """Return True for a unit, an article or a conjunction of one letter, as in "2 h" or "2 x 3"."""
    if match[0] in "hmsglL" and _NUMBER_BEFORE.search(
        text, max(0, match.start() - 4), match.start()
    ):
        return True
    if match[0] in "rR" and _REMAINDER.fullmatch(text, match.start() - 2, match.end() + 2):
        return True
    if text[match.start() - 1 : match.start()].isdigit():
        return False
    if match[0] == "x" and _FACTOR_AFTER.match(text, match.end()):
        return text[match.start() - 1 : match.start()] == " "
    return bool(match[0] in "aeouyAIOEYU" and _AFTER_CONNECTOR.match(text, match.end()))


def has_prose(formula: str) -> bool:
    r"""Return True if a formula contains words outside of \text{}."""
    return any(match["word"] for match in _PROSE.finditer(formula))


def number(text: str, language: str = "en") -> str | None:
    """Return a numeral without currency signs and thousands separators; None if they are ambiguous.

    In a language with a decimal comma, "1.234" may be a thousand or a fraction.
    """
    plain = _CURRENCY.sub("", text).replace("\u2013", "-")
    plain = re.sub(_SPACE + r"(?=\d{3})", "\u00a0", plain)
    is_spaced = "\u00a0" in plain
    plain = re.sub("['\u2019](?=\\d{3})", "", plain.replace("\u00a0", "")).lstrip("+")
    has_decimal_comma = LANGUAGES[language].decimal_comma
    if has_decimal_comma and _AMBIGUOUS.fullmatch(plain) and not is_spaced:
        return None
    if _COMMA_GROUPS.fullmatch(plain) and not (has_decimal_comma or is_spaced):
        return plain.replace(",", "")
    if _POINT_GROUPS.fullmatch(plain) and ("," in plain or plain.count(".") > 1):
        return plain.replace(".", "").replace(",", ".")
    if _DECIMAL_COMMA.fullmatch(plain) and (has_decimal_comma or is_spaced):
        return plain.replace(",", ".")
    return plain

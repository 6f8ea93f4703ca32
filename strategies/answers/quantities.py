"""Quantities in a sentence: each is read whole or not at all.

Numerals and formulas that belong together form one quantity: the terms of a formula, the parts of a ratio, date, duration
or mixed number, the items of a list, the ends of a range. A numeral that is a piece of something larger is never a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from secondpass.strategies.answers.languages import LABELS, LANGUAGES, MONTHS, PREFIXES, SCALES, UNITS
from secondpass.strategies.answers.statements import any_of, every

Kind = Literal["formula", "latex", "number", "symbol"]

MAX_LENGTH = 200
"""Most characters of a quantity that is read."""

_SPACE = "[ \u00a0\u202f\u2009]"
_NUMBER = rf"""(?:(?<![\w)\]}}.,])[-+\u2013])? (?:\\?[$\u20ac\u00a3\u00a5\u20b9]\s?)?
    (?: (?<![\d.,]) \d{{1,3}} (?:{_SPACE}\d{{3}}){{1,40}} (?![\d]) (?:[.,]\d{{1,400}}(?![\d]))?
      | \d+ (?:[.,'\u2019]\d+)* | (?<!\d)\.\d+ )
    (?: [eE][-+]?\d+ (?!\w) )?
    (?: [ ](?:thousand|million|billion|trillion)\b )?"""
_ITEM = re.compile(
    rf"""(?P<formula> \$\$[^$]{{1,1000}}\$\$ | (?<!\\)\$(?!\s)[^$\n]{{1,500}}(?<!\s)(?<!\\)\$(?!\d)
        | \\\((?:[^\\]|\\(?![()])){{1,1000}}+\\\) | \\\[(?:[^\\]|\\(?![\[\]])){{1,2000}}+\\\] )
      | (?P<latex> \\begin\{{(?P<env>[a-zA-Z*]{{1,20}})\}} (?:[^\\]|\\(?!end)){{0,1000}}+ \\end\{{(?P=env)\}}
        | \\(?!boxed|fbox|quad|qquad|text\b)[A-Za-z]{{1,30}} (?:\[[^\[\]]{{0,40}}\])? (?: \s?\{{(?:[^{{}}]|\{{[^{{}}]{{0,100}}\}}){{0,200}}+\}} ){{0,2}} )
      | (?P<number> {_NUMBER} )
      | (?P<symbol> [\u221a\u03c0\u221e\u00bd\u00bc\u00be] | (?<![\w'\u2019\u00b0])[A-Za-z](?![\w]|['\u2019][a-z])
        | (?<![A-Za-z])(?:sin|cos|tan|log|ln|exp|sqrt|cot|arcsin|arccos|arctan|pi)(?=[\s(\d\u221a\u03c0]|$)
        | (?<=\d)[A-Za-z](?![^\W\d]) | (?<=\d)\u00b2 | (?<=\d)[\u00b3\u2070-\u2079\u207f\u00b9] )""",
    re.VERBOSE,
)
_PROSE = re.compile(
    r"\\(?:text|mathrm|mbox|operatorname|textbf|mathbf|begin|end)\s?\{[^{}]*\}|\\[A-Za-z]+"
    r"|(?P<word>(?<![A-Za-z])(?!(?:sin|cos|tan|log|exp|sqrt|mod|max|min|gcd|lcm)\b)(?=[A-Z]*[a-z])[A-Za-z]{3,})"
)
_WORD = r"[^\W\d_]{1,20}\.?"
_CONNECTOR = every("join")
_UNIT = any_of(UNITS, is_spaced=False)
_UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"
_JOIN = re.compile(
    rf"""[^\w\n;\u2014]*
      | [^\w\n;]{{0,4}} (?:{_WORD}[^\w\n;\u2014]{{1,3}}){{0,3}} (?:{_UNSPACED}{{0,8}}) (?:{_CONNECTOR})
        [^\w\n;]{{0,4}} (?:(?:an?|the|another|about|of|le|la|les|der|die|el|los|por|par)[ ]{{1,2}})? [^\w\n;]{{0,4}}
      | \s{{0,2}} (?:{_UNIT})\.? ,? [ ]{{0,2}}
      | \s{{0,2}} {_WORD} [ ]{{0,2}} [-+*/^\u00d7\u00f7\u00b7=:&<>\u2264\u2265]{{1,2}} [ ({{]{{0,3}}
      | [^\w\n;]{{0,4}} (?:{_WORD}[ ]{{0,2}}){{0,2}} [,]? [ ]{{0,2}} (?:{_CONNECTOR}) [ ]{{1,2}} (?:Rs|No|Nr)\.? [ ]{{0,2}}
      | \s{{0,2}} \u0648 \s{{0,2}}
      | [^\w\n]{{0,4}} (?:[aApP]\.?[mM]\.?) [^\w\n]{{0,4}} (?:{_CONNECTOR})? [^\w\n]{{0,4}}""",
    re.VERBOSE,
)
_MONTH_BEFORE = re.compile(rf"(?:{any_of(MONTHS).replace('(?i:', '(?:')})\.?,?[ ]{{0,2}}(?:the )?\Z")
_MONTH_AFTER = re.compile(rf"(?:st|nd|rd|th|\.|er)?[ ]{{0,2}}(?:of |de |di )?(?:{any_of(MONTHS)})")
_LABEL_BEFORE = re.compile(rf"(?:(?:{any_of(LABELS)})\.?[ ]{{0,2}}[(]?|(?i:第)|\#|\b[A-Z]-)\Z")
_PREFIX_BEFORE = re.compile(rf"(?:{any_of(PREFIXES)})(?: the)?[ ]{{0,2}}\Z|(?:负|負|マイナス)\Z")
_SCALE_AFTER = re.compile(
    rf"[ ]?(?:{any_of(SCALES)})|[万萬亿億千百만억천]|[ ]?(?:and a half|et demie?|y medi[ao]|e mei[ao]|einhalb|y pico)\b"
    r"|-(?:digit|fold|sided)|[kKMB](?![\w])|bn\b|mn\b"
)
_ORDINAL_AFTER = re.compile(r"(?:st|nd|rd|th|er|ère|ème|e|º|ª|°\.)(?![\w])|[-\u2010](?:й|я|е|го|м)\b|(?:번째|番目|वाँ|वां)")
_DECADE_AFTER = re.compile(r"['\u2019]?s(?!\w)")
_DAY_TIME_AFTER = re.compile(r"[ ]?(?:[aApP]\.?[mM](?![A-Za-z])|o['\u2019]clock|Uhr\b)\.?")
_UNIT_POWER = re.compile(r"([-+]?[\d.,]+)\s?[A-Za-z]{1,6}(?:\^\{?-?\d\}?)")
_CITATION = re.compile(r"(?<=[\w.%)}$])[ ]?\[\^?\d{1,3}(?:,[ ]?\d{1,3}){0,5}\](?![(\w])")
_BOLD = re.compile(r"(?<![\w*)])(\*\*\*?|__)(?=\S)([^*_\n]{1,300})(?<=\S)\1(?![\w*(])")
_THIN_SPACE = re.compile(r"(?<!\\)\\[!,](?=\d{3})")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_POINT_GROUPS = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_COMMA_GROUPS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-+]?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?")
_AMBIGUOUS = re.compile(r"[-+]?[1-9]\d{0,2}[.,]\d{3}")
_CURRENCY = re.compile(r"\\?[$\u20ac\u00a3\u00a5\u20b9]\s?")
_AFTER_CONNECTOR = re.compile(r" {1,2}(?:-?[\d$]|\\[\[(A-Za-z]|[^\W\d_]{2})")
_NUMBER_WORD = (
    "(?i:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty|hundred|thousand"
    "|half|an? half|a quarter|zwei|drei|deux|trois|dos|tres)"
)
_WORDY_BEFORE = re.compile(rf"\b{_NUMBER_WORD}\b[^.,;\d]{{0,20}}\b(?:and|or|und|et|y|to)[ ]{{0,2}}\Z|\b{_NUMBER_WORD}[- ]\Z")
_WORDY_AFTER = re.compile(rf"[^.,;\d]{{0,20}}\b(?:and|or|und|et|y|to)[ ]{{1,2}}{_NUMBER_WORD}\b")
_FACTORIAL_AFTER = re.compile(r"!(?=\s[a-z]|[-+*/^=)])")
_UNIT_AFTER = re.compile(rf"[ ]?(?:{_UNIT})(?![A-Za-z\u00c0-\u04ff])\.?|['\u2032\u2033\"]{{1,2}}")
_UNIT_ALONE = re.compile(r"(?:[A-Za-z]{1,4}[/\u00b7*])?[A-Za-z]{1,4}(?:\^\{?-?\d\}?|[\u00b2\u00b3])")
_RELATION = re.compile(r"(?<![<>!=:])=(?!=)|\u2248|\\approx(?![a-z])")


@dataclass(frozen=True, slots=True)
class Item:
    """One numeral, formula, command or symbol of a text."""

    kind: Kind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Quantity:
    """Items that belong together.

    Attributes:
        start: Offset of its first character.
        end: Offset after its last character.
        has_formula: True if a delimited formula is part of it.
        value: Text of the whole quantity; None if it cannot be read with certainty.
        is_reference: True for a label such as the 3 in "step 3".
    """

    start: int
    end: int
    has_formula: bool
    value: str | None
    is_reference: bool


def cleaned(text: str) -> str:
    """Return the text without citations and bold marks, with thousands in one numeral."""
    text = _THIN_SPACE.sub("", text.replace("{,}", ","))
    return _CITATION.sub("", _BOLD.sub(r"\2", text))


def items(text: str) -> list[Item]:
    """Return the items of a text in order. A dollar sign before prose is a currency."""
    found: list[Item] = []
    position = 0
    while match := _ITEM.search(text, position):
        kind = match.lastgroup if match.lastgroup != "env" else "latex"
        if kind == "formula" and match[0][1:2].isdigit() and has_prose(match[0]):
            number = _ITEM.search(text, match.start() + 1)
            position = match.start() + 1
            if number is None or number.start() > position:
                continue
            match, kind = number, number.lastgroup
            if kind == "formula":
                continue
        if kind != "symbol" or not _is_connector(text, match):
            found.append(Item(kind, match.start(), match.end()))  # type: ignore[arg-type]
        position = match.end()
    return found


def _is_connector(text: str, match: re.Match[str]) -> bool:
    """Return True for an article or a conjunction of one letter before a number, as in "2 y 3"."""
    return bool(match[0] in "aeouyAIOEYU" and _AFTER_CONNECTOR.match(text, match.end()))


def has_prose(formula: str) -> bool:
    r"""Return True if a formula contains words outside of \text{}."""
    return any(match["word"] for match in _PROSE.finditer(formula))


def quantities(text: str, language: str = "en") -> Iterator[Quantity]:
    """Yield the quantities of a sentence in order.

    Args:
        text: The sentence, from `cleaned`.
        language: Code of its language, which determines the meaning of a decimal comma.
    """
    group: list[Item] = []
    for item in items(text):
        if group and not _belongs(text, group[-1], item):
            yield from _quantity(text, group, language)
            group = []
        group.append(item)
    if group:
        yield from _quantity(text, group, language)


def _belongs(text: str, left: Item, right: Item) -> bool:
    gap = text[left.end : right.start]
    if len(gap) > 60:
        return False
    if not gap.strip():
        if left.kind == "symbol" and text[left.start].isascii() and gap and right.kind == "number":
            return len(text[left.start : left.end]) > 1
        if gap and right.kind == "symbol" and text[right.start : right.end].isalpha():
            return text[right.start : right.end] in (*"xyznk", "\u03c0", "pi", "\u221a", "sqrt", "sin", "cos", "tan", "log", "ln")
    if "=" in text[right.start : right.end] and right.kind == "formula" and left.kind != "formula" and _WORDS.search(gap + "a" * ("," in gap)):
        return False
    return _JOIN.fullmatch(gap) is not None


def _quantity(text: str, group: list[Item], language: str) -> Iterator[Quantity]:
    if len(group) > 1 and group[-1].kind == "formula" and _OF.search(text[group[-2].end : group[-1].start]) and not _VALUE.search(text[group[-1].start : group[-1].end]):
        group = group[:-1]  # "5 values of $x$"
    while group and _is_lone_letter(text, group[0]) and len(group) > 1 and _WORDS.search(text[group[0].end : group[1].start]):
        group = group[1:]
    while group and _is_lone_letter(text, group[-1]) and len(group) > 1 and _WORDS.search(text[group[-2].end : group[-1].start]):
        group = group[:-1]
    if all(_is_lone_letter(text, item) for item in group):
        return
    start, end = _with_brackets(text, group[0].start, group[-1].end)
    has_formula = any(item.kind == "formula" for item in group)
    before, after = text[max(0, start - 40) : start], text[end : end + 40]
    whole = text[start:end]
    is_reference = not has_formula and bool(
        _LABEL_BEFORE.search(before)
        or (_UNIT_ALONE.fullmatch(whole) and re.search(r"\d\s?(?:[A-Za-z]{1,4}[/\u00b7*])?\Z", before))
    )
    value = None if is_reference or end - start > MAX_LENGTH and len(group) > 1 else _value(group, whole, before, after, language)
    yield Quantity(start, end, has_formula, value, is_reference)


_OF = re.compile(r"\b(?:of|de|von|di|for|by)\s{1,2}\Z")
_VALUE = re.compile(r"\d|=|\\(?:pi|sqrt|infty)")
_WORDS = re.compile(r"[^\W\d_]")


def _is_lone_letter(text: str, item: Item) -> bool:
    return item.kind == "symbol" and item.end - item.start == 1 and text[item.start].isascii()


def _with_brackets(text: str, start: int, end: int) -> tuple[int, int]:
    """Extend a span over the brackets that it leaves open."""
    for opening, closing in ("()", "[]", "{}", "||"):
        part = text[start:end]
        surplus = part.count(opening) - part.count(closing)
        if opening == closing:
            surplus = part.count(opening) % 2
        while surplus > 0 and text[end : end + 1] == closing:
            end, surplus = end + 1, surplus - 1
        while surplus < 0 and text[start - 1 : start] == opening:
            start, surplus = start - 1, surplus + 1
    while text[start - 1 : start] and text[end : end + 1] and text[start - 1] + text[end] in ("()", "[]", "{}", "(]", "[)"):
        start, end = start - 1, end + 1
    return start, end


def _value(group: list[Item], whole: str, before: str, after: str, language: str) -> str | None:
    """Return the value of a quantity in its context; None if a part of it is outside or it is unclear."""
    if _MONTH_BEFORE.search(before) or _MONTH_AFTER.match(after):
        return None
    is_number = len(group) == 1 and group[0].kind == "number"
    first, last = group[0].kind, group[-1].kind
    if first != "formula" and (_PREFIX_BEFORE.search(before) or re.search(r"[\w^_\\][-\u2010]?\Z", before)) and not re.search(
        rf"{_UNSPACED}\Z|(?:Rs|INR|USD|EUR|CHF|US)\Z", before
    ):
        return None
    if _WORDY_BEFORE.search(before) or _WORDY_AFTER.match(after) or _FACTORIAL_AFTER.match(after):
        return None
    if last != "formula" and (_ORDINAL_AFTER.match(after) or _SCALE_AFTER.match(after)):
        return None
    if last == "number" and _DECADE_AFTER.match(after) and re.search(r"\d{4}\Z", whole):
        return None
    if is_number:
        if daytime := _DAY_TIME_AFTER.match(after):
            return whole + daytime[0]
        return number(whole, language)
    if len(group) == 1:
        return whole
    if match := _UNIT_POWER.fullmatch(whole):
        return number(match[1], language)
    if _has_units(whole):
        unit = _UNIT_AFTER.match(after)
        return whole + unit[0].rstrip(".") if unit and not _UNKNOWN.search(_KNOWN.sub(" ", whole)) else None
    return _compound(group, whole, language)


def number(text: str, language: str = "en") -> str | None:
    """Return a numeral without currency signs and thousands separators; None if its separators are ambiguous."""
    plain = _CURRENCY.sub("", text).replace("\u2013", "-")
    plain = re.sub(_SPACE + r"(?=\d{3})", "\u00a0", plain)
    is_spaced = "\u00a0" in plain
    plain = plain.replace("\u00a0", "").replace("'", "").replace("\u2019", "").lstrip("+")
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


def _compound(group: list[Item], whole: str, language: str) -> str | None:
    """Return the right side of a single equation, else the whole quantity if it contains no unknown words."""
    if any(item.kind == "formula" for item in group):
        outside = _DELIMITED.sub(lambda match: "_" * len(match[0]), whole)
        relations = list(_RELATION.finditer(outside))
        if not relations or _LIST_SEPARATOR.search(outside):
            return None if _UNKNOWN.search(_KNOWN.sub(" ", whole)) else whole.strip()
        return _only_value(whole[relations[-1].end() :].strip(), language)
    parts = _LIST_SEPARATOR.split(whole)
    related = [part for part in parts if _RELATION.search(part)]
    is_arithmetic = not any(item.kind in ("symbol", "latex") for item in group)
    if related and parts[-1] is related[-1] and (len(parts) == 1 or (is_arithmetic and _ARITHMETIC.search(parts[-1]))):
        sides = _RELATION.split(parts[-1])
        letters = [_LETTERS.search(_KNOWN.sub(" ", side)) is not None for side in sides[:-1]]
        if not letters[0] or _VARIABLE.fullmatch(sides[0]) or (len(letters) > 1 and not letters[-1]):
            return _only_value(sides[-1].strip(), language)
    if _FOOTNOTE.fullmatch(whole):
        return None
    unknown = _KNOWN.sub(" ", whole)
    return None if _UNKNOWN.search(unknown) else whole.strip()


def _only_value(text: str, language: str) -> str | None:
    found = list(quantities(text, language))
    return found[0].value if len(found) == 1 and found[0].start == 0 else None


_DELIMITED = re.compile(r"\$\$[^$]*\$\$|\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]", re.DOTALL)
_LETTERS = re.compile(r"(?<![A-Za-z'\u2019])(?!x \d)[A-Za-z](?![A-Za-z'\u2019])")
_VARIABLE = re.compile(r"\s*[A-Za-z](?:_?\w{1,3}|\([A-Za-z\d]{1,3}\))?\s*")


def _has_units(whole: str) -> bool:
    """Return True for several numbers with units and without a relation, as in "5 feet 3 inches"."""
    return not _RELATION.search(whole) and bool(_INNER_UNIT.search(whole))


_INNER_UNIT = re.compile(rf"\d[ ]?(?:{_UNIT})(?![A-Za-z\u00c0-\u04ff])[^\d]{{0,20}}\d")
_LIST_SEPARATOR = re.compile(rf",\s|\s{{1,2}}(?:{any_of(word for each in LANGUAGES.values() for word in each.join[:2])})\s{{1,2}}|[、;]")
_ARITHMETIC = re.compile(r"\d[^=\u2248]{0,40}[-+*/\u00d7\u00f7\u00b7][^=\u2248]{0,40}\d[^=\u2248]{0,40}[=\u2248]")
_FOOTNOTE = re.compile(r"[-+]?[\d.,]+\s?\(\d{1,2}\)")
_KNOWN = re.compile(
    rf"\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[A-Za-z]+(?:\{{[^{{}}]*\}})*|{_CONNECTOR}|(?<![^\W\d_])(?:{_UNIT})(?![^\W\d_])|(?i:Rs|[ap]\.?m\.?)"
    r"|(?<![A-Za-z])(?:sin|cos|tan|log|ln|exp|sqrt|cot|pi|thousand|million|billion|trillion)(?![A-Za-z])",
    re.DOTALL,
)
_UNKNOWN = re.compile(r"[^\W\d_]{2,}")

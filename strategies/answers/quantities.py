"""Quantities in a sentence: each is read whole or not at all.

Numerals and formulas that belong together form one quantity: the terms of a formula, the parts of a ratio, date or duration,
a list, a range. A numeral that is a part of something larger is never a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from secondpass.strategies.answers.items import Item, items, number
from secondpass.strategies.answers.languages import (
    LABELS,
    LANGUAGES,
    MONTHS,
    ORDINALS,
    PREFIXES,
    SCALES,
    UNITS,
)
from secondpass.strategies.answers.statements import any_of, every

_MAX_GAP = 60
_LABELLED = re.compile(
    rf"(?:[^\W\d_]{{0,20}}[ ]?[,;][ ](?:(?:{every('join')})[ ])?|[ ](?:{every('join')})[ ])[A-Z][\w'\u2019]{{0,15}}"
    rf"(?:[ ](?:[a-z]{{2,10}}|=)|:)?[ ]"
    r"|, (?:quotient|remainder) |[ ][a-z]{2,12}, "
)
_LIST_GAP = re.compile(r"(?: [^\W\d_]{1,20}){1,3}, ")
MAX_LENGTH = 200
"""Most characters of a quantity that is read."""

_WORD = r"[^\W\d_]{1,20}\.?"
_CONNECTOR = every("join")
_UNIT = any_of(UNITS, is_spaced=False)
_UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"
_JOIN = re.compile(
    rf"""[^\w\n\u2014\"]* | _\{{? | \u2014
      | [^\w\n;]{{0,4}} (?:{_WORD}[^\w\n;\u2014]{{1,3}}){{0,3}} (?:{_UNSPACED}{{0,8}}) (?:{_CONNECTOR})
        [^\w\n;]{{0,4}} (?:(?:an?|the|another|about|of|le|la|les|der|die|el|los|por|par)[ ]{{1,2}})? [^\w\n;]{{0,4}}
      | \s{{0,2}} (?:{_UNIT})\.? ,? [ ]{{0,2}}
      | \s{{0,2}} (?:{_WORD} [ ]{{1,2}})? x [ ]{{1,2}}
      | \s{{0,2}} {_WORD} [ ]{{0,2}} [-+*/^\u00d7\u00f7\u00b7=:&<>\u2264\u2265]{{1,2}} [ ({{]{{0,3}}
      | [^\w\n;]{{0,4}} (?:{_WORD}[ ]{{0,2}}){{0,2}} [,]? [ ]{{0,2}} (?:{_CONNECTOR}) [ ]{{1,2}} (?:Rs|No|Nr)\.? [ ]{{0,2}}
      | \s{{0,2}} \u0648 \s{{0,2}}
      | [^\w\n]{{0,4}} (?:[aApP]\.?[mM]\.?) [^\w\n]{{0,4}} (?:{_CONNECTOR})? [^\w\n]{{0,4}}""",
    re.VERBOSE,
)
_MONTH_BEFORE = re.compile(
    rf"(?:{any_of(MONTHS).replace('(?i:', '(?:')})\.?,?[ ]{{0,2}}(?:the )?\Z"
)
_MONTH_AFTER = re.compile(rf"(?:st|nd|rd|th|\.|er)?[ ]{{0,2}}(?:of |de |di )?(?:{any_of(MONTHS)})")
_REMARK_BEFORE = re.compile(
    r"\((?:about|approximately|approx\.?|roughly|or|i\.e\.,?|ca\.?|~|\u2248)\s{0,2}\Z"
)
_LABEL_BEFORE = re.compile(rf"(?:(?:{any_of(LABELS)})\.?[ ]{{0,2}}[(]?|(?i:第)|\#|\b[A-Z]-)\Z")
_PREFIX_BEFORE = re.compile(rf"(?:{any_of(PREFIXES)})(?: the)?[ ]{{0,2}}\Z|(?:负|負|マイナス)\Z")
_SCALE_AFTER = re.compile(
    rf"[ ]?(?:{any_of(SCALES)})|[万萬亿億千百만억천]|[ ]?(?:and a half|et demie?|y medi[ao]|e mei[ao]|einhalb|y pico)\b"
    r"|-(?:digit|fold|sided)|[kKMB](?![\w])|bn\b|mn\b"
)
_ORDINAL_AFTER = re.compile(any_of(ORDINALS, is_spaced=False) + r"(?![^\W\d_])")
_DECADE_AFTER = re.compile(r"['\u2019]?s(?!\w)")
_DAY_TIME_AFTER = re.compile(r"[ ]?(?:[aApP]\.?[mM](?![A-Za-z])|o['\u2019]clock|Uhr\b)\.?")
_UNIT_POWER = re.compile(
    r"([-+]?(?<![\d.,])[\d.,]++(?:[eE][-+]?\d++)?)\s?[A-Za-z]{1,6}(?:\^\{?-?\d\}?)"
)
_NUMBER_WORD = (
    "(?i:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty|hundred|thousand"
    "|half|an? half|a quarter|zwei|drei|deux|trois|dos|tres)"
)
_WORDY_BEFORE = re.compile(
    rf"\b{_NUMBER_WORD}\b[^.,;\d]{{0,20}}\b(?:and|or|und|et|y|to)[ ]{{0,2}}\Z|\b{_NUMBER_WORD}[- ]\Z"
)
_WORDY_AFTER = re.compile(rf"[^.,;\d]{{0,20}}\b(?:and|or|und|et|y|to)[ ]{{1,2}}{_NUMBER_WORD}\b")
_FACTORIAL_AFTER = re.compile(r"!(?=\s[a-z]|\s?[-+*/^=)<>\u00d7\u00f7\u00b7]|[.,;:])")
_FACTORIAL_INNER = re.compile(r"\d!.*!\Z")
_PRODUCT_AFTER = re.compile(r"(?:[abckmnpq]?[xyz]{1,3}|ab|ac|bc|abc|pq)(?![A-Za-z])")
_UNIT_AFTER = re.compile(rf"[ ]?(?:{_UNIT})(?![A-Za-z\u00c0-\u04ff])\.?|['\u2032\u2033\"]{{1,2}}")
_UNIT_ALONE = re.compile(
    r"(?:[A-Za-z]{1,4}[/\u00b7*])?[A-Za-z]{1,4}(?:\^\{?-?\d\}?|[\u00b2\u00b3])"
)
_RELATION = re.compile(r"(?<![<>!=:])=(?!=)|\u2248|\\approx(?![a-z])")


_OF = re.compile(r"\b(?:of|de|von|di|for|by)\s{1,2}\Z")
_VALUE = re.compile(r"\d|=|\\(?:pi|sqrt|infty)")
_WORDS = re.compile(r"[^\W\d_]")
_DELIMITED = re.compile(r"\$\$[^$]*\$\$|\$[^$]*\$|\\\(.{0,300}?\\\)|\\\[.{0,300}?\\\]", re.DOTALL)
_LETTERS = re.compile(r"(?<![A-Za-z'\u2019])(?!x [\d$])[A-Za-z](?![A-Za-z'\u2019])")
_VARIABLE = re.compile(r"\s*[A-Za-z](?:_?\w{1,3}|\([A-Za-z\d]{1,3}\))?\s*")
_INNER_UNIT = re.compile(rf"\d[ ]?(?:{_UNIT})(?![A-Za-z\u00c0-\u04ff])[^\d]{{0,20}}\d")
_LIST_SEPARATOR = re.compile(
    rf",\s|\s{{1,2}}(?:{any_of(word for each in LANGUAGES.values() for word in each.join[:2])})\s{{1,2}}|[、;]"
)
_RELATIONS, _OPERATORS = "=\u2248", "-+*/\u00d7\u00f7\u00b7"
_MAX_OPERAND = 41
_FOOTNOTE = re.compile(r"\A[-+]?[\d.,]+\s?\(\d{1,2}\)\Z|\([a-h]\)\s?[-\d]")
_ANY_CONNECTOR = re.compile(_CONNECTOR)
_KNOWN = re.compile(
    rf"\$[^$]*\$|\\\(.{{0,300}}?\\\)|\\\[.{{0,300}}?\\\]|\\[A-Za-z]{{1,30}}(?:\{{[^{{}}]{{0,200}}\}}){{0,4}}|{_CONNECTOR}|(?<![^\W\d_])(?:{_UNIT})(?![^\W\d_])|(?i:Rs|[ap]\.?m\.?)"
    r"|(?<![A-Za-z])(?:sin|cos|tan|log|ln|exp|sqrt|cot|pi|thousand|million|billion|trillion)(?![A-Za-z])",
    re.DOTALL,
)
_UNKNOWN = re.compile(r"[^\W\d_\u00b2\u00b3\u00b9\u2070-\u207f\u00bc-\u00be]{2,}")
_ATTACHED_BEFORE = re.compile(r"[\w^_\\][-\u2010]?\Z")
_DETACHED_BEFORE = re.compile(rf"{_UNSPACED}\Z|(?:Rs|INR|USD|EUR|CHF|US)\Z")
_YEAR = re.compile(r"\d{4}\Z")
_UNIT_BEFORE = re.compile(r"\d\s?(?:[A-Za-z]{1,4}[/\u00b7*])?\Z")
_SPACED_SYMBOLS = frozenset(
    (*"xyznki", "\u03c0", "pi", "\u221a", "sqrt", "sin", "cos", "tan", "log", "ln")
)


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


@dataclass(frozen=True, slots=True)
class _Context:
    """The text of a quantity and up to 40 characters on both sides."""

    whole: str
    before: str
    after: str

    @property
    def is_reference(self) -> bool:
        """True after the word of a reference, and for the power of a unit, as in "5 m/s^2"."""
        is_unit = _UNIT_ALONE.fullmatch(self.whole) and _UNIT_BEFORE.search(self.before)
        return bool(
            _LABEL_BEFORE.search(self.before) or _REMARK_BEFORE.search(self.before) or is_unit
        )

    def is_part(self, first: Item, last: Item) -> bool:
        """Return True if the quantity is a part of something larger, such as a date or an ordinal."""
        before, after = self.before, self.after
        patterns = [_WORDY_BEFORE.search(before), _MONTH_BEFORE.search(before)]
        patterns += [
            pattern.match(after) for pattern in (_MONTH_AFTER, _WORDY_AFTER, _FACTORIAL_AFTER)
        ]
        if first.kind != "formula" and not _DETACHED_BEFORE.search(before):
            patterns += [_PREFIX_BEFORE.search(before), _ATTACHED_BEFORE.search(before)]
        if last.kind != "formula":
            patterns += [
                pattern.match(after) for pattern in (_ORDINAL_AFTER, _SCALE_AFTER, _PRODUCT_AFTER)
            ]
            patterns.append(_FACTORIAL_INNER.search(self.whole + after[:1]))
        if last.kind == "number" and _YEAR.search(self.whole):
            patterns.append(_DECADE_AFTER.match(after))
        return any(patterns)


def quantities(text: str, language: str = "en") -> Iterator[Quantity]:
    """Yield the quantities of a sentence in order.

    Args:
        text: The sentence, from `cleaned`.
        language: Code of its language, which determines the meaning of a decimal comma.
    """
    groups: list[list[Item]] = []
    for item in items(text):
        if groups and _belongs(text, groups[-1][-1], item):
            groups[-1].append(item)
        else:
            groups.append([item])
    for group in _with_whole_lists(text, groups):
        yield from _quantity(text, group, language)


def _with_whole_lists(text: str, groups: list[list[Item]]) -> list[list[Item]]:
    """Return the groups with lists in words joined, as in "2 red apples, 3 green pears and 4 plums"."""
    joined: list[list[Item]] = []
    for group in reversed(groups):
        following = joined[-1] if joined else []
        gap = text[group[-1].end : following[0].start] if following else ""
        if _LIST_GAP.fullmatch(gap) and any(
            _LIST_SEPARATOR.search(text[left.end : right.start])
            for left, right in pairwise(following)
        ):
            joined[-1] = group + following
        else:
            joined.append(group)
    return joined[::-1]


def _belongs(text: str, left: Item, right: Item) -> bool:
    """Return True if two neighbouring items are parts of one quantity."""
    gap = text[left.end : right.start]
    former, latter = text[left.start : left.end], text[right.start : right.end]
    if len(gap) > _MAX_GAP:
        return False
    if gap.isspace():
        if left.kind == "symbol" and right.kind == "number":
            is_unit = former in "hdms" and text[left.start - 1 : left.start].isdigit()
            return len(former) > 1 or not former.isascii() or is_unit
        if right.kind == "symbol" and latter.isalpha():
            return latter in _SPACED_SYMBOLS
    if _LABELLED.fullmatch(gap):
        return True
    is_clause = "," in gap or _WORDS.search(gap) is not None
    if is_clause and right.kind == "formula" and "=" in latter and left.kind != "formula":
        return False  # "dividing by 2, $x = 3$"
    return _JOIN.fullmatch(gap) is not None


def _quantity(text: str, group: list[Item], language: str) -> Iterator[Quantity]:
    """Yield the quantity of a group of items, unless it consists of letters."""
    group = _without_letters(text, group)
    if all(_is_lone_letter(text, item) for item in group):
        return
    start, end = group[0].start, group[-1].end
    if len(group) > 1 or group[0].kind != "number":
        start, end = _with_brackets(text, start, end)
    has_formula = any(item.kind == "formula" for item in group)
    context = _Context(text[start:end], text[max(0, start - 40) : start], text[end : end + 40])
    is_reference = not has_formula and context.is_reference
    is_long = end - start > MAX_LENGTH and len(group) > 1
    value = None if is_reference or is_long else _value(group, context, language)
    yield Quantity(start, end, has_formula, value, is_reference)


def _without_letters(text: str, group: list[Item]) -> list[Item]:
    """Return the items without variables at either end that words separate, as in "5 values of $x$"."""
    gaps = [text[left.end : right.start] for left, right in pairwise(group)]
    if gaps and group[-1].kind == "formula" and _OF.search(gaps[-1]):
        last = group[-1]
        if not _VALUE.search(text[last.start : last.end]):
            group, gaps = group[:-1], gaps[:-1]
    while gaps and _is_lone_letter(text, group[0]) and _WORDS.search(gaps[0]):
        group, gaps = group[1:], gaps[1:]
    while gaps and _is_lone_letter(text, group[-1]) and _WORDS.search(gaps[-1]):
        group, gaps = group[:-1], gaps[:-1]
    return group


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
    while (
        text[start - 1 : start]
        and text[end : end + 1]
        and text[start - 1] + text[end] in ("()", "[]", "{}", "(]", "[)")
    ):
        start, end = start - 1, end + 1
    return start, end


def _value(group: list[Item], context: _Context, language: str) -> str | None:
    """Return the value of a quantity; None if a part of it is outside or it is unclear."""
    whole, after = context.whole, context.after
    if context.is_part(group[0], group[-1]):
        return None
    if len(group) == 1:
        daytime = _DAY_TIME_AFTER.match(after)
        if daytime or group[0].kind != "number":
            return whole + (daytime[0] if daytime else "")
    if len(group) == 1 or (_UNIT_POWER.fullmatch(whole)):
        return number(_UNIT_POWER.sub(r"\1", whole), language)
    if not _RELATION.search(whole) and _INNER_UNIT.search(whole):
        unit = _UNIT_AFTER.match(after)
        return whole + unit[0].rstrip(".") if unit and _has_known_words(whole) else None
    if any(item.kind == "formula" for item in group):
        return _of_formulas(whole, language)
    is_arithmetic = not any(item.kind in ("symbol", "latex") for item in group)
    return _compound(whole, language, is_arithmetic=is_arithmetic)


def _has_known_words(whole: str) -> bool:
    return _UNKNOWN.search(_KNOWN.sub(" ", whole)) is None


def _of_formulas(whole: str, language: str) -> str | None:
    """Return the right side of a relation between formulas, else the whole."""
    outside = _DELIMITED.sub(lambda match: "_" * len(match[0]), whole)
    relations = list(_RELATION.finditer(outside))
    if relations and not _LIST_SEPARATOR.search(outside):
        return _only_value(whole[relations[-1].end() :].strip(), language)
    return whole.strip() if _has_known_words(whole) else None


def _compound(whole: str, language: str, *, is_arithmetic: bool) -> str | None:
    """Return the right side of a single equation, else the whole if it contains only known words."""
    parts = _LIST_SEPARATOR.split(whole)
    is_single = is_arithmetic or not _ANY_CONNECTOR.search(whole)
    is_last = (is_single and len(parts) == 1) or (is_arithmetic and _has_arithmetic(parts[-1]))
    if is_last and _RELATION.search(parts[-1]):
        sides = _RELATION.split(parts[-1])
        letters = [_LETTERS.search(_KNOWN.sub(" ", side)) is not None for side in sides[:-1]]
        is_name = _VARIABLE.fullmatch(sides[0]) is not None
        if is_name or not letters[0] or (len(letters) > 1 and not letters[-1]):
            return _only_value(sides[-1].strip(), language)
    return whole.strip() if _has_known_words(whole) and not _FOOTNOTE.search(whole) else None


def _has_arithmetic(text: str) -> bool:
    """Return whether a relation follows an operator between two digits, each at most 40 characters apart."""
    relation = second = operator = (
        len(text) + _MAX_OPERAND + 1
    )  # the next one of each, from the right
    for at in reversed(range(len(text))):
        character = text[at]
        if character in _RELATIONS:
            relation, second, operator = at, at + _MAX_OPERAND + 1, at + _MAX_OPERAND + 1
        elif character in _OPERATORS and second - at <= _MAX_OPERAND:
            operator = at
        elif character.isdecimal():
            if operator - at <= _MAX_OPERAND:
                return True
            second = at if relation - at <= _MAX_OPERAND else second
    return False


def _only_value(text: str, language: str) -> str | None:
    found = list(quantities(text, language))
    return found[0].value if len(found) == 1 and found[0].start == 0 else None

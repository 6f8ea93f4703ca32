"""Reading of values and their units: numbers, formulas, ratios, matrices and bracketed lists."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from fractions import Fraction

from secondpass.strategies.answers.forms import units
from secondpass.strategies.answers.forms.evaluation import (
    Irrational,
    Undefined,
    ValueTooLarge,
    evaluate,
)
from secondpass.strategies.answers.forms.expression import Unreadable, parse
from secondpass.strategies.answers.forms.folding import TEXT_MARK, plain
from secondpass.strategies.answers.forms.form import (
    NormalForm,
    Value,
    collection,
    is_short_rational,
    named,
    rational,
    rational_text,
    squeezed,
    with_unit,
)
from secondpass.strategies.answers.forms.number_words import (
    MULTIPLIERS,
    SUFFIXES,
    number_in_words,
)
from secondpass.strategies.answers.forms.splitting import split_list, split_top, strip_brackets
from secondpass.strategies.answers.forms.symbols import Tree
from secondpass.strategies.answers.forms.units import Unit

_MAX_PHRASE = 60
_PAIRS = (("\\{", "\\}"), ("{", "}"), ("(", ")"), ("[", "]"))
_TRIGONOMETRIC = re.compile(r"sin|cos|tan|cot|sec|csc")
_CONDITION = re.compile(r"\s?[A-Za-z]\s?(?:\\in\s?(?:\\mathbb\s?\{R\}|R)\s?)?[|:]\s?([^|:,;]+)")
_PERCENT = re.compile(r"\s{0,3}\\?%$")
WORDS = re.compile(
    rf"{TEXT_MARK}?[A-Za-z][A-Za-z'-]*(?:[.,!?]?\s{{1,2}}{TEXT_MARK}?[A-Za-z][A-Za-z'-]*){{0,40}}[.,!?]?\s?"
)
_WORD_START = re.compile(rf"(?<![A-Za-z\\{TEXT_MARK}])(?:{TEXT_MARK}?[A-Za-z]|\\circ)")
_VALUE_END = re.compile(r"[\d)\]}!.]\s*$|\\pi\s*$|\\infty\s*$")
_RATIO = re.compile(r"\d{1,9}(?:(?:\s?(?::|\\colon)\s?| to )\d{1,9}){1,3}", re.ASCII)
_BASE = re.compile(r"(?:\(?([0-9A-Fa-f]{1,40})\)?)\s?_\s?(?:\{(\d{1,2})\}|(\d))", re.ASCII)
_REMAINDER = re.compile(rf"(-?\d+)\s*{TEXT_MARK}?(?:r|R|remainder|rem\.?)\s*(\d+)", re.ASCII)
_MULTIPLIED = re.compile(
    rf"(.*\d\.?) ?{TEXT_MARK}?({'|'.join(MULTIPLIERS)})s?(?![A-Za-z])(.*)", re.IGNORECASE
)
_SUFFIXED = re.compile(r"([-+]?[\d.,]*\d)(k|K|M|B|bn|mn)(?![A-Za-z^(])\s?(.*)", re.ASCII)
_MATRIX = re.compile(
    r"\\begin\s?\{([pbvB]?)(?:matrix|array)\}(?:\{[lcr|]*\})?(.*?)\\end\s?\{\1(?:matrix|array)\}(.*)"
)


class MeasureReader(ABC):
    """Reads values with their units.

    `math_mode` is True for the text of a formula, whose letters multiply.
    """

    def __init__(self, *, math_mode: bool) -> None:
        self.math_mode = math_mode

    @abstractmethod
    def statement(self, text: str) -> NormalForm:
        """Read an item of a list, which may be an equation."""

    def measure(self, text: str) -> NormalForm:
        """Read a value with its unit."""
        text, unit = _without_sign(units.FILLER_END.sub("", text.strip()))
        scaled = self._scaled(text)
        if scaled is not None:
            number, rest = scaled
            own = units.parse_unit(rest) if rest else None
            if not rest or own:
                return NormalForm(rational(number), unit or own)
        for start in _WORD_START.finditer(text):
            value, phrase = text[: start.start()], text[start.start() :]
            if len(phrase) <= _MAX_PHRASE and value.strip():
                form = self._value_and_unit(value, phrase)
                if form is not None and form.unit is not None:
                    return NormalForm(form.value, _merged(unit, form.unit))
        return NormalForm(self._value(text), unit)

    def _value_and_unit(self, value: str, phrase: str) -> NormalForm | None:
        """Read a value and the phrase after it, if that names a unit."""
        if not _VALUE_END.search(value):
            number = number_in_words(plain(value))
            return (
                None if number is None else NormalForm(rational(number), units.parse_unit(phrase))
            )
        if phrase.startswith("\\circ") and _TRIGONOMETRIC.search(value):
            return None
        is_attached = not value[-1].isspace() and phrase[0] not in (TEXT_MARK, "\\")
        unit = units.parse_unit(phrase.replace("\\circ", "degrees"), attached=is_attached)
        read = self._value(value.strip()) if unit else ["text", ""]
        if len(phrase) == 1 and _has_symbols(read):  # h in \pi r^2 h does not mean hours
            return None
        return None if read[0] == "text" else NormalForm(read, unit)

    def _scaled(self, text: str) -> tuple[Fraction, str] | None:
        """Read "5 million dollars" or "5k" as the number and the rest of the text."""
        if match := _MULTIPLIED.fullmatch(text):
            number, rest = self._number(match[1]), match[3].strip()
            scale = MULTIPLIERS[match[2].lower()]
        elif not self.math_mode and (match := _SUFFIXED.fullmatch(text)):
            number, rest, scale = self._number(match[1]), match[3], SUFFIXES[match[2]]
        else:
            return None
        while (
            number is not None and (more := _MULTIPLIED.fullmatch("1 " + rest)) and more[1] == "1"
        ):
            scale, rest = scale * MULTIPLIERS[more[2].lower()], more[3].strip()
        return None if number is None else (number * scale, rest)

    def _number(self, text: str) -> Fraction | None:
        value = self._value(text.strip())
        return Fraction(value[1]) if is_short_rational(value) else None

    def _value(self, text: str) -> Value:
        """Read a value without a unit."""
        text = text.strip()
        for read in (self._notation, self._structure):
            if (value := read(text)) is not None:
                return value
        if number := number_in_words(plain(text)):
            return rational(number)
        tree = self.tree(text)
        if tree is not None:
            return _tree_value(tree)
        if WORDS.fullmatch(text):
            return ["words", folded_words(text)]
        return ["text", squeezed(text)]

    def _notation(self, text: str) -> Value | None:
        """Read what arithmetic would misread: numerals of another base, division with remainder, ratios."""
        if match := _BASE.fullmatch(text):
            return ["base", match[1].lstrip("0").lower() or "0", match[2] or match[3]]
        if match := _REMAINDER.fullmatch(text):
            return ["remainder", str(int(match[1])), str(int(match[2]))]
        if _RATIO.fullmatch(text):
            return _ratio([each.strip() for each in re.split(r":|\\colon|to", text)])
        return None

    def _structure(self, text: str) -> Value | None:
        r"""Read a matrix, a union, a bracketed list, or both values of \pm."""
        if match := _MATRIX.fullmatch(text):
            return self._matrix(match)
        if len(unions := split_top(text, "\\cup")) > 1:
            return collection("union", [self._value(each) for each in unions])
        if (brackets := strip_brackets(text)) and "\\choose" not in text:
            return self._bracketed(text, *brackets)
        if "\\pm" in text or "\\mp" in text:
            both = [self.tree(text, plus_minus=sign) for sign in (1, -1)]
            if None not in both:
                return collection("set", [_tree_value(tree) for tree in both if tree])
        return None

    def _bracketed(self, text: str, opening: str, inside: str, closing: str) -> Value:
        items = split_list(inside)
        is_set = opening == "\\{" or (opening == "{" and len(items) > 1)
        if is_set and any(each.startswith(opening) for each in items):
            return collection("set", [self._member(each) for each in items])
        if opening in ("\\{", "{") and (condition := _CONDITION.fullmatch(inside)):
            return self.statement(condition[1]).value
        if len(items) == 1:
            is_pair = (opening, closing) in _PAIRS and inside.strip() and "|" not in inside
            return named(self.statement(inside.strip())) if is_pair else ["text", squeezed(text)]
        if "\\ldots" in text or "..." in text:
            return ["text", squeezed(text).replace("...", "\\ldots")]
        values = [with_unit(self.statement(each)) for each in items]
        if opening in ("\\{", "{"):
            return collection("set", values)
        return [opening, closing, *values]

    def _member(self, text: str) -> Value:
        """Read a member of a set of sets: a set of one value is not that value."""
        value = with_unit(self.statement(text))
        is_single = text.startswith(("{", "\\{")) and value[0] != "set"
        return ["set", value] if is_single else value

    def _matrix(self, match: re.Match[str]) -> Value:
        kind, body, power = match.groups()
        rows = [row.split("&") for row in re.split(r"\\\\", body) if row.strip()]
        cells = [[self._value(cell) for cell in row] for row in rows]
        return ["matrix" if kind != "v" else "determinant", squeezed(power), *cells]

    def tree(self, text: str, *, plus_minus: int = 1) -> Tree | None:
        """Return the tree of a formula; None for other text."""
        try:
            return parse(text, math_mode=self.math_mode, plus_minus=plus_minus)
        except Unreadable:
            return None


def _has_symbols(value: Value) -> bool:
    """Return whether a value has letters that are not constants."""
    return value[0] == "sym" or any(_has_symbols(each) for each in value if isinstance(each, list))


def _without_sign(text: str) -> tuple[str, Unit | None]:
    """Return a text without its currency or percent sign, and the unit of that sign."""
    if match := units.PREFIX.match(text):
        return match[1].replace("+", "") + text[match.end() :], units.currency(match[2])
    if match := units.SUFFIX.search(text):
        return text[: match.start()], units.currency(match[1])
    if match := _PERCENT.search(text):
        return text[: match.start()], units.parse_unit("percent")
    return text, None


def folded_words(text: str) -> str:
    """Return the words of a folded text in lower case."""
    return " ".join(re.findall(r"[a-z'-]+", plain(text).casefold()))


def _tree_value(tree: Tree) -> Value:
    """Return the value of a tree: rational where it can be computed exactly, else the tree itself."""
    try:
        return rational(evaluate(tree, {}))
    except Irrational:
        if tree[0] == "const" and tree[1] == "oo":
            return ["words", "oo"]
        if tree == ["-", ["const", "oo"]]:
            return ["words", "-oo"]
        return ["tree", tree]
    except (Undefined, ValueTooLarge):
        return ["text", json.dumps(tree)]


def _merged(prefix: Unit | None, own: Unit) -> Unit:
    """Return the unit of "$5 per hour" or "$5 USD": the currency sign with what follows."""
    if prefix is None or prefix.dimensions == own.dimensions:
        return prefix or own
    return Unit(tuple(sorted((*prefix.dimensions, *own.dimensions))), prefix.factor * own.factor)


def _ratio(terms: list[str]) -> Value:
    """Return a ratio in lowest terms, unless it may be a time of day or a duration."""
    if all(len(term) == 2 for term in terms[1:]):
        return ["clock", ":".join([str(int(terms[0])), *terms[1:]])]
    numbers = [Fraction(int(term)) for term in terms]
    first = next((number for number in numbers if number), Fraction(1))
    return ["ratio", *(rational_text(number / first) for number in numbers)]

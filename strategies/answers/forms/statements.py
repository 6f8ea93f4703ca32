"""Reading of whole answers: lists, assignments, equations, inequalities and values."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from secondpass.strategies.answers.forms import units
from secondpass.strategies.answers.forms.folding import TEXT_MARK, plain
from secondpass.strategies.answers.forms.form import (
    NormalForm,
    Value,
    collection,
    is_short_rational,
    rational,
    squeezed,
    with_unit,
)
from secondpass.strategies.answers.forms.measures import WORDS, MeasureReader, folded_words
from secondpass.strategies.answers.forms.number_words import number_in_words
from secondpass.strategies.answers.forms.splitting import split_comparison, split_list
from secondpass.strategies.answers.forms.symbols import Tree

_MIRRORED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_DESCRIPTION = re.compile(r"[^\d=<>]{2,60}")
_PRODUCT = re.compile(r"[xyz]{2,3}|ab|ac|bc|abc|mn|uv")
_EMPTY = re.compile(r"\{\s?\}|\\\{\s?\\\}|\\emptyset\s?|(?:the )?empty set", re.IGNORECASE)
_NAME = re.compile(
    TEXT_MARK
    + r"?[A-Za-z]{1,12}(?:\s?_\s?(?:\{[^{}]{1,12}\}|\w))?(?:'{1,3}|\^\s?\{-1\})?(?:\s?\([A-Za-z0-9, +-]{1,12}\))?"
    r"|\\[A-Za-z]{2,10}(?:_(?:\{[^{}]{1,12}\}|\w))?\s?"
    r"|\(\s?[A-Za-z](?:,\s?[A-Za-z]){1,5}\s?\)"
)
_TEXT_NAME = re.compile(
    rf"{TEXT_MARK}?[A-Za-z]{{2,20}}(?:\s{{1,2}}{TEXT_MARK}?[A-Za-z]{{2,20}}){{0,4}}\s?"
)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))?\s?([AaPp])\.?\s?[Mm]\.?", re.ASCII)
_COMPOUND = re.compile(
    rf"(?<!\d)(\d+(?:\.\d+)?) ?({TEXT_MARK}?[A-Za-z]+)\.?,?(?: and)?(?: |$)", re.ASCII
)
_INTERVAL_NAME = re.compile(r"\s*([A-Za-z]|\\[a-z]+)\s*\\in(?![A-Za-z])\s*(.+)")
_EXACT = ("rational", "measure")
_LETTER = re.compile(r"[A-Za-z](?:_(?:\w|\{\w\}))?")
_OR = re.compile(r"(?<![A-Za-z])or(?![A-Za-z])")
_DATE = re.compile(r"\d{4}([-/])\d{1,2}\1\d{1,2}|\d{1,2}/\d{1,2}/\d{4}|\d+(?:-\d+){2,}", re.ASCII)
_RANGE = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)(?![\d.^!/*(])(.{0,60})", re.ASCII)
_REALS = re.compile(
    r"\\mathbb\s?\{R\}|\\mathbf\s?\{R\}|\\R(?![A-Za-z])|all real numbers|all reals|real numbers"
)


class StatementReader(MeasureReader):
    """Reads the statements of an answer."""

    def answer(self, text: str) -> NormalForm:
        """Read a whole answer."""
        if found := self._special(text):
            return found
        parts = split_list(text)
        if len(parts) > 1:
            return self._list(text, parts)
        form = self.statement(text)
        is_label = form.name is not None and re.match(f"{TEXT_MARK}|[A-Za-z]{{2}}", form.name)
        return NormalForm(form.value, form.unit) if is_label else form

    def _special(self, text: str) -> NormalForm | None:
        """Read what lists and equations would misread: words, times, ranges, compound measures."""
        bare = plain(text)
        if (number := number_in_words(bare)) is not None:
            return NormalForm(rational(number))
        if found := _time(bare):
            return found
        if match := _RANGE.fullmatch(text):
            return self._range(match)
        if _REALS.fullmatch(bare):
            return NormalForm(["(", ")", ["words", "-oo"], ["words", "oo"]])
        if _EMPTY.fullmatch(bare):
            return NormalForm(["words", "\\emptyset"])
        is_words = WORDS.fullmatch(text) and not self._is_formula(text)
        return self._words(text) if is_words else self._compound(bare)

    def _words(self, text: str) -> NormalForm:
        """Read "Alice, Bob and Carol" as a set, "twelve apples" as a measure, and other words as words."""
        parts = split_list(text)
        if len(parts) > 1 and not any(" " in part for part in parts):
            return NormalForm(collection("set", [["words", _word(part)] for part in parts]))
        counted = self.measure(text)
        return counted if counted.unit else NormalForm(["words", folded_words(text)])

    def _range(self, match: re.Match[str]) -> NormalForm | None:
        """Read "10-20" or "10-20 km"; None for a difference, whose second number is not larger."""
        low, high = Fraction(match[1]), Fraction(match[2])
        end = self.measure(match[2] + match[3])
        if low >= high or end.value != rational(high):
            return None
        return NormalForm(["range", rational(low), rational(high)], end.unit)

    def _is_formula(self, text: str) -> bool:
        """Return whether a text of letters is a formula, as "xy" and "pi" are; "no" and "cat" are words."""
        words = re.split(r"[\s-]+", text.strip(" -"))
        if self.math_mode and TEXT_MARK not in text and len(words) == 1:
            return True
        return all(_is_symbolic(word) for word in words)

    def _compound(self, text: str) -> NormalForm | None:
        """Read "2 hours 30 minutes" as one measure."""
        pairs = [(match[1], match[2]) for match in _COMPOUND.finditer(text)]
        if not 2 <= len(pairs) <= 4 or _COMPOUND.sub("", text).strip():
            return None
        read = [(Fraction(number), units.parse_unit(word, nouns=False)) for number, word in pairs]
        found = [(number, unit) for number, unit in read if unit is not None]
        factors = [unit.factor for _, unit in found]
        if len(found) < len(read) or len({unit.dimensions for _, unit in found}) > 1:
            return None
        if any(a <= b for a, b in pairwise(factors)):
            return None
        total = sum((number * unit.factor for number, unit in found), Fraction(0))
        last = found[-1][1]
        return NormalForm(rational(total / last.factor), last)

    def _list(self, text: str, parts: list[str]) -> NormalForm:
        """Read several values: assignments, one unit for all, or different ones."""
        if "\\ldots" in text or "..." in text:
            return NormalForm(["text", re.sub(r"\s", "", plain(text).replace("...", "\\ldots"))])
        forms = [self._item(part) for part in parts]
        names = [form.name for form in forms]
        if names[0] is not None and not any(names[1:]):
            names = [names[0]] * len(names)  # n = 2, 3, 4
        if None not in names and len(set(names)) == len(names):
            bound = sorted(
                [str(name), with_unit(form)] for name, form in zip(names, forms, strict=True)
            )
            return NormalForm(["assignments", *bound])
        name = names[0] if len(set(names)) == 1 else None
        if name is not None:
            forms = [NormalForm(form.value, form.unit) for form in forms]
        found = {form.unit for form in forms}
        if len(found - {None}) == 1 and (forms[-1].unit or None not in found):
            return NormalForm(
                collection("set", [form.value for form in forms]), (found - {None}).pop(), name
            )
        if name is not None and not _OR.search(text) and (both := _overlap(forms)):
            return NormalForm(both, forms[0].unit, name)
        kind = "union" if all(form.value[0] in ("(", "[") for form in forms) else "set"
        return NormalForm(collection(kind, [with_unit(form) for form in forms]), None, name)

    def _item(self, text: str) -> NormalForm:
        """Read an item of a list; one that is a list itself, as in "1, 2; 3, 4", is one value."""
        if len(split_list(text)) == 1:
            return self.statement(text)
        return NormalForm(["item", with_unit(self.answer(text))])

    def statement(self, text: str) -> NormalForm:
        """Read an equation, an inequality, a membership or a value."""
        match = _INTERVAL_NAME.fullmatch(text)
        if match and not _INTERVAL_NAME.fullmatch(match[2]):
            inner = self.answer(match[2])
            return NormalForm(inner.value, inner.unit, match[1].strip())
        sides, signs = split_comparison(text)
        if not signs:
            return self.measure(text)
        if set(signs) == {"="}:
            return self._equation(text, sides)
        return self._inequality(text, sides, signs)

    def _equation(self, text: str, sides: list[str]) -> NormalForm:
        """Read "x = 5" as a value with a name, "2 + 3 = 5" as its value, and others as equations."""
        *before, last = (side.strip() for side in sides)
        if not last or not all(before):
            return NormalForm(["text", squeezed(text)])
        if all(_LETTER.fullmatch(side) for side in before) and len(set(before)) == len(before) > 1:
            return self.answer(", ".join(f"{side} = {last}" for side in before))  # x = y = 2
        is_name = _is_name(before[0]) and not _PRODUCT.fullmatch(before[0])
        if is_name and (form := self._assignment(before[0], last)):
            return form
        if (
            len(before) == 1
            and len(last) == 1
            and _is_name(last)
            and (self.measure(before[0]).value[0] == "rational")
        ):
            return self._assignment(last, before[0]) or self.measure(before[0])  # 5 = x
        return self._chain(text, before, last)

    def _chain(self, text: str, before: list[str], last: str) -> NormalForm:
        """Read "2 + 3 = 5" as its value, and other equations as equations."""
        values = [with_unit(self.measure(side)) for side in (*before, last)]
        if values[0][0] in _EXACT and all(value == values[0] for value in values):
            return self.measure(last)
        equation = self._as_equation(before[0], last) if len(before) == 1 else None
        if equation is None and values[-1][0] in _EXACT and _DESCRIPTION.fullmatch(before[0]):
            return self.measure(last)
        return NormalForm(equation or ["text", squeezed(text)])

    def _assignment(self, left: str, right: str) -> NormalForm | None:
        """Read the value that a name has; None if the value mentions the name."""
        form = self.answer(right) if len(split_list(right)) > 1 else self.measure(right)
        name = re.sub(r"_\{(\w)\}", r"_\1", squeezed(left))
        if form.value[0] == "tree" and _mentions(form.value[1], name):
            return None
        if TEXT_MARK in left and len(name) > 1:
            name = TEXT_MARK + name.casefold()
        is_single = form.unit is None and form.value[0] != "set"
        equation = self._as_equation(left, right) if is_single else None
        return NormalForm(form.value, form.unit, name, equation)

    def _as_equation(self, left: str, right: str) -> Value | None:
        difference = self._difference(left, right)
        return None if difference is None else ["equation", difference]

    def _inequality(self, text: str, sides: list[str], signs: list[str]) -> NormalForm:
        """Read an inequality as an interval where one name is bounded."""
        sides = [side.strip() for side in sides]
        if len(sides) == 2:
            return self._one_sided(text, sides[0], signs[0], sides[1])
        if len(sides) == 3 and _is_name(sides[1]):
            low, high = self.measure(sides[0]), self.measure(sides[2])
            if set(signs) <= {">", "\\ge"}:
                low, high, signs = high, low, signs[::-1]
            elif not set(signs) <= {"<", "\\le"}:
                return NormalForm(["text", squeezed(text)])
            brackets = "(" if signs[0] in "<>" else "[", ")" if signs[1] in "<>" else "]"
            return NormalForm([*brackets, low.value, high.value], high.unit or low.unit, sides[1])
        return NormalForm(["text", squeezed(text)])

    def _one_sided(self, text: str, left: str, sign: str, right: str) -> NormalForm:
        """Read "x < 3", "3 > x", "< 3", or a relation of two formulas."""
        if not left:
            bound = self.measure(right)
            return NormalForm(_half_line(sign, bound.value), bound.unit)
        if sign in _MIRRORED and not _is_name(left) and _is_name(right):
            left, sign, right = right, _MIRRORED[sign], left
        if sign in _MIRRORED and _is_name(left):
            bound = self.measure(right)
            relation = None
            if bound.value[0] == "tree" and (difference := self._difference(left, right)):
                is_less = sign in ("<", "\\le")
                sign_from_right = _MIRRORED[sign] if is_less else sign
                relation = [
                    "relation",
                    sign_from_right,
                    ["-", difference] if is_less else difference,
                ]
            return NormalForm(_half_line(sign, bound.value), bound.unit, left, relation)
        if sign in ("<", "\\le"):
            left, sign, right = right, _MIRRORED[sign], left
        difference = self._difference(left, right)
        return NormalForm(
            ["relation", sign, difference] if difference else ["text", squeezed(text)]
        )

    def _difference(self, left: str, right: str) -> Tree | None:
        minuend, subtrahend = self.tree(left), self.tree(right)
        return None if minuend is None or subtrahend is None else ["+", minuend, ["-", subtrahend]]


def _time(text: str) -> NormalForm | None:
    """Read a time of day, or a date or telephone number as text."""
    if match := _CLOCK.fullmatch(text):
        hour, minutes = str(int(match[1])), match[2] or "00"
        value = ["rational", hour] if minutes == "00" else ["clock", f"{hour}:{minutes}"]
        return NormalForm(value, units.parse_unit(match[3].lower() + "m"))
    return NormalForm(["text", text]) if _DATE.fullmatch(text) else None


def _word(text: str) -> str:
    """Return a word in lower case; a letter keeps its case."""
    return folded_words(text) if len(plain(text)) > 1 else plain(text)


def _is_symbolic(word: str) -> bool:
    if TEXT_MARK in word and len(word) > 2:
        return False
    letters = plain(word).rstrip("!")
    if len(letters) == 1 or letters in ("pi", "infinity", "inf", "oo"):
        return True
    return (len(letters) == 2 and set(letters) <= set("xyztuvwabckmn")) or any(
        set(letters) <= set(family) and len(set(letters)) == len(letters)
        for family in ("abc", "xyz", "tuvw", "kmn", "xyzt", "uvwxyz")
    )


def _is_name(text: str) -> bool:
    text = text.strip()
    return bool(_NAME.fullmatch(text) and plain(text) not in ("pi", "e", "i")) or bool(
        _TEXT_NAME.fullmatch(text)
    )


def _mentions(tree: Tree, name: str) -> bool:
    if tree[0] == "sym":
        return bool(tree[1] == name)
    return any(_mentions(each, name) for each in tree[1:] if isinstance(each, list))


def _overlap(forms: list[NormalForm]) -> Value | None:
    """Return the interval of "x > 3 and x < 5".

    None if no number satisfies both, or the ends are not rational.
    """
    if len(forms) != 2 or any(form.value[0] not in ("(", "[") for form in forms):
        return None
    below = [form.value for form in forms if form.value[2] == ["words", "-oo"]]
    above = [form.value for form in forms if form.value[3] == ["words", "oo"]]
    if len(below) != 1 or len(above) != 1 or below == above:
        return None
    low, high = above[0][2], below[0][3]
    if not is_short_rational(low) or not is_short_rational(high):
        return None
    is_overlap = Fraction(low[1]) < Fraction(high[1])
    return [above[0][0], below[0][1], low, high] if is_overlap else None


def _half_line(sign: str, bound: Value) -> Value:
    if sign in ("<", "\\le"):
        return ["(", ")" if sign == "<" else "]", ["words", "-oo"], bound]
    return ["(" if sign == ">" else "[", ")", bound, ["words", "oo"]]

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
_EMPTY = re.compile(r"\{\s?\}|\\\{\s?\\\}|\\emptyset\s?|(?:the )?empty set", re.IGNORECASE)
_NAME = re.compile(
    TEXT_MARK
    + r"?[A-Za-z]{1,12}(?:\s?_\s?(?:\{[^{}]{1,12}\}|\w))?'?(?:\s?\([A-Za-z0-9, +-]{1,12}\))?"
    r"|\\[A-Za-z]{2,10}(?:_(?:\{[^{}]{1,12}\}|\w))?\s?"
)
_TEXT_NAME = re.compile(
    rf"{TEXT_MARK}?[A-Za-z]{{2,20}}(?:\s{{1,2}}{TEXT_MARK}?[A-Za-z]{{2,20}}){{0,4}}\s?"
)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))?\s?([AaPp])\.?\s?[Mm]\.?", re.ASCII)
_COMPOUND = re.compile(rf"(\d+(?:\.\d+)?) ?({TEXT_MARK}?[A-Za-z]+)\.?,?(?: and)?(?: |$)", re.ASCII)
_INTERVAL_NAME = re.compile(r"\s*([A-Za-z]|\\[a-z]+)\s*\\in(?![A-Za-z])\s*(.+)")
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
        """Read what lists and equations would misread: words, times of day, compound measures."""
        bare = plain(text)
        if (number := number_in_words(bare)) is not None:
            return NormalForm(rational(number))
        if match := _CLOCK.fullmatch(bare):
            hour, minutes = str(int(match[1])), match[2] or "00"
            value = ["rational", hour] if minutes == "00" else ["clock", f"{hour}:{minutes}"]
            return NormalForm(value, units.parse_unit(match[3].lower() + "m"))
        if _REALS.fullmatch(bare):
            return NormalForm(["(", ")", ["words", "-oo"], ["words", "oo"]])
        if _EMPTY.fullmatch(bare):
            return NormalForm(["words", "\\emptyset"])
        if WORDS.fullmatch(text) and not self._is_formula(text):
            counted = self.measure(text)  # "twelve apples"
            return counted if counted.unit else NormalForm(["words", folded_words(text)])
        return self._compound(bare)

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
        forms = [self.statement(part) for part in parts]
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
        kind = "union" if all(form.value[0] in ("(", "[") for form in forms) else "set"
        return NormalForm(collection(kind, [with_unit(form) for form in forms]), None, name)

    def statement(self, text: str) -> NormalForm:
        """Read an equation, an inequality, a membership or a value."""
        if match := _INTERVAL_NAME.fullmatch(text):
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
        if _is_name(before[0]) and (form := self._assignment(before[0], last)):
            return form
        if len(before) == 1 and len(last) == 1 and _is_name(last):  # 5 = x
            form = self.measure(before[0])
            if form.value[0] == "rational":
                return NormalForm(form.value, form.unit, last, self._as_equation(last, before[0]))
        values = [self.measure(side).value for side in (*before, last)]
        if values[0][0] == "rational" and all(value == values[0] for value in values):
            return self.measure(last)
        equation = self._as_equation(before[0], last) if len(before) == 1 else None
        if equation is None and values[-1][0] == "rational" and _DESCRIPTION.fullmatch(before[0]):
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
        return NormalForm(form.value, form.unit, name, self._as_equation(left, right))

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
            return NormalForm(_half_line(sign, bound.value), bound.unit, left)
        if sign in ("<", "\\le"):
            left, sign, right = right, _MIRRORED[sign], left
        difference = self._difference(left, right)
        return NormalForm(
            ["relation", sign, difference] if difference else ["text", squeezed(text)]
        )

    def _difference(self, left: str, right: str) -> Tree | None:
        minuend, subtrahend = self.tree(left), self.tree(right)
        return None if minuend is None or subtrahend is None else ["+", minuend, ["-", subtrahend]]


def _is_symbolic(word: str) -> bool:
    if TEXT_MARK in word and len(word) > 2:
        return False
    letters = plain(word)
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


def _half_line(sign: str, bound: Value) -> Value:
    if sign in ("<", "\\le"):
        return ["(", ")" if sign == "<" else "]", ["words", "-oo"], bound]
    return ["(" if sign == ">" else "[", ")", bound, ["words", "oo"]]

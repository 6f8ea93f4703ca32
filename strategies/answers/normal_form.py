r"""Normal forms of mathematical answers: an exact value, its unit, and the name that it was assigned to.

A value is plain data: ["rational", "3/4"], ["words", ...], ["tree", tree], a structure of values (["set", ...],
["(", ")", ...], ["matrix", ...]), ["equation", tree] or ["relation", ">", tree]. Values without trees are equal exactly if
they are the same data. `service.equivalence` replaces trees by what they evaluate to.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from secondpass.strategies.answers import units
from secondpass.strategies.answers.evaluation import (
    Irrational,
    TooLarge,
    Undefined,
    evaluate,
)
from secondpass.strategies.answers.expression import Tree, Unreadable, parse
from secondpass.strategies.answers.folding import TEXT_MARK, fold, plain
from secondpass.strategies.answers.number_words import MULTIPLIERS, SUFFIXES, number_in_words
from secondpass.strategies.answers.splitting import (
    join_digits,
    split_comparison,
    split_list,
    split_top,
    strip_brackets,
)
from secondpass.strategies.answers.units import Unit

Value = list[Any]

MAX_LENGTH = 2000
"""Maximum characters of an answer that is parsed; longer answers are compared as text."""

_MATH_COMMAND = re.compile(r"\\(?!text|mbox|boxed|fbox|mathrm|operatorname|\$|[%,;: {}])[A-Za-z(\[]|(?<!\\)\$")
_NAME = re.compile(
    TEXT_MARK + r"?[A-Za-z]{1,12}(?:\s?_\s?(?:\{[^{}]{1,12}\}|\w))?'?(?:\s?\([A-Za-z0-9, +-]{1,12}\))?"
    r"|\\[A-Za-z]{2,10}(?:_(?:\{[^{}]{1,12}\}|\w))?\s?"
)
_TEXT_NAME = re.compile(rf"{TEXT_MARK}?[A-Za-z]{{2,20}}(?:\s{{1,2}}{TEXT_MARK}?[A-Za-z]{{2,20}}){{0,4}}\s?")
_WORDS = re.compile(
    rf"{TEXT_MARK}?[A-Za-z][A-Za-z'-]*(?:[.,!?]?\s{{1,2}}{TEXT_MARK}?[A-Za-z][A-Za-z'-]*){{0,40}}[.,!?]?\s?"
)
_WORD_START = re.compile(rf"(?<![A-Za-z\\{TEXT_MARK}])(?:{TEXT_MARK}?[A-Za-z]|\\circ)")
_VALUE_END = re.compile(r"[\d)\]}!.]\s*$|\\pi\s*$|\\infty\s*$")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))?\s?([AaPp])\.?\s?[Mm]\.?", re.ASCII)
_RATIO = re.compile(r"\d{1,9}(?:\s?(?::|\\colon)\s?\d{1,9}){1,3}", re.ASCII)
_BASE = re.compile(r"(?:\(?([0-9A-Fa-f]{1,40})\)?)\s?_\s?(?:\{(\d{1,2})\}|(\d))", re.ASCII)
_REMAINDER = re.compile(rf"(-?\d+)\s*{TEXT_MARK}?(?:r|R|remainder|rem\.?)\s*(\d+)", re.ASCII)
_COMPOUND = re.compile(rf"(\d+(?:\.\d+)?) ?({TEXT_MARK}?[A-Za-z]+)\.?,?(?: and)?(?: |$)", re.ASCII)
_MULTIPLIED = re.compile(
    rf"(.*\d\.?) ?{TEXT_MARK}?({'|'.join(MULTIPLIERS)})s?(?![A-Za-z])(.*)", re.IGNORECASE
)
_SUFFIXED = re.compile(r"([-+]?[\d.,]*\d)(k|K|M|B|bn|mn)(?![A-Za-z^(])\s?(.*)", re.ASCII)
_INTERVAL_NAME = re.compile(r"\s*([A-Za-z]|\\[a-z]+)\s*\\in(?![A-Za-z])\s*(.+)")
_MATRIX = re.compile(r"\\begin\s?\{([pbvB]?)(?:matrix|array)\}(?:\{[lcr|]*\})?(.*?)\\end\s?\{\1(?:matrix|array)\}(.*)")
_REALS = re.compile(r"\\mathbb\s?\{R\}|\\mathbf\s?\{R\}|\\R(?![A-Za-z])|all real numbers|all reals|real numbers")
_APPROXIMATE = re.compile(rf"^(?:{TEXT_MARK}?(?:about|approximately|roughly)\s|\\approx\s|\\sim\s|~)\s*")


@dataclass(frozen=True, slots=True)
class NormalForm:
    """A parsed answer.

    Attributes:
        value: Its value, as plain data.
        unit: Its unit; None without one.
        name: The name that the value was assigned to, as in "x = 5"; None without one.
        equation: The equation that the assignment also is; None without a name.
    """

    value: Value
    unit: Unit | None = None
    name: str | None = None
    equation: Value | None = None

    @property
    def text(self) -> str:
        """The form as a text, equal exactly for equal forms."""
        value = self.value[1] if self.value[0] in ("rational", "words") else json.dumps(self.value)
        named = value if self.name is None else f"{self.name}={value}"
        return named if self.unit is None else f"{named} {self.unit.name}"


def normalise(answer: str) -> str:
    """Return the normal form of an answer as a text: answers with equal texts are equal."""
    return normal_form(answer).text


def normal_form(answer: str) -> NormalForm:
    """Parse an answer; what cannot be read is compared as text. Linear in its length, which is bounded."""
    collapsed = " ".join(answer.split())
    if len(answer) > MAX_LENGTH or _is_deep(answer):
        return NormalForm(["text", collapsed])
    text, math_mode = _without_delimiters(answer)
    text = join_digits(fold(text)).strip(" *`")
    text = re.sub(r"(?<=[^.])\.$", "", text.rstrip(" ,;:!?" if not re.search(r"[\d)nk]!$", text) else " ,;:?"))
    if not text:
        return NormalForm(["text", collapsed])
    return Reader(math_mode=math_mode).answer(_APPROXIMATE.sub("", text))


def _is_deep(text: str) -> bool:
    depth = deepest = 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    return deepest > 60


def _without_delimiters(text: str) -> tuple[str, bool]:
    """Return the text without formula delimiters, and whether it is in math mode."""
    text = re.sub(r"(?<!\\)\\[()\[\]](?!\\)", " \ue002 ", text)
    had = "\ue002" in text
    text = text.replace("\ue002", " ").strip()
    if "$$" in text:
        text, had = text.replace("$$", " "), True
    signs = re.findall(r"(?<!\\)\$", text)
    if signs and len(signs) % 2 == 0:
        text, had = re.sub(r"(?<!\\)\$", " ", text), True
    return text, had or bool(_MATH_COMMAND.search(re.sub(r"(?<!\\)\$", "", text)))


class Reader:
    """Reads the parts of one answer."""

    def __init__(self, *, math_mode: bool) -> None:
        self.math_mode = math_mode

    def answer(self, text: str) -> NormalForm:
        """Read a whole answer."""
        if found := self._special(text):
            return found
        parts = split_list(text)
        if len(parts) > 1:
            return self._list(text, parts)
        form = self._statement(text)
        is_label = form.name is not None and re.match(f"{TEXT_MARK}|[A-Za-z]{{2}}", form.name)
        return NormalForm(form.value, form.unit) if is_label else form

    def _special(self, text: str) -> NormalForm | None:
        """Read what lists and equations would misread: words, times of day, compound measures."""
        bare = plain(text)
        if (number := number_in_words(bare)) is not None:
            return NormalForm(_rational(number))
        if match := _CLOCK.fullmatch(bare):
            minutes = match[2] or "00"
            value = ["rational", str(int(match[1]))] if minutes == "00" else ["clock", f"{int(match[1])}:{minutes}"]
            return NormalForm(value, units.parse_unit(match[3].lower() + "m"))
        if _REALS.fullmatch(bare):
            return NormalForm(["(", ")", ["words", "-oo"], ["words", "oo"]])
        if (_WORDS.fullmatch(text) and not self._is_formula(text)) or re.fullmatch(r"\{\s*\}|\\\{\s*\\\}", text):
            return NormalForm(["words", " ".join(re.findall(r"[a-z'-]+", bare.casefold())) or "\\emptyset"])
        return self._compound(bare)

    def _is_formula(self, text: str) -> bool:
        """Return whether a text of letters only is a formula: "xy", "x", "sin x", "pi", "i" - not "no" or "cat"."""
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
        if any(a <= b for a, b in zip(factors, factors[1:], strict=False)):
            return None
        total = sum((number * unit.factor for number, unit in found), Fraction(0))
        last = found[-1][1]
        return NormalForm(_rational(total / last.factor), last)

    def _list(self, text: str, parts: list[str]) -> NormalForm:
        """Read several values: assignments, one unit for all, or different ones."""
        if "\\ldots" in text or "..." in text:
            return NormalForm(["text", re.sub(r"\s", "", plain(text).replace("...", "\\ldots"))])
        forms = [self._statement(part) for part in parts]
        names = [form.name for form in forms]
        if names[0] is not None and not any(names[1:]):
            names = [names[0]] * len(names)  # n = 2, 3, 4
        if None not in names and len(set(names)) == len(names):
            bound = sorted([str(name), _with_unit(form)] for name, form in zip(names, forms, strict=True))
            return NormalForm(["assignments", *bound])
        name = names[0] if len(set(names)) == 1 else None
        if name is not None:
            forms = [NormalForm(form.value, form.unit) for form in forms]
        found = {form.unit for form in forms}
        if len(found - {None}) == 1 and (forms[-1].unit or None not in found):
            return NormalForm(_collection("set", [form.value for form in forms]), (found - {None}).pop(), name)
        kind = "union" if all(form.value[0] in ("(", "[") for form in forms) else "set"
        return NormalForm(_collection(kind, [_with_unit(form) for form in forms]), None, name)

    def _statement(self, text: str) -> NormalForm:
        """Read an equation, an inequality, a membership or a value."""
        if match := _INTERVAL_NAME.fullmatch(text):
            inner = self.answer(match[2])
            return NormalForm(inner.value, inner.unit, match[1].strip())
        sides, signs = split_comparison(text)
        if not signs:
            return self._measure(text)
        if set(signs) == {"="}:
            return self._equation(text, sides)
        return self._inequality(text, sides, signs)

    def _equation(self, text: str, sides: list[str]) -> NormalForm:
        *before, last = (side.strip() for side in sides)
        if not last or not all(before):
            return NormalForm(["text", _squeezed(text)])
        if _is_name(before[0]):
            form = self._measure(last) if len(split_list(last)) == 1 else self.answer(last)
            is_label = TEXT_MARK in before[0] and len(_squeezed(before[0])) > 1
            name = TEXT_MARK + _squeezed(before[0]).casefold() if is_label else _squeezed(before[0])
            name = re.sub(r"_\{(\w)\}", r"_\1", name)
            if form.value[0] != "tree" or not _mentions(form.value[1], name):
                return NormalForm(form.value, form.unit, name, self._as_equation(before[0], last))
        if len(before) == 1 and _is_name(last) and len(last) == 1 and not _is_name(before[0]):
            form = self._measure(before[0])
            if form.value[0] == "rational":
                return NormalForm(form.value, form.unit, last)
        trees = [self._rational_or_none(side) for side in (*before, last)]
        if trees[0] is not None and len(set(trees)) == 1:
            return self._measure(last)
        equation = self._as_equation(before[0], last) if len(before) == 1 else None
        return NormalForm(equation or ["text", _squeezed(text)])

    def _rational_or_none(self, text: str) -> str | None:
        value = self._measure(text).value
        return str(value[1]) if value[0] == "rational" else None

    def _as_equation(self, left: str, right: str) -> Value | None:
        trees = [self._tree(side) for side in (left, right)]
        return None if None in trees else ["equation", ["+", trees[0], ["-", trees[1]]]]

    def _inequality(self, text: str, sides: list[str], signs: list[str]) -> NormalForm:
        """Read an inequality as an interval where one name is bounded."""
        sides = [side.strip() for side in sides]
        if len(sides) == 2 and not sides[0]:  # "<5"
            sides[0] = "x"
        up, down = {"<", "\\le"}, {">", "\\ge"}
        if len(sides) == 2:
            if signs[0] in up | down and (_is_name(sides[0]) or _is_name(sides[1])):
                if not _is_name(sides[0]):
                    sides = sides[::-1]
                    signs = [{"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}[signs[0]]]
                bound = self._measure(sides[1])
                name = sides[0] if text.strip()[0] not in "<>\\" else None
                return NormalForm(_half_line(signs[0], bound.value), bound.unit, name)
            trees = [self._tree(side) for side in sides]
            if None in trees:
                return NormalForm(["text", _squeezed(text)])
            left, right = trees if signs[0] in down or signs[0] == "\\ne" else trees[::-1]
            sign = {"<": ">", "\\le": "\\ge"}.get(signs[0], signs[0])
            return NormalForm(["relation", sign, ["+", left, ["-", right]]])
        if len(sides) == 3 and _is_name(sides[1]) and (set(signs) <= up or set(signs) <= down):
            low, high = self._measure(sides[0]), self._measure(sides[2])
            opened, closed = signs
            if set(signs) <= down:
                low, high, opened, closed = high, low, closed, opened
            brackets = "(" if opened in "<>" else "[", ")" if closed in "<>" else "]"
            return NormalForm([*brackets, low.value, high.value], high.unit or low.unit, sides[1])
        return NormalForm(["text", _squeezed(text)])

    def _measure(self, text: str) -> NormalForm:
        """Read a value with its unit."""
        text = text.strip()
        sign = ""
        unit = None
        if match := units.PREFIX.match(text):
            unit, sign = units.currency(match[2]), match[1].replace("+", "")
            text = sign + text[match.end() :]
        elif match := units.SUFFIX.search(text):
            unit, text = units.currency(match[1]), text[: match.start()]
        elif re.search(r"\\?%$", text):
            unit, text = units.parse_unit("percent"), re.sub(r"\s*\\?%$", "", text)
        scaled = self._scaled(text)
        if scaled is not None:
            number, rest = scaled
            own = units.parse_unit(rest) if rest else None
            if not rest or own:
                return NormalForm(_rational(number), unit or own)
        for start in _WORD_START.finditer(text):
            value, phrase = text[: start.start()], text[start.start() :]
            if len(phrase) > 60 or not value.strip():
                continue
            if not _VALUE_END.search(value):
                number = number_in_words(plain(value))
                own = None if number is None else units.parse_unit(phrase)
                if number is not None and own:
                    return NormalForm(_rational(number), unit or own)
                continue
            is_attached = not value[-1].isspace() and TEXT_MARK not in phrase[:1] and phrase[0] != "\\"
            if own := units.parse_unit(phrase.replace("\\circ", "degrees"), attached=is_attached):
                read = self._value(value.strip())
                if read[0] != "text":
                    return NormalForm(read, _merged(unit, own))
        return NormalForm(self._value(text), unit)

    def _scaled(self, text: str) -> tuple[Fraction, str] | None:
        """Read "5 million dollars" or "5k" as the number and the rest of the text."""
        if match := _MULTIPLIED.fullmatch(text):
            number, rest = self._number(match[1]), match[3].strip()
            scale = MULTIPLIERS[match[2].lower()]
        elif not self.math_mode and (match := _SUFFIXED.fullmatch(text)):
            number, rest, scale = self._number(match[1]), match[3], SUFFIXES[match[2]]
        else:
            return None
        while number is not None and (more := _MULTIPLIED.fullmatch("1 " + rest)) and more[1] == "1":
            scale, rest = scale * MULTIPLIERS[more[2].lower()], more[3].strip()
        return None if number is None else (number * scale, rest)

    def _number(self, text: str) -> Fraction | None:
        value = self._value(text.strip())
        return Fraction(value[1]) if value[0] == "rational" and "x" not in value[1] else None

    def _value(self, text: str) -> Value:
        """Read a value without a unit."""
        text = text.strip()
        if match := _BASE.fullmatch(text):
            return ["base", match[1].lstrip("0").lower() or "0", match[2] or match[3]]
        if match := _REMAINDER.fullmatch(text):
            return ["remainder", str(int(match[1])), str(int(match[2]))]
        if _RATIO.fullmatch(text):
            return _ratio([each.strip() for each in re.split(r":|\\colon", text)])
        if match := _MATRIX.fullmatch(text):
            return self._matrix(match)
        if (unions := split_top(text, "\\cup")) and len(unions) > 1:
            return _collection("union", [self._value(each) for each in unions])
        if brackets := strip_brackets(text):
            return self._bracketed(text, *brackets)
        if "\\pm" in text or "\\mp" in text:
            both = [self._tree(text, plus_minus=sign) for sign in (1, -1)]
            if None not in both:
                return _collection("set", [_tree_value(tree) for tree in both if tree])
        if number := number_in_words(plain(text)):
            return _rational(number)
        tree = self._tree(text)
        if tree is not None:
            return _tree_value(tree)
        if _WORDS.fullmatch(text):
            return ["words", " ".join(re.findall(r"[a-z'-]+", plain(text).casefold()))]
        return ["text", _squeezed(text)]

    def _bracketed(self, text: str, opening: str, inside: str, closing: str) -> Value:
        items = split_list(inside, grouped=False)
        if len(items) == 1:
            if (opening, closing) in (("\\{", "\\}"), ("{", "}"), ("(", ")"), ("[", "]")) and inside.strip():
                if "|" in inside or "\\mid" in inside:
                    return ["text", _squeezed(text)]
                form = self._statement(inside.strip())
                return form.value if form.name is None else _named(form)
            return ["text", _squeezed(text)]
        if "\\ldots" in text or "..." in text:
            return ["text", _squeezed(text).replace("...", "\\ldots")]
        values = [_with_unit(self._statement(each)) for each in items]
        if opening in ("\\{", "{"):
            return _collection("set", values)
        return [opening, closing, *values]

    def _matrix(self, match: re.Match[str]) -> Value:
        kind, body, power = match.groups()
        rows = [row.split("&") for row in re.split(r"\\\\", body) if row.strip()]
        cells = [[self._value(cell) for cell in row] for row in rows]
        return ["matrix" if kind != "v" else "determinant", _squeezed(power), *cells]

    def _tree(self, text: str, *, plus_minus: int = 1) -> Tree | None:
        try:
            return parse(text.replace("\\%", ""), math_mode=self.math_mode, plus_minus=plus_minus)
        except Unreadable:
            return None


def _tree_value(tree: Tree) -> Value:
    """Return the value of a tree: rational where it can be computed exactly, else the tree itself."""
    try:
        return _rational(evaluate(tree, {}))
    except Irrational:
        if tree[0] == "const" and tree[1] == "oo":
            return ["words", "oo"]
        if tree == ["-", ["const", "oo"]]:
            return ["words", "-oo"]
        return ["tree", tree]
    except (Undefined, TooLarge):
        return ["text", json.dumps(tree)]


def _rational(number: Fraction) -> Value:
    return ["rational", rational_text(number)]


def rational_text(number: Fraction) -> str:
    """Return a rational number as an exact text: a decimal where it is finite and short, else a fraction."""
    over, under = number.numerator, number.denominator
    if max(over.bit_length(), under.bit_length()) > 12_000:
        return f"{over:#x}/{under:#x}"
    return str(over) if under == 1 else f"{over}/{under}"


def _squeezed(text: str) -> str:
    return re.sub(r"\s", "", plain(text))


def _is_symbolic(word: str) -> bool:
    if TEXT_MARK in word and len(word) > 2:
        return False
    letters = plain(word)
    if len(letters) == 1 or letters in ("pi", "infinity", "inf", "oo"):
        return True
    return len(letters) == 2 and set(letters) <= set("xyztuvwabckmn") or any(
        set(letters) <= set(family) and len(set(letters)) == len(letters)
        for family in ("abc", "xyz", "tuvw", "kmn", "xyzt", "uvwxyz")
    )


def _is_name(text: str) -> bool:
    text = text.strip()
    return bool(_NAME.fullmatch(text) and plain(text) not in ("pi", "e", "i")) or bool(_TEXT_NAME.fullmatch(text))


def _mentions(tree: Tree, name: str) -> bool:
    if tree[0] == "sym":
        return bool(tree[1] == name)
    return any(_mentions(each, name) for each in tree[1:] if isinstance(each, list))


def _collection(kind: str, values: list[Value]) -> Value:
    return [kind, *sorted(values, key=json.dumps)]


def _with_unit(form: NormalForm) -> Value:
    if form.name is not None:
        form = NormalForm(_named(form), form.unit)
    if form.unit is None:
        return form.value
    if form.value[0] == "rational" and "x" not in form.value[1]:
        base = Fraction(form.value[1]) * form.unit.factor
        return ["measure", str(form.unit.dimensions), _rational(base)]
    return ["measure", form.unit.name, form.value]


def _named(form: NormalForm) -> Value:
    return form.value if form.name is None else ["named", form.name, form.value]


def _merged(prefix: Unit | None, own: Unit) -> Unit:
    """Return the unit of "$5 per hour" or "$5 USD": the currency sign with what follows."""
    if prefix is None or prefix.dimensions == own.dimensions:
        return prefix or own
    return Unit(tuple(sorted((*prefix.dimensions, *own.dimensions))), prefix.factor * own.factor)


def _half_line(sign: str, bound: Value) -> Value:
    if sign in ("<", "\\le"):
        return ["(", ")" if sign == "<" else "]", ["words", "-oo"], bound]
    return ["(" if sign == ">" else "[", ")", bound, ["words", "oo"]]


def _ratio(terms: list[str]) -> Value:
    """Return a ratio in lowest terms, unless it may be a time of day or a duration."""
    if all(len(term) == 2 for term in terms[1:]):
        return ["clock", ":".join([str(int(terms[0])), *terms[1:]])]
    numbers = [Fraction(int(term)) for term in terms]
    first = next((number for number in numbers if number), Fraction(1))
    return ["ratio", *(rational_text(number / first) for number in numbers)]

"""The parsed form of an answer, and the plain data that represents values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from secondpass.strategies.answers.forms.folding import plain
from secondpass.strategies.answers.forms.units import Unit

Value = list[Any]

_MAX_DECIMAL_BITS = 12_000


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


def is_short_rational(value: Value) -> bool:
    """Return whether a value is a rational number whose text is decimal."""
    return bool(value[0] == "rational" and "x" not in value[1])


def rational(number: Fraction) -> Value:
    """Return the value of a rational number."""
    return ["rational", rational_text(number)]


def rational_text(number: Fraction) -> str:
    """Return a rational number as an exact text, in hexadecimal digits if it is very long."""
    over, under = number.numerator, number.denominator
    if max(over.bit_length(), under.bit_length()) > _MAX_DECIMAL_BITS:
        return f"{over:#x}/{under:#x}"
    return str(over) if under == 1 else f"{over}/{under}"


def squeezed(text: str) -> str:
    """Return a folded text without spaces and `TEXT_MARK`."""
    return re.sub(r"\s", "", plain(text))


def collection(kind: str, values: list[Value]) -> Value:
    """Return an unordered collection of values: a set or a union."""
    return [kind, *sorted(values, key=json.dumps)]


def with_unit(form: NormalForm) -> Value:
    """Return the value of a part of an answer, with its unit and name."""
    if form.name is not None:
        form = NormalForm(named(form), form.unit)
    if form.unit is None:
        return form.value
    if is_short_rational(form.value):
        base = Fraction(form.value[1]) * form.unit.factor
        return ["measure", str(form.unit.dimensions), rational(base)]
    return ["measure", form.unit.name, form.value]


def named(form: NormalForm) -> Value:
    """Return the value of a form with its name, if it has one."""
    return form.value if form.name is None else ["named", form.name, form.value]

"""Exact evaluation of formula trees on rational numbers, with a bound on every intermediate result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from secondpass.strategies.answers.forms.symbols import Tree

MAX_BITS = 60_000
"""Maximum bits of a numerator or denominator: about 18,000 decimal digits."""

MAX_FACTORIAL = 3000
MAX_ROOT = 1000

Inexact = Callable[[str, list[Any]], Any]
"""Computes an operation on values of which at least one, or the result, is not rational."""


class Undefined(ArithmeticError):
    """A tree has no value: a division by zero, or an operation outside of its domain."""


class ValueTooLarge(ArithmeticError):
    """A value would exceed `MAX_BITS`."""


class Irrational(ArithmeticError):
    """A value is not rational, or its symbols have no values."""


def evaluate(tree: Tree, values: Mapping[str, Fraction], inexact: Inexact | None = None) -> Any:
    """Return the value of a tree: a Fraction if it is rational, else the result of `inexact`.

    Args:
        tree: The formula.
        values: Value of each symbol.
        inexact: Computes what is not rational; None: raise Irrational.

    Raises:
        Irrational: The value is not rational, and `inexact` is None.
        Undefined: A part has no value.
        ValueTooLarge: A part exceeds `MAX_BITS`.
    """
    name = tree[0]
    if name == "num":
        return _sized(Fraction(_checked(tree[1])))
    if name == "sym" and tree[1] in values:
        return values[tree[1]]
    arguments = (
        [] if name in ("sym", "const") else [evaluate(each, values, inexact) for each in tree[1:]]
    )
    if name not in ("sym", "const") and all(isinstance(each, Fraction) for each in arguments):
        result = _exact(name, arguments)
        if result is not None:
            return _sized(result)
    if inexact is None:
        raise Irrational
    return inexact(name, tree[1:] if name in ("sym", "const") else arguments)


def _checked(digits: str) -> str:
    if len(digits) > MAX_BITS // 4:
        raise ValueTooLarge
    return digits


def _sized(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise ValueTooLarge
    return value


def _exact(name: str, arguments: list[Fraction]) -> Fraction | None:
    """Return the rational result of an operation on rational numbers; None if it is not rational."""
    operation = _OPERATIONS.get(name)
    return None if operation is None else operation(*arguments)


def _quotient(over: Fraction, under: Fraction) -> Fraction:
    if not under:
        raise Undefined
    return over / under


def _root(value: Fraction, index: Fraction) -> Fraction | None:
    if index.denominator != 1 or not 1 < index < MAX_ROOT:
        raise Undefined
    return _real_root(value, int(index))


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        if exponent.denominator > MAX_ROOT:
            return None
        root = _real_root(base, exponent.denominator)
        return None if root is None else _power(root, Fraction(exponent.numerator))
    power = int(exponent)
    if not base and power < 0:
        raise Undefined
    if not base and not power:
        raise Undefined
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and base and bits * abs(power) > MAX_BITS:
        raise ValueTooLarge
    return base ** (power if abs(base) != 1 else power % 2 or 2)


def _real_root(value: Fraction, index: int) -> Fraction | None:
    """Return the exact real root; None if it is irrational or not real."""
    if value < 0:
        root = _real_root(-value, index) if index % 2 else None
        return None if root is None else -root
    over, under = _whole_root(value.numerator, index), _whole_root(value.denominator, index)
    return None if over is None or under is None else Fraction(over, under)


def _whole_root(value: int, index: int) -> int | None:
    if value < 2:
        return value
    if index == 2:
        root = math.isqrt(value)
    else:
        low, high = 1, 1 << (value.bit_length() // index + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**index <= value else (low, middle - 1)
        root = low
    return root if root**index == value else None


def _factorial(value: Fraction) -> Fraction | None:
    if value.denominator != 1:
        return None
    if value < 0:
        raise Undefined
    if value > MAX_FACTORIAL:
        raise ValueTooLarge
    return Fraction(math.factorial(int(value)))


def _double_factorial(value: Fraction) -> Fraction | None:
    if value.denominator != 1:
        return None
    if value < 0:
        raise Undefined
    if value > MAX_FACTORIAL:
        raise ValueTooLarge
    return Fraction(math.prod(range(int(value), 0, -2)))


def _binomial(upper: Fraction, lower: Fraction) -> Fraction | None:
    if upper.denominator != 1 or lower.denominator != 1 or upper < 0:
        return None
    if lower < 0:
        return Fraction(0)
    if upper > MAX_FACTORIAL:
        raise ValueTooLarge
    return Fraction(math.comb(int(upper), int(lower)))


_OPERATIONS: Mapping[str, Callable[..., Fraction | None]] = {
    "+": lambda a, b: a + b,
    "-": lambda a: -a,
    "*": lambda a, b: a * b,
    "/": _quotient,
    "^": _power,
    "!": _factorial,
    "!!": _double_factorial,
    "binom": _binomial,
    "sqrt": lambda a: _power(a, Fraction(1, 2)),
    "cbrt": lambda a: _real_root(a, 3),
    "root": _root,
    "abs": abs,
    "floor": lambda a: Fraction(math.floor(a)),
    "ceil": lambda a: Fraction(math.ceil(a)),
}

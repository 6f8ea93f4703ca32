"""Evaluation of formulas that are not rational numbers, at two precisions.

A value is trusted where both precisions agree; a difference that only rounding separates from zero is zero. Values with
symbols are computed at fixed points. Two formulas are equal if they agree to 50 significant digits at all points: there is no
absolute tolerance, and rational values stay exact.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

import mpmath

from secondpass.strategies.answers.forms.evaluation import Undefined, ValueTooLarge, evaluate
from secondpass.strategies.answers.forms.symbols import Tree

POINTS: Final = 4
PRECISIONS: Final = (90, 150)
DIGITS: Final = 50
_AGREEMENT: Final = mpmath.mpf(10) ** -60
_MAX_EXPONENT: Final = 10**7
_MAX_WHOLE: Final = 10**60
_MAX_DENOMINATOR: Final = 10**15


def resolve(value: list[Any]) -> list[Any]:
    """Return a value with its trees replaced by what they evaluate to; equal values become equal data."""
    match value:
        case ["tree", tree]:
            return _resolved_tree(tree)
        case ["equation", tree]:
            return _resolved_equation(tree, "equation", keeps_sign=False)
        case ["relation", sign, tree]:
            return _resolved_equation(tree, f"relation {sign}", keeps_sign=sign != "\\ne")
        case ["set" | "union" as kind, *items]:
            return [kind, *sorted(map(resolve, items), key=json.dumps)]
        case [str() as kind, *items]:
            return [kind, *(resolve(each) if isinstance(each, list) else each for each in items)]
        case _:
            return [resolve(each) if isinstance(each, list) else each for each in value]


def _resolved_tree(tree: Tree) -> list[Any]:
    try:
        values = [_value(tree, point) for point in _points(tree)]
    except (Undefined, ValueTooLarge):
        return ["text", json.dumps(tree)]
    if all(each == values[0] for each in values) and isinstance(values[0], Fraction):
        return ["rational", _text(values[0])]
    return ["number", *map(_text, values)]


def _resolved_equation(tree: Tree, kind: str, *, keeps_sign: bool) -> list[Any]:
    """Return an equation or relation up to a constant factor; a relation keeps the sign of that factor."""
    if linear := _bound(tree, kind) if keeps_sign else None:
        return linear
    try:
        values = [_value(tree, point) for point in _points(tree)]
    except (Undefined, ValueTooLarge):
        return ["text", json.dumps([kind, tree])]
    scale = next((each for each in values if each), Fraction(1))
    if keeps_sign:
        scale = abs(scale)
    return [kind, *(_text(_quotient(each, scale)) for each in values)]


def _quotient(value: Any, scale: Any) -> Any:
    if isinstance(value, Fraction) and isinstance(scale, Fraction):
        return value / scale
    with mpmath.workdps(PRECISIONS[0]):
        return _simplest(_float(value) / _float(scale))


def _bound(tree: Tree, kind: str) -> list[Any] | None:
    """Return a linear relation in one symbol as an interval; None for any other relation."""
    names = symbols(tree)
    if len(names) != 1:
        return None
    name = next(iter(names))
    try:
        at = [_value(tree, {name: Fraction(point)}) for point in (0, 1, 2, -7)]
    except (Undefined, ValueTooLarge):
        return None
    if not all(isinstance(each, Fraction) for each in at):
        return None
    slope = at[1] - at[0]
    if not slope or at[2] != at[0] + 2 * slope or at[3] != at[0] - 7 * slope:
        return None
    end = ["rational", _text(-at[0] / slope)]
    is_open = kind.endswith(">")
    if slope > 0:
        return ["(" if is_open else "[", ")", end, ["words", "oo"]]
    return ["(", ")" if is_open else "]", ["words", "-oo"], end]


def symbols(tree: Tree) -> frozenset[str]:
    """Return the names of the symbols in a tree."""
    if tree[0] == "sym":
        return frozenset((tree[1],))
    return frozenset().union(*(symbols(each) for each in tree[1:] if isinstance(each, list)))


def _points(tree: Tree) -> list[dict[str, Fraction]]:
    """Return the points at which a tree is evaluated: fixed for each symbol, both positive and negative."""
    names = symbols(tree)
    points = [
        {name: _coordinate(name, at) for name in names} for at in range(POINTS if names else 1)
    ]
    if _is_stepped(tree):  # floors and ceilings differ by a constant except at integers
        wholes = [(name, Fraction(math.floor(points[0][name] * 1511))) for name in sorted(names)]
        points += [points[0] | {name: whole} for name, whole in wholes[:POINTS]]
    return points


def _is_stepped(tree: Tree) -> bool:
    return tree[0] in ("floor", "ceil") or any(
        _is_stepped(each) for each in tree[1:] if isinstance(each, list)
    )


def _coordinate(name: str, at: int) -> Fraction:
    digest = hashlib.sha256(f"{name} {at}".encode()).digest()
    size = Fraction(211 + int.from_bytes(digest[:4], "big") % 4000, 1511)
    is_negative = at == 1 or (at > 1 and digest[4] % 2 == 1)
    return -size if is_negative else size


def _value(tree: Tree, point: Mapping[str, Fraction]) -> Any:
    """Return the value at a point: a Fraction, or a number of arbitrary precision."""
    found = []
    for digits in PRECISIONS:
        with mpmath.workdps(digits):
            value = evaluate(tree, point, _inexact)
            if isinstance(value, Fraction):
                return value
            if not mpmath.isfinite(value):
                raise Undefined
            found.append(value)
    low, high = found
    with mpmath.workdps(PRECISIONS[1]):
        if abs(low - high) > _AGREEMENT * abs(high):
            if abs(high) < mpmath.mpf(10) ** -(PRECISIONS[0] - 10) and abs(high) < abs(low):
                return Fraction(0)
            raise Undefined
        return _simplest(high)


def _simplest(value: Any) -> Any:
    """Return a number as a Fraction if it is one with a small denominator."""
    size = abs(value)
    real, imaginary = mpmath.re(value), mpmath.im(value)
    if abs(imaginary) > _AGREEMENT * size:
        return mpmath.mpc(real if abs(real) > _AGREEMENT * size else 0, imaginary)
    if not size:
        return Fraction(0)
    if not 1e-6 < size < 1e15:
        return real
    scaled = int(mpmath.nint(real * mpmath.mpf(2) ** 400))
    near = Fraction(scaled, 2**400).limit_denominator(_MAX_DENOMINATOR)
    return near if abs(real - _float(near)) <= _AGREEMENT * size else real


def _text(value: Any) -> str:
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > 12_000:
            return f"{value.numerator:#x}/{value.denominator:#x}"
        return str(value)
    with mpmath.workdps(PRECISIONS[0]):
        if isinstance(value, mpmath.mpc):
            return f"{_part(value.real)} {_part(value.imag)}"
        return str(mpmath.nstr(value, DIGITS))


def _part(value: Any) -> str:
    near = _simplest(value)
    return str(near) if isinstance(near, Fraction) else str(mpmath.nstr(value, DIGITS))


def _float(value: Any) -> Any:
    if isinstance(value, Fraction):
        return mpmath.mpf(value.numerator) / value.denominator
    return value


def _inexact(name: str, arguments: list[Any]) -> Any:
    if name == "sym":
        raise Undefined
    if name == "const":
        return _constant(arguments[0])
    numbers = [_float(each) for each in arguments]
    if name == "^" and isinstance(arguments[1], Fraction) and arguments[1].denominator % 2:
        return _odd_root_power(numbers[0], arguments[1])
    operation = _OPERATIONS.get(name)
    if operation is None:
        raise Undefined
    try:
        return operation(*numbers)
    except (
        ValueError,
        ZeroDivisionError,
        OverflowError,
        TypeError,
        mpmath.libmp.NoConvergence,
    ) as error:
        raise Undefined from error


def _constant(name: str) -> Any:
    if name == "oo":
        raise Undefined
    return {"pi": +mpmath.pi, "e": +mpmath.e, "i": mpmath.mpc(0, 1)}[name]


def _power(base: Any, exponent: Any) -> Any:
    if not base:
        raise Undefined
    size = abs(mpmath.log(abs(base))) * abs(exponent)
    if size > _MAX_EXPONENT:
        raise ValueTooLarge
    return mpmath.power(base, exponent)


def _odd_root_power(base: Any, exponent: Fraction) -> Any:
    """Return the real power with an odd denominator, as x^(2/3) is real for negative x."""
    if isinstance(base, mpmath.mpc) or base >= 0:
        return _power(base, _float(exponent))
    power = _power(-base, _float(exponent))
    return -power if exponent.numerator % 2 else power


def _root(value: Any, index: Any) -> Any:
    is_odd = index == int(index) and index % 2
    return _odd_root_power(value, Fraction(1, int(index))) if is_odd else _power(value, 1 / index)


def _stepped(direction: Callable[[Any], Any]) -> Callable[[Any], Fraction]:
    """Return floor or ceil; a value that only rounding separates from a whole number is that number."""

    def step(value: Any) -> Fraction:
        if abs(value) > _MAX_WHOLE:
            raise ValueTooLarge
        near = mpmath.nint(value)
        is_whole = abs(value - near) <= _AGREEMENT * max(1, abs(value))
        return Fraction(int(near if is_whole else direction(value)))

    return step


def _exponential(value: Any) -> Any:
    if abs(value) > _MAX_EXPONENT:
        raise ValueTooLarge
    return mpmath.exp(value)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*numbers: Any) -> Any:
        if any(abs(each) > 1e6 for each in numbers):
            raise ValueTooLarge
        return function(*numbers)

    return checked


_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a: -a,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": _power,
    "!": _bounded(mpmath.factorial),
    "!!": _bounded(mpmath.fac2),
    "binom": _bounded(mpmath.binomial),
    "sqrt": mpmath.sqrt,
    "cbrt": lambda a: _root(a, 3),
    "root": _root,
    "abs": abs,
    "floor": _stepped(mpmath.floor),
    "ceil": _stepped(mpmath.ceil),
    "exp": _exponential,
    "ln": mpmath.log,
    "log": lambda a, base=10: mpmath.log(a) / mpmath.log(base),
    "sin": _bounded(mpmath.sin),
    "cos": _bounded(mpmath.cos),
    "tan": _bounded(mpmath.tan),
    "cot": _bounded(mpmath.cot),
    "sec": _bounded(mpmath.sec),
    "csc": _bounded(mpmath.csc),
    "arcsin": mpmath.asin,
    "arccos": mpmath.acos,
    "arctan": mpmath.atan,
    "sinh": _bounded(mpmath.sinh),
    "cosh": _bounded(mpmath.cosh),
    "tanh": _bounded(mpmath.tanh),
}

"""Names in formulas: functions, constants and symbols, and which runs of letters are products."""

from __future__ import annotations

from typing import Any, Final

Tree = list[Any]

FACTORS: Final = frozenset("xyztuvwabckmn")
"""Letters that multiply outside of math mode."""

FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "ln",
        "log",
        "exp",
        "sqrt",
        "cbrt",
        "abs",
    ]
)
FUNCTION_ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log", "tg": "tan"}
INFINITY = frozenset(("inf", "infinity", "oo", "infty"))
CONSTANTS = INFINITY | {"pi", "e", "i"}
GREEK_LETTERS = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "sigma",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
)
"""Lower-case letters in the order of Unicode, which has sigma twice."""

GREEK = frozenset(GREEK_LETTERS) | {
    "Delta",
    "Gamma",
    "Lambda",
    "Omega",
    "Phi",
    "Pi",
    "Psi",
    "Sigma",
    "Theta",
    "Xi",
    "ell",
} - {"omicron", "pi"}


def symbol_run(letters: str, *, multiplies: bool) -> Tree:
    """Return the tree of a run of letters: a constant, a symbol, or a product of symbols."""
    if letters in CONSTANTS:
        return ["const", "oo" if letters in INFINITY else letters]
    if len(letters) == 1 or not multiplies:
        return ["sym", letters]
    tree = symbol_run(letters[0], multiplies=True)
    for letter in letters[1:]:
        tree = ["*", tree, symbol_run(letter, multiplies=True)]
    return tree

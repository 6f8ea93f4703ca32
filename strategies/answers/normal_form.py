r"""Normal forms of numeric answers and formulas.

Normal forms are exact: numerals are compared digit by digit, never as floats. Currency and percent signs are removed,
because the question fixes the unit: models write 18 as "18", "$18" or "18 dollars". Other units stay in the normal form;
`service.equivalence` compares them.
"""

from __future__ import annotations

import re

_GROUPED = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+)(\.\d*)?", re.ASCII)
_DECIMAL = re.compile(
    r"([+-]?)(\d*)(?:\.(\d*))?(?: ?(thousand|million|billion|trillion))?", re.ASCII
)
_ZEROS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_PASSES = 8
_FORMULA_DELIMITER = re.compile("(\\\\\\\\)|\\\\[()\\[\\]$]|[$\u20ac\u00a3\u00a5]")
_UNIT = re.compile(
    r"(?<=[\d}])(?:[\s.]*(?:\\?%|\b(?:percent|dollars?|usd|euros?|eur)\b))+[\s.]*$", re.IGNORECASE
)
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")
_PI = re.compile(r"(?<![\\A-Za-z])pi\b")
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|boxed|fbox|displaystyle)\b\s?\{([^{}]*)\}"
)
_SPACING = re.compile(
    r"\\(?:left|right|displaystyle)(?![A-Za-z])|(?<!\\)\\[;:> ]|~|\\q?quad(?![A-Za-z])"
)
_THIN_SPACE = re.compile(r"(?<!\\)\\[!,]")
_SMALL_FRACTION = re.compile(r"(-?)\\frac\{(\d+)\}\{(\d+)\}", re.ASCII)
_MIXED = re.compile(r"(-?\d+)(?:\s+(\d+)/(\d+)|\s*\\frac\{(\d+)\}\{(\d+)\})", re.ASCII)
_LOOSE_SPACE = re.compile(r"(?<=[^A-Za-z0-9])\s|\s(?=[^A-Za-z0-9\s])", re.ASCII)
_SIMPLE_WORDS = re.compile(r"[A-Z]?[a-z]{2,}(?: [A-Z]?[a-z]+)*")
_SYMBOLS = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u03c0": "\\pi ",
        "\u221e": "\\infty ",
        "\u00b0": "^\\circ ",
        "\u00d7": "\\times ",
        "\u00b7": "\\cdot ",
        "\u00a0": " ",
        "\u202f": " ",
    }
)


def normalise(answer: str) -> str:
    r"""Return the normal form: plain numerals, one fraction command, no wrappers or loose spaces.

    A text that does not converge to a normal form only has its spaces collapsed.
    """
    collapsed = " ".join(answer.split())
    text = collapsed
    for _ in range(_PASSES):
        simpler = _simplify(text)
        if simpler == text:
            return text
        if not simpler:
            break
        text = simpler
    return collapsed


def _simplify(text: str) -> str:
    text = text.translate(_SYMBOLS)
    text = _FORMULA_DELIMITER.sub(lambda match: match[1] or " ", text).strip(" *_`")
    text = _SPACING.sub(" ", _join_digits(_WRAPPER.sub(r"\1", text))).replace("**", "^")
    text = _PI.sub(r"\\pi", _FRACTION.sub(r"\\frac", text))
    text = _UNIT.sub("", text).strip().rstrip(". ")
    if mixed := _MIXED.fullmatch(text):
        whole, *parts = mixed.groups()
        text = "{}\\frac{{{}}}{{{}}}".format(whole, *filter(None, parts))
    elif small := _SMALL_FRACTION.fullmatch(text):
        text = f"{small[1]}{small[2]}/{small[3]}"
    text = _LOOSE_SPACE.sub("", " ".join(text.split()))
    return text.lower() if _SIMPLE_WORDS.fullmatch(text) else _plain_decimal(text) or text


def _plain_decimal(text: str) -> str | None:
    """Return 1,000.50 as 1000.5, exactly and at any length; None if it is not a decimal number."""
    if grouped := _GROUPED.match(text):
        text = grouped[0].replace(",", "") + text[grouped.end() :]
    match = _DECIMAL.fullmatch(text)
    if not match or not (match[2] or match[3]):
        return None
    part = match[3] or ""
    zeros = _ZEROS.get(match[4], 0)
    whole = (match[2] + part[:zeros].ljust(zeros, "0")).lstrip("0") or "0"
    part = part[zeros:].rstrip("0")
    value = f"{whole}.{part}" if part else whole
    return f"-{value}" if match[1] == "-" and value != "0" else value


def _join_digits(text: str) -> str:
    r"""Remove LaTeX thin spaces and unwrap {,}, both of which separate thousands."""
    return _THIN_SPACE.sub("", text.replace("{,}", ","))

r"""Folding of the characters and wrappers of an answer to ASCII and LaTeX commands."""

from __future__ import annotations

import re
import unicodedata

from secondpass.strategies.answers.forms.symbols import GREEK_LETTERS

TEXT_MARK = "\ue000"
r"""Precedes each word from \text{}: its letters never multiply."""

_HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d\u207b"
_QUOTES = "\u2018\u2019\u02bc\u2032"
_SIGNS = {
    "\u03c0": "\\pi ",
    "\u221e": "\\infty ",
    "\u00b0": "^\\circ ",
    "\u00ba": "^\\circ ",
    "\u00d7": "\\times ",
    "\u2a2f": "\\times ",
    "\u00b7": "\\cdot ",
    "\u22c5": "\\cdot ",
    "\u2219": "\\cdot ",
    "\u2217": "*",
    "\u00f7": "\\div ",
    "\u2044": "/",
    "\u2215": "/",
    "\u221a": "\\sqrt ",
    "\u221b": "\\sqrt[3] ",
    "\u2248": "\\approx ",
    "\u2264": "\\le ",
    "\u2a7d": "\\le ",
    "\u2265": "\\ge ",
    "\u2a7e": "\\ge ",
    "\u2260": "\\ne ",
    "\u2261": "\\equiv ",
    "\u2208": "\\in ",
    "\u222a": "\\cup ",
    "\u2205": "\\emptyset ",
    "\u00d8": "\\emptyset ",
    "\u211d": "\\mathbb{R}",
    "\u00b1": "\\pm ",
    "\u2213": "\\mp ",
    "\u2026": "\\ldots ",
    "\u22ef": "\\ldots ",
    "\u2236": ":",
    "\u2223": "|",
}
_GREEK = {chr(0x3B1 + at): f"\\{name} " for at, name in enumerate(GREEK_LETTERS)}
_TABLE = str.maketrans(
    _GREEK
    | _SIGNS
    | dict.fromkeys(_HYPHENS, "-")
    | dict.fromkeys(_QUOTES, "'")
    | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f" + TEXT_MARK)
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n")
_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+")
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e\u2189]")
_SUPERSCRIPT_SLASH = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)\u2044([₀₁₂₃₄₅₆₇₈₉]+)")

_WRAPPER = re.compile(
    r"\\(?:(text|textbf|textit|textrm|textsf|texttt|mbox|hbox|operatorname)\*?"
    r"|mathrm|mathbf|mathit|mathsf|boldsymbol|bm|boxed|fbox|displaystyle|underline)\s?\{([^{}]*)\}"
)
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}")
_LAYOUT = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|nolimits|big|Big)(?![A-Za-z])"
)
_JOINER = re.compile(r"\{,\}|,\\!|\\!|(?<=\d)\\[,;: ](?=\d{3}(?!\d))")
_TIMES_TEN = re.compile(r"(\d) ?[xX] ?10 ?\^")
_SPACE = re.compile(r"\\[,;:> ]|~|\\q?quad(?![A-Za-z])")
_ROW_END = "\ue001"
_ESCAPED = re.compile(r"\\\\(?=[A-Za-z(){}\[\]$])")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_ALIASES = {
    "leq": "le",
    "leqslant": "le",
    "geq": "ge",
    "geqslant": "ge",
    "neq": "ne",
    "dots": "ldots",
    "cdots": "ldots",
    "dotsc": "ldots",
    "dotsb": "ldots",
    "varnothing": "emptyset",
    "degree": "circ",
    "ast": "times",
    "lt": "<",
    "gt": ">",
    "lbrace": "\\{",
    "rbrace": "\\}",
    "lbrack": "[",
    "rbrack": "]",
    "vert": "|",
    "lvert": "|",
    "rvert": "|",
    "mid": "|",
    "dbinom": "binom",
    "tbinom": "binom",
    "varepsilon": "epsilon",
    "vartheta": "theta",
    "varphi": "phi",
    "land": "and",
    "lor": "or",
}
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_MODULUS = re.compile(
    r"\\pmod\s?(?:\{\s?(\w{1,30})\s?\}|(\w))|\(\s?\\?b?mod\s?(\w{1,30})\s?\)", re.ASCII
)
_PASSES = 6


def fold(text: str) -> str:
    r"""Return an answer in ASCII where possible, without wrappers and layout commands.

    Takes linear time. Words from \text{} follow `TEXT_MARK`. Superscripts are "^{2}", and vulgar fractions "\frac{1}{2}".
    """
    text = _SUPERSCRIPT_SLASH.sub(_small_fraction, text)
    text = _RAISED_RUN.sub(lambda run: "^{" + run[0].translate(_RAISED) + "}", text)
    text = _LOWERED_RUN.sub(lambda run: "_{" + run[0].translate(_LOWERED) + "}", text)
    text = _VULGAR.sub(_vulgar_fraction, text).translate(_TABLE)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_TABLE)
        text = "".join(map(_ascii_digit, text))
    if "\\begin" not in text:
        text = _ESCAPED.sub(r"\\", text)
    text = text.replace("\\\\", _ROW_END)
    text = _JOINER.sub(lambda match: "," if match[0] == "{,}" else "", text)
    for _ in range(_PASSES):
        unwrapped = _WRAPPER.sub(_unwrapped, text)
        if unwrapped == text:
            break
        text = unwrapped
    text = _TIMES_TEN.sub(r"\1 \\times 10^", _SPACE.sub(" ", _LAYOUT.sub(" ", text)))
    text = _FRACTION.sub(r"\\frac", text).replace("**", "^").replace("^\\circ", "\\degree ")
    text = _COMMAND.sub(_alias, text.replace("^{\\circ}", "\\circ ").replace("^ \\circ", "\\circ "))
    text = _MODULUS.sub(lambda match: f" \\pmod{{{match[match.lastindex or 0]}}} ", text)
    return " ".join(text.replace(_ROW_END, "\\\\").split())


def plain(text: str) -> str:
    """Return a folded text without `TEXT_MARK`."""
    return text.replace(TEXT_MARK, "")


def _small_fraction(match: re.Match[str]) -> str:
    return f"\\frac{{{match[1].translate(_RAISED)}}}{{{match[2].translate(_LOWERED)}}}"


def _vulgar_fraction(match: re.Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", match[0]).partition("\u2044")
    return f"\\frac{{{over}}}{{{under}}}"


def _ascii_digit(character: str) -> str:
    value = unicodedata.decimal(character, None) if not character.isascii() else None
    return character if value is None else str(value)


def _unwrapped(match: re.Match[str]) -> str:
    if not match[1]:
        return match[2]
    return " " + _WORD.sub(lambda word: TEXT_MARK + word[0], match[2]) + " "


def _alias(match: re.Match[str]) -> str:
    name = _ALIASES.get(match[1])
    if name is None:
        return match[0]
    return name + " " if not name.isalpha() or name in ("and", "or") else f"\\{name}"

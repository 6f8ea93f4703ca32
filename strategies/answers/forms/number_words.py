"""Numbers in words, and the words that multiply a number: "twenty-one", "two thirds", "5 million"."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {
    name: value
    for value, name in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    name: 10 * value
    for value, name in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
MULTIPLIERS = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "lakh": 10**5,
    "crore": 10**7,
}
"""Words after a number that multiply it."""

SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "bn": 10**9, "mn": 10**6}
"""Letters directly after a number that multiply it."""

_SMALL = _UNITS | _TENS
_SCALES = {name: MULTIPLIERS[name] for name in ("thousand", "million", "billion", "trillion")}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    name + plural: value
    for value, name in enumerate(
        [
            "third",
            "fourth",
            "fifth",
            "sixth",
            "seventh",
            "eighth",
            "ninth",
            "tenth",
            "eleventh",
            "twelfth",
            "thirteenth",
            "fourteenth",
            "fifteenth",
            "sixteenth",
            "seventeenth",
            "eighteenth",
            "nineteenth",
        ],
        start=3,
    )
    for plural in ("", "s")
}
_PARTS |= {
    name + plural: value
    for name, value in (
        [(f"{name[:-1]}ieth", value) for name, value in _TENS.items()]
        + [("hundredth", 100), ("thousandth", 1000), ("millionth", 10**6)]
    )
    for plural in ("", "s")
}
_MAX_WORDS = 20
_SPLIT = re.compile(r"[\s-]+")


def number_in_words(text: str) -> Fraction | None:
    """Return the number that a text spells, such as "one hundred and five"; None for any other text."""
    words = _SPLIT.split(text.strip().lower())
    if not 1 <= len(words) <= _MAX_WORDS:
        return None
    if words[0] in ("minus", "negative"):
        positive = number_in_words(" ".join(words[1:])) if len(words) > 1 else None
        return None if positive is None else -positive
    if words[-1] in _PARTS and len(words) > 1:
        return _fraction(words)
    if "point" in words:
        return _decimal(words)
    if words == ["half"]:
        return Fraction(1, 2)
    whole = _cardinal(words)
    return None if whole is None else Fraction(whole)


def _fraction(words: list[str]) -> Fraction | None:
    """Return "two thirds" or "one and a half"."""
    under = _PARTS[words[-1]]
    *before, over = words[:-1]
    if before and over in _TENS and under < 10:  # one twenty-fifth
        under += _TENS[over]
        *before, over = before
    count = 1 if over in ("a", "an", "one") else _UNITS.get(over)
    if count is None:
        return None
    if not before:
        return Fraction(count, under)
    if before[-1] != "and":
        return None
    is_digits = len(before) == 2 and before[0].isascii() and before[0].isdigit()
    whole = int(before[0]) if is_digits else _cardinal(before[:-1])
    return None if whole is None else whole + Fraction(count, under)


def _decimal(words: list[str]) -> Fraction | None:
    """Return "three point one four", whose decimals are single digits."""
    at = words.index("point")
    digits = [_UNITS.get(word, 10) for word in words[at + 1 :]]
    whole = _cardinal(words[:at]) if at else 0
    if whole is None or not digits or max(digits) > 9:
        return None
    return whole + Fraction(int("".join(map(str, digits))), 10 ** len(digits))


def is_part(word: str) -> bool:
    """Return whether a word names a part of one, as "tenth" and "twenty-fifth" do; quarters may be coins."""
    last = word.rpartition("-")[2]
    return last in _PARTS and last not in ("quarter", "quarters")


def _cardinal(words: list[str]) -> int | None:
    """Return a whole number; each scale (thousand, million, ...) must be smaller than the one before."""
    if words[0] == "a" and len(words) > 1:
        words = ["one", *words[1:]]
    total = group = 0
    last, ceiling = None, 10**15
    for word in _without_and(words):
        value = _SMALL.get(word)
        if value is not None and _may_follow(last, value):
            group += value
        elif word == "hundred" and last is not None and 0 < group < 100:
            value, group = 100, group * 100
        elif word in _SCALES and 0 < group < 1000 and _SCALES[word] < ceiling:
            value = ceiling = _SCALES[word]
            total, group = total + group * value, 0
        else:
            return None
        last = value
    return total + group


def _without_and(words: list[str]) -> list[str]:
    """Drop each "and" after a hundred or a scale, as in "one hundred and five"."""
    kept: list[str] = []
    for at, word in enumerate(words):
        follows_scale = bool(kept) and (kept[-1] == "hundred" or kept[-1] in _SCALES)
        if word != "and" or not follows_scale or at == len(words) - 1:
            kept.append(word)
    return kept


def _may_follow(last: int | None, value: int) -> bool:
    """Return whether a small number may follow `last`, as "one" may follow "twenty" or "hundred"."""
    return last is None or last >= 100 or (last >= 20 and 0 < value < 10)

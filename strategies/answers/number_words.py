"""Numbers in words, and the words that multiply a number: "twenty-one", "two thirds", "5 million"."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {
    name: value
    for value, name in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = {
    name: 10 * value
    for value, name in enumerate(
        "twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2
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

_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    name + plural: value
    for value, name in enumerate(
        "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(), start=3
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
    if words == ["half"]:
        return Fraction(1, 2)
    whole = _cardinal(words)
    return None if whole is None else Fraction(whole)


def _fraction(words: list[str]) -> Fraction | None:
    """Return "two thirds" or "one and a half"."""
    under = _PARTS[words[-1]]
    *before, over = words[:-1]
    count = 1 if over in ("a", "an", "one") else _UNITS.get(over)
    if count is None:
        return None
    if not before:
        return Fraction(count, under)
    whole = _cardinal(before[:-1]) if before[-1] == "and" else None
    return None if whole is None else whole + Fraction(count, under)


def _cardinal(words: list[str]) -> int | None:
    """Return a whole number; each word must be smaller than the multiplier that it follows."""
    total = group = 0
    last: int | None = None
    ceiling = 10**15
    for at, word in enumerate(words):
        if word == "and" and 0 < at < len(words) - 1 and last in (100, 10**3, 10**6):
            continue
        if word == "a" and at == 0 and len(words) > 1:
            group, last = 1, 1
        elif word in _UNITS:
            if last is not None and not (last >= 100 or (20 <= last < 100 and _UNITS[word] < 10)):
                return None
            group, last = group + _UNITS[word], _UNITS[word]
        elif word in _TENS:
            if last is not None and last < 100:
                return None
            group, last = group + _TENS[word], _TENS[word]
        elif word == "hundred":
            if last is None or not 0 < group < 100:
                return None
            group, last = group * 100, 100
        elif word in MULTIPLIERS and word not in ("dozen", "lakh", "crore"):
            scale = MULTIPLIERS[word]
            if not 0 < group < 1000 or scale >= ceiling:
                return None
            total, group, last, ceiling = total + group * scale, 0, scale, scale
        else:
            return None
    return total + group

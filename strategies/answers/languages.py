"""The table of answer phrases by language, and of words that belong to a quantity: `languages.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Language:
    """Answer phrases of one language.

    Attributes:
        answer: Nouns for the answer.
        option: Nouns for an option.
        correct: Adjectives for a correct answer.
        lead: Articles and adverbs before an answer.
        copula: Words between the noun and the answer.
        intro: Words that a letter alone may follow, such as "so" or "it is".
        pick: Verbs of choosing in the first person.
        ending: Words after the answer that complete a sentence, such as "is" in Hindi.
        because: Words that begin a reason after the answer.
        join: Words between the items of a list or the ends of a range.
        negation: Words that negate an answer after them, or before them if `negates_before`.
        but: Words before the answer that replaces a negated one.
        wrong: Predicates of a wrong answer.
        supposing: Words before a statement that is supposed or in question, such as "if".
        decimal_comma: True if the comma separates decimals and the full stop separates thousands.
        is_spaced: True if white space separates words.
        negates_before: True if a negation follows the negated answer.
        has_copula: True if a word or mark is required between the noun and the answer.
        inverts: True if the copula may precede the answer, as in "damit ist C richtig".
    """

    answer: tuple[str, ...]
    option: tuple[str, ...]
    correct: tuple[str, ...]
    copula: tuple[str, ...]
    intro: tuple[str, ...]
    pick: tuple[str, ...]
    because: tuple[str, ...]
    join: tuple[str, ...]
    negation: tuple[str, ...]
    but: tuple[str, ...]
    wrong: tuple[str, ...]
    supposing: tuple[str, ...]
    lead: tuple[str, ...] = ()
    ending: tuple[str, ...] = ()
    decimal_comma: bool = False
    is_spaced: bool = True
    negates_before: bool = False
    has_copula: bool = True
    inverts: bool = False


def _read() -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "languages.toml").read_text("utf-8"))


def _language(row: Mapping[str, Any]) -> Language:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    return Language(**values)


_TABLE = _read()

LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {code: _language(row) for code, row in _TABLE["language"].items()}
)
"""The languages by their ISO 639 codes."""

MONTHS, UNITS, SCALES, ORDINALS, PREFIXES, LABELS = (
    tuple(_TABLE[name]) for name in ("months", "units", "scales", "ordinals", "prefixes", "labels")
)
INCORRECT = tuple(_TABLE["incorrect"])
"""Adjectives of a wrong answer."""

ABBREVIATIONS, NUMBERED_ABBREVIATIONS = (
    frozenset(_TABLE[name]) for name in ("abbreviations", "numbered_abbreviations")
)

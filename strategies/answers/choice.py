"""Extraction of the chosen option from a reply. An ambiguous reply has no answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from secondpass.strategies.answers.markers import conclusion, last_box, statements

_WRAPPER = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s?\{([^{}]*)\}")
_MARKUP = re.compile(r"[*_`$\"'\u201c\u201d]|\\[()\[\]]")
_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\w)")
_NAMED = r"(?:(?:option|choice|letter)\s+)?"
_LONE_LETTER = re.compile(_NAMED + r"[(\[]?([A-Za-z])[)\]]?[.:]?", re.IGNORECASE)
_TWO_LETTERS = re.compile(
    _NAMED + r"\(?([A-Z])\)?\s*(?:,|/|&|\b(?:or|and)\b)\s*(?:or\s+|and\s+)?\(?([A-Z])\)?(?!\w)",
    re.IGNORECASE,
)
_LEADING_LETTER = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice|[Ll]etter)\s+)?"
    r"(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])(?=[).:,;](?!\w)|\s+[-\u2013\u2014(]|\s+(?:because|since|as)\b))"
)
_BRACKETED = re.compile(r"[*_\s]*\([A-Z]\)")
_WORDS = re.compile(r"(?:[\w%-]|\.(?=\w))+")
_LETTER_LINE = re.compile(r"^[ \t*_>#(\[`$]{0,8}([A-Z])[ \t*_.)\]`$]{0,8}$", re.MULTILINE)
_LISTED_LETTER = re.compile(r"(?<!\w)\(?([A-Z])[).](?!\w)")


def letters(options: Sequence[str]) -> str:
    """Return the letters of the options in order, for example "ABCD"."""
    return ascii_uppercase[: len(options)]


def extract(text: str, options: Sequence[str], *, finished: bool) -> str | None:
    """Return the letter of the chosen option: boxed, stated, alone on a line, or named by its text."""
    tail = conclusion(text)
    if tail is None:
        return None
    box = last_box(tail)
    if box and (finished or box.is_last) and (named := _named(box.content, options)):
        return _only(named)
    stated = _stated(tail, options, finished=finished)
    if stated or not finished:
        return _only(stated)
    return _only(_unstated(tail, options))


def normalise(answer: str, options: Sequence[str]) -> str:
    """Return the upper-case letter; for an answer that names no option, its text with spaces collapsed."""
    return _only(_named(answer, options)) or " ".join(answer.split())


def _only(named: set[str]) -> str | None:
    return next(iter(named)) if len(named) == 1 else None


def _stated(text: str, options: Sequence[str], *, finished: bool) -> set[str]:
    """Return the options in the last statement that names any."""
    for statement in statements(text):
        is_complete = finished or statement.is_closed or _BRACKETED.match(statement.line)
        readings = (statement.formula or "", statement.line, statement.sentence)
        for reading in readings if is_complete else readings[:1]:
            if named := _named(reading, options):
                return named
        if not finished:
            break
    return set()


def _named(text: str, options: Sequence[str]) -> set[str]:
    """Return the letters of the options that a short text names, by letter or by full text."""
    plain = _plain(text)
    names = letters(options)
    key = _key(text)
    by_text = {name for name, option in zip(names, options, strict=True) if _key(option) == key}
    if by_text:
        return by_text
    if two := _TWO_LETTERS.match(plain):
        pair = {two[1].upper(), two[2].upper()}
        if pair <= set(names):
            return pair
    if match := _LONE_LETTER.fullmatch(plain):
        return {match[1].upper()} & set(names)
    if match := _LEADING_LETTER.match(plain):
        return {next(filter(None, match.groups()))} & set(names)
    return set()


def _unstated(text: str, options: Sequence[str]) -> set[str]:
    """Return the options named outside a statement: alone on a line, else by the reply as a whole."""
    names = set(letters(options))
    if alone := {match[1] for match in _LETTER_LINE.finditer(text)} & names:
        return alone
    listed = {match[1] for match in _LISTED_LETTER.finditer(text)} & names
    if len(listed) > 1:
        return listed
    return _named(text, options) or _mentioned(text, options)


def _mentioned(text: str, options: Sequence[str]) -> set[str]:
    """Return the options whose text occurs in the last line, as whole words."""
    line = _words(text.rstrip().rpartition("\n")[2])
    return {
        name
        for name, option in zip(letters(options), options, strict=True)
        if _words(option).strip() and _words(option) in line
    }


def _words(text: str) -> str:
    """Return the words separated by single spaces, with a space at both ends."""
    return f" {' '.join(_WORDS.findall(_key(text)))} "


def _plain(text: str) -> str:
    return _MARKUP.sub("", _WRAPPER.sub(r"\1", text)).strip(" \t\r\n,;!")


def _key(text: str) -> str:
    """Return a key that spellings of one option share; empty only for empty text."""
    folded = " ".join(_plain(text).casefold().split())
    return _ARTICLE.sub("", folded).rstrip(".:;, ") or text.strip()

"""Extraction of the chosen option from a reply. An ambiguous reply has no answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from secondpass.strategies.answers import letters as reading
from secondpass.strategies.answers.fields import answer_field
from secondpass.strategies.answers.markers import last_box
from secondpass.strategies.answers.statements import (
    MAX_SEARCHED,
    Statement,
    ending,
    every,
    folded,
    is_supposed,
    statements,
)

_WRAPPER = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s?\{([^{}]*)\}")
_MARKUP = re.compile(
    r"[*_`$\"\u201c\u201d\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]|\\[()\[\],;! ]|\\(?:large|Large|bf|rm)\b"
)
_QUOTE = re.compile(r"(?<!\w)['\u2018\u2019]|['\u2019](?!\w)")
_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\w)")
_NAMED = rf"(?:(?:{every('option')})\s{{0,2}})?"
_LONE_LETTER = re.compile(
    _NAMED + rf"[(\[]?([A-Z])[)\]]?(?:\s?(?:{reading.ENDING}))?[.:\u3002\u0964]?", re.IGNORECASE
)
_TWO_LETTERS = re.compile(
    _NAMED + r"\(?([A-Z])\)?\s*(?:,|/|&|\b(?:or|and)\b)\s*(?:or\s+|and\s+)?\(?([A-Z])\)?(?!\w)",
    re.IGNORECASE,
)
_LEADING_LETTER = re.compile(
    _NAMED
    + r"(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])(?=[).:,;](?!\w)|\s+[-\u2013\u2014(]|\s+(?:because|since|as)\b))"
)
_LEADING_LOWER = re.compile(r"\(?([a-z])[.)]\s{1,3}[^\n]{1,80}")
_BRACKETED = re.compile(r"[*_\s]*\([A-Z]\)")
_WORDS = re.compile(r"(?:[\w%-]|\.(?=\w))+")
_LETTER_LINE = re.compile(r"^[ \t*_>#(\[`$]{0,8}([A-Z])[ \t*_.)\]`$]{0,8}$", re.MULTILINE)
_LISTED_LETTER = re.compile(
    r"(?<!\w)\(?([A-Z])(?:[).](?!\w)|\s\()|^[ \t*_>-]{0,6}([A-Z])[*_]{0,2}(?::|\s[-\u2013\u2014])",
    re.MULTILINE,
)
_LAST_LETTER = re.compile(rf"(?<=[.!?]\s){_NAMED}\(?([A-Z])\)?\.?\Z")
_RIGHT_LINE = re.compile(r"^[ \t*_>#-]{0,6}\(?([A-Z])[*_]{0,2}[).:]([^\n]{0,300})", re.MULTILINE)
_RIGHT = re.compile(
    r"(?:^|[\s(:.-])(?:(?i:correct)|[\u2713\u2714\u2705\u2611]|\u6b63\u786e)[\ufe0f)*_ .!]{0,6}$"
)


def letters(options: Sequence[str]) -> str:
    """Return the letters of the options in order, for example "ABCD"."""
    return ascii_uppercase[: len(options)]


def extract(text: str, options: Sequence[str], *, finished: bool) -> str | None:
    """Return the letter of the option that a field, a box, a statement, a line or the text names."""
    text = folded(text)
    if field := answer_field(text, finished=finished):
        content = field.content or ""
        return _only(_named(content, options)) or _from_text(content, options, finished=True)
    return _from_text(text, options, finished=finished)


def _from_text(text: str, options: Sequence[str], *, finished: bool) -> str | None:
    box = last_box(text)
    if box and (finished or box.is_last):
        if box.content is None:
            return None
        if named := _named(box.content, options):
            return _only(named)
    text = ending(text)
    named_or_none = _stated(text, options, finished=finished)
    if named_or_none is not None or not finished:
        return _only(named_or_none or set())
    return _only(_unstated(text, options))


def normalise(answer: str, options: Sequence[str]) -> str:
    """Return the upper-case letter; for an answer that names no option, its text with spaces collapsed."""
    return _only(_named(answer, options)) or " ".join(answer.split())


def _only(named: set[str]) -> str | None:
    return next(iter(named)) if len(named) == 1 else None


def _stated(text: str, options: Sequence[str], *, finished: bool) -> set[str] | None:
    """Return the options in the last statement or conclusion that names any; empty if it is ambiguous."""
    found: list[tuple[int, Statement | set[str]]] = [
        (statement.start, statement) for statement in statements(text, reading.STATEMENT)
    ]
    if finished:
        found += reading.concluded(text)
    for _, each in sorted(found, key=lambda pair: pair[0], reverse=True):
        if isinstance(each, set):
            named: set[str] | None = each
        elif each.is_question:
            named = None
        elif is_supposed(text, each.start) or reading.is_of_wrong_answer(
            text, each.start, each.end
        ):
            named = set()
        else:
            named = _read(each, options, finished=finished)
        if named is not None:
            return named & set(letters(options))
        if not finished:
            break
    return None


def _read(statement: Statement, options: Sequence[str], *, finished: bool) -> set[str] | None:
    """Return the options that a statement names; None if it names none.

    The set is empty if the statement is ambiguous or negated.
    """
    is_complete = finished or statement.is_closed or _BRACKETED.match(statement.line)
    readings = (statement.formula or "", statement.line, statement.sentence)
    if not statement.is_negated:
        for text in readings if is_complete else readings[:1]:
            if by_text := _named_exactly(text, options):
                return by_text
    if not is_complete:
        return None
    return reading.stated(
        _plain(statement.line), statement.language, is_negated=statement.is_negated
    )


def _named_exactly(text: str, options: Sequence[str]) -> set[str]:
    """Return the option that a text is the letter or the full text of."""
    key = _key(text)
    names = letters(options)
    by_text = {name for name, option in zip(names, options, strict=True) if _key(option) == key}
    if by_text:
        return by_text
    match = _LONE_LETTER.fullmatch(_plain(text))
    return {match[1].upper()} & set(names) if match else set()


def _named(text: str, options: Sequence[str]) -> set[str]:
    """Return the letters of the options that a short text names, by letter or by full text.

    A text with more than 10,000 characters names none.
    """
    if len(text) > MAX_SEARCHED:
        return set()
    if exact := _named_exactly(text, options):
        return exact
    plain, names = _plain(text), set(letters(options))
    if two := _TWO_LETTERS.match(plain):
        pair = {two[1].upper(), two[2].upper()}
        if pair <= names:
            return pair
    match = _LEADING_LETTER.match(plain) or _LEADING_LOWER.fullmatch(plain)
    rest = plain[match.end(match.lastindex or 0) :] if match else ""
    if match and not reading.is_rejected(rest):
        named = {next(filter(None, match.groups())).upper()} & names
        other = _LONE_LETTER.fullmatch(rest.strip(" ).:-"))
        return named | ({other[1].upper()} & names if other else set())
    return set()


def _unstated(text: str, options: Sequence[str]) -> set[str]:
    """Return the options named outside a statement: alone on a line, else by the reply as a whole."""
    names = set(letters(options))
    if alone := {match[1] for match in _LETTER_LINE.finditer(text)} & names:
        return alone
    if last := _LAST_LETTER.search(text[-40:].rstrip()):
        return {last[1]} & names
    listed = {match[1] or match[2] for match in _LISTED_LETTER.finditer(text)} & names
    if len(listed) > 1:
        return {letter for letter, line in _RIGHT_LINE.findall(text) if _is_right(line)} & listed
    return _named(text, options) or _mentioned(text, options)


def _is_right(line: str) -> bool:
    """Return True if a line about an option ends with "correct" or a check mark."""
    return _RIGHT.search(line.rstrip()) is not None and not reading.is_negated(line)


def _mentioned(text: str, options: Sequence[str]) -> set[str]:
    """Return the options whose text occurs in the last line, as whole words."""
    last = text.rstrip().rpartition("\n")[2]
    if reading.is_negated(last):
        return set()
    line = _words(last)
    return {
        name
        for name, option in zip(letters(options), options, strict=True)
        if _words(option).strip() and _words(option) in line
    }


def _words(text: str) -> str:
    """Return the words separated by single spaces, with a space at both ends."""
    return f" {' '.join(_WORDS.findall(_key(text)))} "


def _plain(text: str) -> str:
    return _QUOTE.sub("", _MARKUP.sub("", _WRAPPER.sub(r"\1", text))).strip(" \t\r\n,;!")


def _key(text: str) -> str:
    """Return a key that spellings of one option share; empty only for empty text."""
    folded = " ".join(_plain(text).casefold().split())
    return _ARTICLE.sub("", folded).rstrip(".:;, ") or text.strip()

"""Sentences and statements of the answer, such as "the answer is" in fourteen languages.

Patterns are built from the table in `languages`. Every repetition is bounded, so that the scan takes linear time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from secondpass.strategies.answers.languages import (
    ABBREVIATIONS,
    LANGUAGES,
    MONTHS,
    NUMBERED_ABBREVIATIONS,
    Language,
)

WINDOW = 500
"""Characters that are read after the introduction of a statement."""

MAX_SEARCHED = 10_000
"""Most characters of the end of a text that are searched for statements."""

_STATEMENTS_READ = 20
_MARKUP = r"[*_\"'\u2019\u201d\u00bb\u300d\u300f\u3011)\]]{0,3}"
_SENTENCE_END = re.compile(r"\n|(?<!\.)[.!?\u0964\u061f](?=\s|$)|[\u3002\uff01\uff1f]")
_LAST_WORD = re.compile(r"[^\W\d_]{1,10}(?:\.[^\W\d_]{1,3}){0,3}\Z")
_NEXT_NUMBER = re.compile(r"\.[ \t]{0,3}(?:[-$(\\]{0,2}\d|[a-z])")
_MATH = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$ | \$(?P<b>[^$\n]+)\$ | \\\((?P<c>.{1,500}?)\\\) | \\\[(?P<d>.{1,500}?)\\\]",
    re.DOTALL | re.VERBOSE,
)
_FORMULA = re.compile(
    r"\$\$[^$]{1,2000}\$\$ | \$(?!\s)[^$\n]{1,500}(?<!\s)\$(?!\d)"
    r"| \\\((?:[^\\]|\\(?![()])){1,1000}+\\\) | \\\[(?:[^\\]|\\(?![\[\]])){1,2000}+\\\]",
    re.VERBOSE,
)
_FACTORIAL = re.compile(r"\d! ?(?:[a-z]|[-+*/^=<>\u00d7\u00f7\u00b7])")
_MONTH_NEXT = re.compile(rf"[ \t]{{1,2}}(?:{'|'.join(MONTHS)})\b")
_ARTICLES_OF_ONE_LETTER = ("a", "o", "e", "y", "u", "an?")


@dataclass(frozen=True, slots=True)
class Statement:
    """The text after "the answer is".

    Attributes:
        start: Offset of the statement in its text.
        end: Offset of the text after it.
        sentence: First sentence.
        line: Rest of the line.
        formula: Content of a formula at the start of the text, without its delimiters; None without one.
        is_closed: True if the sentence has ended. A full stop at the end of the text may be a decimal point.
        is_negated: True if the introduction negates the answer, as in "the answer cannot be".
        is_question: True if the sentence ends with a question mark.
        language: Code of the language of the introduction.
    """

    start: int
    end: int
    sentence: str
    line: str
    formula: str | None
    is_closed: bool
    is_negated: bool
    is_question: bool
    language: str


def any_of(words: Iterable[str], *, is_spaced: bool = True) -> str:
    """Return a pattern of the words, longest first; whole words if `is_spaced`.

    A lookahead for their first characters makes the search fast where no word begins.
    """
    chosen = sorted(words, key=len, reverse=True)
    joined = "|".join(_cased(word).replace(" ", r"\s{1,2}") for word in chosen) or r"(?!)"
    first = first_characters(chosen)
    return rf"{first}(?<![^\W_])(?:{joined})(?![^\W_])" if is_spaced else rf"{first}(?:{joined})"


def first_characters(words: Iterable[str]) -> str:
    """Return a lookahead for the first character of any word; empty if it is not clear for each."""
    found = [_first_of(word) for word in words]
    characters = "".join(sorted({each for each in found if each}))
    return f"(?=(?i:[{characters}]))" if characters and all(found) else ""


def _first_of(word: str) -> str | None:
    """Return the characters that a word or simple pattern may begin with, as in a class; None if unclear."""
    if match := _OPTIONAL_START.match(word):
        inside = [match["class"]] if match["class"] else map(_first_of, match["group"].split("|"))
        found = [*inside, _first_of(word[match.end() :]) if match["optional"] else ""]
        return None if None in found else "".join(map(str, found)).replace("-", "\\-")
    is_plain = word and word[0] not in "\\.^$*+?{}()|[]-" and word[1:2] not in tuple("?*{")
    return word[0] if is_plain else None


_OPTIONAL_START = re.compile(
    r"(?:\[(?P<class>[^\]^\\]+)\]|\(\?:(?P<group>[^()]+)\))(?P<optional>\?)?(?![*{])"
)


def every(field: str) -> str:
    """Return a pattern of the words in one field of all languages."""
    return "|".join(
        any_of(words, is_spaced=language.is_spaced)
        for language in LANGUAGES.values()
        if (words := getattr(language, field))
    )


def list_words() -> str:
    """Return a pattern of "and" and "or" in all languages."""
    return any_of(
        {word for each in LANGUAGES.values() for word in each.join[:2]} | {"\u3001"},
        is_spaced=False,
    )


def _cased(word: str) -> str:
    """Return a pattern that ignores case, except of articles that could be letters of options."""
    return word if word in _ARTICLES_OF_ONE_LETTER else f"(?i:{word})"


def introduction(language: Language, noun: str) -> str:
    """Return a pattern of `noun` and the words up to an answer."""
    copula = any_of(language.copula, is_spaced=language.is_spaced)
    negation = any_of(language.negation, is_spaced=language.is_spaced)
    option, correct = (
        any_of(words, is_spaced=language.is_spaced) for words in (language.option, language.correct)
    )
    direct = rf"[ \t,]{{0,3}}(?:{option}[ \t]{{0,2}})?(?=[(\[*_$`\"\u201c\u300c]{{0,3}}[-A-Z\d\\]|{negation}) | "
    direct = "" if language.has_copula else direct
    return rf"""{noun} (?:\s{{0,2}}{correct})? {_MARKUP}
        (?: {direct} \s{{0,3}} [:=]{{1,2}}>? | \s{{0,3}} (?:-{{1,2}}>?|[\u2013\u2014\u2192\u21d2])\s{{0,3}}(?=[(*_\[$`\"\u201c\u300c\\A-Z\d])
          | [ ](?=\([A-Z]\)[.*_]{{0,3}}$)
          | [^.:=\n\u3002!?]{{0,60}}? {copula} [*_]{{0,3}} \s{{0,3}} [:=]? )"""


def _answer_pattern() -> re.Pattern[str]:
    groups = "|".join(
        f"(?P<{code}>{introduction(language, any_of(language.answer, is_spaced=language.is_spaced))})"
        for code, language in LANGUAGES.items()
    )
    heading = r"(?P<heading>^[ \t]{0,3} [#*_]{1,6} [ \t]{0,3} (?i:(?:final[ ])?answer) \b [*_ \t]{0,6} \n)"
    return re.compile(rf"(?:{groups}|{heading})[\s*_]{{0,8}}", re.MULTILINE | re.VERBOSE)


_ANSWER = _answer_pattern()
_NEGATIONS = {
    code: re.compile(any_of(language.negation, is_spaced=language.is_spaced))
    for code, language in LANGUAGES.items()
}


_DOUBT = rf"(?:{every('negation')}|{every('supposing')})"
_ENDED = r".;:\n\u3001\u3002\u0964"
_DOUBTED = re.compile(
    rf"{_DOUBT}(?:(?!\b(?:then|dann|alors|entonces|então|allora|то)\b|なら|라면|이면)[^{_ENDED},\uff0c]"
    rf"|,\s(?:dass|daß|ob|что|ли)\b){{0,30}}\Z"
    rf"|(?:{any_of({'worst', 'least [a-z]{1,15}'} | {word for each in LANGUAGES.values() for word in each.wrong if len(word) > 4})})[ ]{{1,2}}\Z"
)


def statements(text: str, pattern: re.Pattern[str] = _ANSWER) -> Iterator[Statement]:
    """Yield the statements of the answer, last first, at most 20.

    `pattern` finds introductions; its groups are named after languages.
    """
    matches = list(pattern.finditer(text))
    for match in islice(reversed(matches), _STATEMENTS_READ):
        yield _statement(text, match)


def is_supposed(text: str, start: int) -> bool:
    """Return True if the words before an offset deny or suppose what follows, as in "I don't think that"."""
    return _DOUBTED.search(text, max(0, start - 60), start) is not None


def _statement(text: str, match: re.Match[str]) -> Statement:
    group = match.lastgroup or ""
    code = group if group in LANGUAGES else "en"
    rest = text[match.end() : match.end() + WINDOW]
    if (head := rest.partition("\n")[0].strip()).endswith(":") and len(head) < 40:
        rest = rest.partition("\n")[2].lstrip()
    line, newline, _ = rest.partition("\n")
    end = sentence_end(rest)
    formula = _MATH.match(rest)
    return Statement(
        start=match.start(),
        end=match.end(),
        sentence=rest if end is None else rest[:end],
        line=line,
        formula=next(filter(None, formula.groups()), "").strip() if formula else None,
        is_closed=end is not None and bool(newline or end + 1 < len(rest)),
        is_negated=bool(_NEGATIONS[code].search(match[0])),
        is_question=end is not None and rest[end] in "?\u061f",
        language=code,
    )


def sentence_end(text: str) -> int | None:
    """Return the offset of the first line break or mark that ends a sentence; abbreviations end none."""
    return next(_ends(text), None)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; nothing within a formula ends one."""
    formulas = [(match.start(), match.end()) for match in _FORMULA.finditer(text)]
    found: list[str] = []
    start = 0
    for end in _ends(text):
        while formulas and formulas[0][1] <= end:
            formulas.pop(0)
        if not formulas or end < formulas[0][0]:
            found.append(text[start : end + 1].strip())
            start = end + 1
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def _ends(text: str) -> Iterator[int]:
    for match in _SENTENCE_END.finditer(text):
        at = match.start()
        if match[0] == "." and _is_abbreviated(text, at):
            continue
        if match[0] == "!" and _FACTORIAL.match(text, at - 1):
            continue
        yield at


def _is_abbreviated(text: str, at: int) -> bool:
    word = _LAST_WORD.search(text, max(0, at - 24), at)
    if text[at - 1 : at].isdigit():
        return _MONTH_NEXT.match(text, at + 1) is not None
    if word is None or not text[at + 1 :].strip():
        return False
    name = word[0].casefold()
    if "." in name or name in ABBREVIATIONS:
        return True
    return name in NUMBERED_ABBREVIATIONS and bool(_NEXT_NUMBER.match(text, at))


_TAGGED = re.compile(r"<(b|strong|em|i|u)>([^<>\n]{1,200})</\1>")
_FOLDED: dict[int, str] = {
    code: plain
    for code in range(0x80, 0x10000)
    if (
        plain := str(unicodedata.decimal(chr(code), ""))
        or (
            unicodedata.normalize("NFKC", chr(code))
            if 0xFF01 <= code <= 0xFF5E or 0x249C <= code <= 0x24E9
            else ""
        )
    )
} | {0x3000: " ", 0x2212: "-", 0xFE63: "-"}
for _start in (0x1F130, 0x1F150, 0x1F170):
    _FOLDED |= {_start + offset: chr(0x41 + offset) for offset in range(26)}


def ending(text: str) -> str:
    """Return the searched part of a text: its last 10,000 characters, from the start of a line."""
    if len(text) <= MAX_SEARCHED:
        return text
    last = text[-MAX_SEARCHED:]
    return last.partition("\n")[2] or last


def folded(text: str) -> str:
    """Return the text with ASCII digits, and with plain forms of full-width, enclosed and bold characters."""
    text = _TAGGED.sub(r"\2", text) if "</" in text else text
    return text if text.isascii() else text.translate(_FOLDED)

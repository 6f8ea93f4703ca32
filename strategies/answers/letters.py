"""Letters of options in sentences: stated, chosen, rejected and negated, in fourteen languages.

Patterns are built from the table in `languages`. A reading is the set of letters that a passage names as the answer. Two letters
are ambiguous, and a negated letter is never in it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from secondpass.strategies.answers.languages import INCORRECT, LANGUAGES, Language
from secondpass.strategies.answers.statements import (
    any_of,
    every,
    first_characters,
    introduction,
    is_supposed,
)

_OPEN = '[(\\[{<"\u2018\u201c\u201e\u00ab\u300c\u300e\u3010*_$`\u2705\u2714\ufe0f\u27a1 ]{0,4}'
_CLOSE = '[)\\]}>"\u2019\u201d\u201c\u00bb\u300d\u300f\u3011*_$`]{0,4}'
_BARE = (
    r"(?<![A-Za-z0-9_\u00c0-\u024f'\u2019])(?:[A-Z])(?![A-Za-z0-9_\u00c0-\u024f])"
    r"(?!['\u2019](?:s|m|d|ll|re|ve|il|un|une|a)\b)"
)
LETTER = rf"{_OPEN}({_BARE}){_CLOSE}"
"""Pattern of one upper-case letter with its brackets or quotes. Group 1 is the letter."""

_LETTER = re.compile(LETTER)
_CONTRAST = rf"[\s,;(]{{1,3}}(?:and |but )?(?:{every('negation')})\s{{0,2}}(?:(?:{every('option')})\s{{1,2}})?\(?{_BARE}"
_CONTRASTED = re.compile(_CONTRAST)
_REJECTING = "|".join((every("negation"), every("wrong")))
_STOP = rf"[ \t]{{0,2}}(?:$|[.,;:!?\n)\]\u3002\uff0c\uff1b\u3001\u0964]|[-\u2013\u2014=(\u2192](?!\w)|\u2014|[ ]\((?!{_REJECTING})|{_CONTRAST})"
_END = re.compile(r"[ \t]{0,2}[)\]*_\"'\u201d]{0,3}(?:$|[.!\n\u3002\u0964](?!\w))", re.MULTILINE)
_CLAUSE_END = re.compile(
    rf"[.,;:!?\n\u3001\u3002\uff0c\uff1b\u0964(]|\s(?:{every('because')})|\s[-\u2013\u2014]\s"
)


@dataclass(frozen=True, slots=True)
class _Words:
    """Compiled patterns of one language."""

    lead: re.Pattern[str]
    negation: re.Pattern[str]
    but: re.Pattern[str]
    wrong: re.Pattern[str]
    after: re.Pattern[str]
    more: re.Pattern[str]
    join: re.Pattern[str]
    negates_before: bool


def _compiled(language: Language) -> _Words:
    spaced = language.is_spaced
    lead = "|".join(
        any_of(words, is_spaced=spaced)
        for words in (language.lead, language.correct, language.option, language.copula)
        if words
    )
    join = any_of(language.join, is_spaced=spaced)
    option = any_of(language.option, is_spaced=spaced)
    because = any_of(language.because, is_spaced=spaced)
    ending = any_of(language.ending, is_spaced=False)
    return _Words(
        lead=re.compile(rf"\s{{0,2}}(?:{lead}|[:=]|to\b)[\s:,]{{0,2}}(?!\Z)"),
        negation=re.compile(rf"\s{{0,2}}{any_of(language.negation, is_spaced=spaced)}"),
        but=re.compile(any_of(language.but, is_spaced=spaced) + r"[\s,:]{0,3}"),
        wrong=re.compile(any_of(language.wrong, is_spaced=spaced)),
        after=re.compile(rf"{_STOP}|\s{{0,2}}(?:{because}|{ending})"),
        more=re.compile(
            rf"\s{{0,2}}(?:[,;/&|+\u3001]\s{{0,2}}|[-\u2013]\s{{0,2}}(?={_BARE}\s?(?:$|[.\n])))?(?:{join})?\s{{0,2}}(?:{option}\s{{0,2}})?{LETTER}"
        ),
        join=re.compile(rf"\s{{1,2}}(?:{join})\s|[/&]|{join}(?=[ ]?{LETTER})"),
        negates_before=language.negates_before,
    )


_WORDS = {code: _compiled(language) for code, language in LANGUAGES.items()}


def _statement_pattern() -> re.Pattern[str]:
    """Return the pattern of introductions of a choice: the answer is, the correct option is, I choose."""
    groups = []
    for code, language in LANGUAGES.items():
        spaced = language.is_spaced
        answer, option, correct, pick, copula = (
            any_of(words, is_spaced=spaced)
            for words in (
                language.answer,
                language.option,
                language.correct,
                language.pick,
                language.copula,
            )
        )
        chosen = rf"(?:{correct}\s{{0,2}}{option}|{option}\s{{0,2}}{correct})"
        named = rf"(?i:\bthe)\s{option}" if code == "en" else correct
        predicate = rf"| {named}\s{{0,2}}{copula}"
        person = (
            r"(?:\b(?:I|[Ww]e|[Ll]et['\u2019]s)\b[^.,;\n]{0,25}?|^|(?<=[.!:]\s))"
            if code == "en"
            else ""
        )
        groups.append(
            rf"""(?P<{code}>{introduction(language, answer)}
            | {introduction(language, chosen)} {predicate}
            | ^[ \t*_\#>]{{0,6}} (?:{option}|{correct}) [*_]{{0,3}} \s{{0,2}} [:=]
            | {person}(?<![\u4e0d]){pick} )"""
        )
    heading = r"(?P<heading>^[ \t]{0,3} [#*_]{1,6} [ \t]{0,3} (?i:(?:final[ ])?answer) \b [*_ \t]{0,6} \n)"
    words = {
        word
        for each in LANGUAGES.values()
        for words in (each.answer, each.option, each.correct, each.pick)
        for word in words
    }
    begin = rf"(?:{first_characters({*words, *'IWLT'})}|^|(?<=[.!:]\s))"
    return re.compile(
        rf"{begin}(?:{'|'.join(groups)}|{heading})[\s*_]{{0,8}}", re.MULTILINE | re.VERBOSE
    )


STATEMENT = _statement_pattern()
"""Pattern for `statements.statements`; its groups are codes of languages."""

ENDING = any_of((word for each in LANGUAGES.values() for word in each.ending), is_spaced=False)
_INTRO = re.compile(
    rf"(?:^|[.!?;,\n\u3002\uff0c]\s{{0,2}}|\s)[*_]{{0,3}}(?:{every('intro')}|=>|->|[\u2192\u21d2\u2234])[\s,:\u3001]{{0,3}}"
    rf"(?:(?:{every('lead')}|{every('option')}|{every('correct')}|answer\sis)\s{{0,2}}){{0,3}}{LETTER}(?:\s{{0,2}}(?:{ENDING}))?(?={_END.pattern})",
    re.MULTILINE,
)


def _verdict(language: Language) -> tuple[str, str]:
    """Return the pattern of "is correct" and "is the answer" after a letter, and that of "is C correct"."""
    copula, lead, correct, answer, option = (
        any_of(words, is_spaced=language.is_spaced)
        for words in (
            language.copula,
            language.lead,
            language.correct,
            language.answer,
            language.option,
        )
    )
    others = (*language.lead, *language.correct, *language.answer)
    ending = any_of(language.ending, is_spaced=False)
    optional = "" if language.has_copula and language.is_spaced else "?"
    inverted = (
        rf"{copula}\s(?:{option}\s)?{LETTER}\s(?:{lead}\s)?(?:{correct})"
        if language.inverts
        else ""
    )
    begin = first_characters(
        (
            *language.copula,
            *language.ending,
            *(() if language.has_copula and language.is_spaced else others),
        )
    )
    after = rf"(?=\s{{0,2}}{begin})(?:\s{{0,1}}{ending})?\s{{0,2}}+(?:{copula}){optional}\s{{0,2}}+(?:(?:{lead})\s{{0,2}}+){{0,2}}(?:{correct}|{answer})"
    return after, inverted


def _verdict_pattern() -> re.Pattern[str]:
    after, inverted = zip(*map(_verdict, LANGUAGES.values()), strict=True)
    return re.compile("|".join((f"{LETTER}(?:{'|'.join(after)})", *filter(None, inverted))))


_VERDICT = _verdict_pattern()
_DOUBT = re.compile(rf"(?:{every('negation')})[^.;\n\u3002\u0964]{{0,40}}\Z")
_DENIED = re.compile(
    rf"[^.,;\n\u3002]{{0,15}}?(?:{every('negation')}|않|ない|ません|아닙|아니)|\s?\?"
)


def stated(rest: str, language: str, *, is_negated: bool) -> set[str] | None:
    """Return the letters that the text after an introduction names.

    An empty set is ambiguous or negated. None is a text that names no letter.
    """
    words = _WORDS[language]
    position = _skip_lead(rest, 0, words)
    negation = words.negation.match(rest, position) if not words.negates_before else None
    if is_negated or negation:
        sentence_end = _SENTENCE.search(rest, position)
        end = sentence_end.start() if sentence_end else len(rest)
        but = words.but.search(rest, negation.end() if negation else position, end)
        if but is None:
            return set() if _LETTER.search(rest, position, end) or is_negated else None
        return _letters_at(rest, _skip_lead(rest, but.end(), words), words)
    return _letters_at(rest, position, words)


MAX_CONCLUSIONS = 50
"""Conclusions of one kind that are read, the last ones of a text."""

_SENTENCE = re.compile(r"[.!?\n;\u3002]")


def _skip_lead(text: str, position: int, words: _Words) -> int:
    for _ in range(6):
        lead = words.lead.match(text, position)
        if lead is None or lead.end() == position:
            break
        position = lead.end()
    while text[position : position + 1] in (" ", "\t", "\u3001"):
        position += 1
    return position


def _letters_at(text: str, position: int, words: _Words) -> set[str] | None:
    match = _LETTER.match(text, position)
    if match is None:
        return None
    if words.negates_before and (negation := words.negation.match(text, match.end())):
        following = _LETTER.search(text, negation.end(), negation.end() + 12)
        but = words.but.match(text, match.end()) or words.but.search(
            text, match.end(), negation.end() + 8
        )
        if following is None or (but is None and not text[negation.end() :].startswith((" ", ","))):
            return set()
        return _letters_at(text, following.start(), words)
    named = {match[1]}
    end = match.end()
    for _ in range(26):
        more = words.more.match(text, end)
        if more is None or more.end() == end or not text[end : more.start(1)].strip(' ([{<"*_$'):
            break
        if re.search("[,;]", text[end : more.start(1)]) and _is_rejected(text, more.end(), words):
            break
        named.add(more[1])
        end = more.end()
    is_joined = words.join.match(text, match.end()) and not words.after.match(text, match.end())
    if len(named) > 1 or is_joined:
        return set()
    if _is_rejected(text, match.end(), words):
        return set()
    is_bracketed = text[match.end() - 1] in ")]}>"
    return named if is_bracketed or words.after.match(text, match.end()) else None


def _is_rejected(text: str, position: int, words: _Words) -> bool:
    """Return True if the rest of the clause rejects a letter, as in "A is wrong"."""
    if _CONTRASTED.match(text, position):
        return False
    window = text[position : position + 40]
    clause = _CLAUSE_END.search(window)
    part = window[: clause.start()] if clause else window
    return words.wrong.search(part) is not None


def is_of_wrong_answer(text: str, start: int, end: int) -> bool:
    """Return True if an introduction names a wrong answer, as in "the wrong answer is"."""
    return bool(
        _INCORRECT_BEFORE.search(text, max(0, start - 20), start)
        or _INCORRECT.search(text, start, end)
    )


_INCORRECT = re.compile(any_of(word for word in INCORRECT if len(word) > 2))
_INCORRECT_BEFORE = re.compile(rf"(?:{any_of(INCORRECT)}[ ]{{0,2}})\Z")


def concluded(text: str) -> Iterator[tuple[int, set[str]]]:
    """Yield offsets and letters of conclusions such as "so C" and "(B) is correct", in order.

    Only the last `MAX_CONCLUSIONS` of each kind are read.
    """
    for match in deque(_INTRO.finditer(text), MAX_CONCLUSIONS):
        if not is_supposed(text, match.start() + 1):
            yield match.start(), _found(match)
    last = deque(_VERDICT.finditer(text), MAX_CONCLUSIONS)
    verdicts = [match for match in last if _is_certain(text, match)]
    named = {letter for match in verdicts for letter in _found(match)}
    for match in verdicts:
        before = text[max(0, match.start() - 60) : match.start()]
        yield match.start(), set() if len(named) > 1 or _JOINED_BEFORE.search(before) else named


_JOINED_BEFORE = re.compile(
    rf"{LETTER}\s{{0,2}}(?:[,/&]|{every('join')})?\s{{0,2}}(?:{every('join')})?\s{{0,2}}\Z"
)


def _is_certain(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - 60) : match.start()]
    return not (
        _DENIED.match(text, match.end())
        or _DOUBT.search(before)
        or is_supposed(text, match.start())
    )


def _found(match: re.Match[str]) -> set[str]:
    return {next(filter(None, match.groups()))}


def is_rejected(text: str) -> bool:
    """Return True if a short passage rejects or negates what it names, in any language."""
    if _CONTRASTED.match(text):
        return False
    clause = _CLAUSE_END.search(text, min(len(text), 3))
    part = text[: clause.start()] if clause else text
    return _REJECTION.search(part[:80]) is not None


def is_negated(text: str) -> bool:
    """Return True if a passage contains a negation in any language."""
    return _REJECTION.search(text) is not None


_REJECTION = re.compile(_REJECTING)

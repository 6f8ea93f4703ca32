"""Finds where a completion states its final answer: the part after the thinking, boxes, "the answer is".

Completions are hostile input. Everything here takes time linear in the text: one scan with a stack for braces,
and patterns whose every repetition is bounded or cannot be entered twice from the same place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_STATEMENT_WINDOW = 500
_STATEMENTS_READ = 20

_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]|[^\\{}\s]+", re.DOTALL)
_BOX_OPENING = re.compile(r"\s*\\(?:boxed|fbox)\s*\{")
_STATEMENT = re.compile(
    r"""(?: \banswer\b [*_]{0,3}
            (?: \s{0,3} [:=] | [^.:=\n]{0,60}? \s (?:is|equals|be) \b [*_]{0,3} \s{0,3} [:=]? )
          | ^[ \t]{0,3} [#*_]{1,6} [ \t]{0,3} (?:final[ ])? answer \b [*_ \t]{0,6} \n )
        [\s*_]{0,8}""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)")
_MATH = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$ | \$(?P<b>[^$\n]+)\$ | \\\((?P<c>.+?)\\\) | \\\[(?P<d>.+?)\\\]",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What follows "the answer is": its first sentence, and the whole line that sentence stands in.

    `formula` is the content of the formula that it begins with, if it does. `is_closed` says that the sentence
    was seen to end: a full stop that ends the text may yet become a decimal point.
    """

    sentence: str
    line: str
    formula: str | None
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Box:
    r"""The content of the last closed \boxed{}; `is_last` is False when another was opened after it."""

    content: str
    is_last: bool


def conclusion(text: str) -> str | None:
    """The text after the thinking; None when the text ends before the thinking does."""
    tail = text.rpartition("</think>")[2]
    return None if "<think>" in tail else tail


def last_box(text: str) -> Box | None:
    r"""The last closed, non-empty \boxed{} or \fbox{}; of nested ones the outermost that says more."""
    open_braces: list[int] = []  # where the content of a box begins, -1 for another brace
    closed: dict[int, int] = {}
    last: tuple[int, int] | None = None
    visible = -1
    for token in _BOX_TOKEN.finditer(text):
        word = token[0]
        if word == "{":
            open_braces.append(-1)
        elif word == "}":
            start = open_braces.pop() if open_braces else -1
            if 0 <= start <= visible:
                closed[start] = token.start()
                last = start, token.start()
        elif word[-1] == "{" and len(word) > 2:
            open_braces.append(token.end())
        else:
            visible = token.start()
    if last is None:
        return None
    start, end = last
    is_last = not any(opened > end for opened in open_braces)
    while (inner := _BOX_OPENING.match(text, start, end)) and (
        inner_end := closed.get(inner.end())
    ):
        if text[inner_end + 1 : end].strip():
            break
        start, end = inner.end(), inner_end
    return Box(text[start:end].strip(), is_last)


def statements(text: str) -> Iterator[Statement]:
    """The statements of the answer, the last one first (of very many, only the last ones)."""
    matches = list(_STATEMENT.finditer(text))
    for match in islice(reversed(matches), _STATEMENTS_READ):
        yield _statement(text[match.end() : match.end() + _STATEMENT_WINDOW])


def _statement(rest: str) -> Statement:
    line, newline, _ = rest.partition("\n")
    end = _SENTENCE_END.search(rest)
    formula = _MATH.match(rest)
    return Statement(
        sentence=rest[: end.start()] if end else rest,
        line=line,
        formula=next(filter(None, formula.groups()), "").strip() if formula else None,
        is_closed=bool(end and (newline or end.end() < len(rest))),
    )


def strip_formula_marks(text: str) -> str:
    r"""The text without the marks of a formula around it: $...$, $$...$$, \(...\), \[...\]."""
    text = text.strip()
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$")):
        if (
            len(text) > len(opening + closing)
            and text.startswith(opening)
            and text.endswith(closing)
        ):
            return text[len(opening) : -len(closing)].strip()
    return text

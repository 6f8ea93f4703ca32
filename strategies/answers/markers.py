"""Location of the final answer in a completion: after its reasoning, boxes and statements.

Completions are hostile input, so everything here takes linear time. Braces are matched in one scan with a stack. Each
repetition in a pattern is bounded or cannot start twice at the same position.
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
    """The text after "the answer is".

    Attributes:
        sentence: First sentence.
        line: Rest of the line.
        formula: Content of a formula at the start of the text, without its delimiters; None without one.
        is_closed: True if the sentence has ended. A full stop at the end of the text may be a decimal point.
    """

    sentence: str
    line: str
    formula: str | None
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Box:
    r"""Content of the last closed \boxed{}; `is_last` is False if another was opened after it."""

    content: str
    is_last: bool


def conclusion(text: str) -> str | None:
    """Return the text after the reasoning; None if the text ends inside it."""
    tail = text.rpartition("</think>")[2]
    return None if "<think>" in tail else tail


def last_box(text: str) -> Box | None:
    r"""Return the last closed, non-empty \boxed{} or \fbox{}.

    A box that contains only another box is replaced by the inner one.
    """
    open_braces: list[int] = []  # start of the content of a box; -1 for another brace
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
    """Yield the statements of the answer, last first, at most 20."""
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


def strip_formula_delimiters(text: str) -> str:
    r"""Return the text without surrounding formula delimiters: $...$, $$...$$, \(...\), \[...\]."""
    text = text.strip()
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$")):
        if (
            len(text) > len(opening + closing)
            and text.startswith(opening)
            and text.endswith(closing)
        ):
            return text[len(opening) : -len(closing)].strip()
    return text

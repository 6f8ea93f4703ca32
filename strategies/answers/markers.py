"""Reasoning, end tokens and boxes in a completion.

An engine without a reasoning parser returns the reasoning within the text. `DELIMITERS` is the single list of its
delimiters: profiles of model families refer to it, and `conclusion` handles all of them.

Completions are hostile input, so everything here takes linear time. Braces are matched in one scan with a stack.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from secondpass.strategies.answers.statements import every, list_words

Delimiters = tuple[str, str]
"""Opening and closing delimiter of the reasoning."""

THINK: Delimiters = ("<think>", "</think>")
MISTRAL: Delimiters = ("[THINK]", "[/THINK]")
HARMONY: Delimiters = ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>")

DELIMITERS: tuple[Delimiters, ...] = (
    THINK,
    MISTRAL,
    HARMONY,
    ("<|channel|>commentary<|message|>", "<|channel|>final<|message|>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""Known delimiters. All are recognised in the text of every model, ignoring case."""

_END_TOKENS = (
    *(
        f"<|{name}|>"
        for name in (
            "eot_id",
            "eom_id",
            "im_end",
            "end",
            "endoftext",
            "end_of_text",
            "return",
            "eos",
            "eot",
        )
    ),
    "<|end_of_turn|>",
    "<|endofassistant|>",
    "<end_of_turn>",
    "</s>",
    "<eos>",
    "<EOS>",
    "[EOS]",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
_MAX_END_TOKENS = 20


def _any_of(words: Collection[str]) -> str:
    """Return a pattern of the words. A lookahead for their first two characters makes the search fast."""
    first = {re.escape(word[:2]) for word in words}
    return f"(?={'|'.join(sorted(first))})(?:{'|'.join(map(re.escape, words))})"


_END_TOKEN = re.compile(_any_of(_END_TOKENS))

_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]|[^\\{}\s]+", re.DOTALL)
_MAX_GAP = 60
_MAX_BOXES = 50
_FILLER = (
    r"(?:[\s,;$&.]|\\[\[\]()]|\\(?:quad|qquad|text|mathrm)(?![A-Za-z])|\\[,;! ]|[{}]"
    r"|[A-Za-z]\w{0,3}\s?=|[A-Za-z]_\{?\w\}?\s?=|\(?[a-h1-9][).]|(?:Part|part)\s(?:\d|\(?[a-z]\)?):?)"
)
_LISTED = re.compile(rf"{_FILLER}*+(?:(?:{list_words()}){_FILLER}*+)?")
_JOINED = re.compile(rf"{_FILLER}*+(?:(?:{every('join')}|[-\u2013\u2014:/])(?!\w){_FILLER}*+)?")
_BOX_OPENING = re.compile(r"\s*\\(?:boxed|fbox)\s*\{")


@dataclass(frozen=True, slots=True)
class Box:
    r"""Content of the last closed \boxed{}, or of several in a list.

    Attributes:
        content: None if the box is a part of something larger.
        is_last: False if another box was opened after it.
    """

    content: str | None
    is_last: bool


def conclusion(text: str, pairs: tuple[Delimiters, ...] = DELIMITERS) -> str | None:
    """Return the text after the reasoning without end tokens; None if the text ends inside reasoning.

    A closing delimiter without an opening one closes reasoning that the prompt opened. Takes linear time.
    """
    pattern, closings = _compiled(pairs)
    start = 0
    expected: str | None = None
    for match in pattern.finditer(text):
        found = match[0].lower()
        if closing := closings.get(found):
            expected = expected or closing
        elif expected in (None, found):
            start, expected = match.end(), None
    return None if expected is not None else _without_end_tokens(text[start:])


def first_turn(text: str) -> str:
    """Return the text up to the first end token: what follows is a turn that the model invented."""
    end = _END_TOKEN.search(text)
    return text[: end.start()] if end else text


def _without_end_tokens(text: str) -> str:
    end = len(text)
    for _ in range(_MAX_END_TOKENS):
        bare = end - len(last := text[max(0, end - 100) : end]) + len(last.rstrip())
        token = next((each for each in _END_TOKENS if text.endswith(each, 0, bare)), None)
        if token is None:
            break
        end = bare - len(token)
    return text[:end]


@lru_cache(maxsize=64)
def _compiled(pairs: tuple[Delimiters, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return a pattern of all delimiters, and the closing delimiter of each opening one in lower case."""
    lower = [(opening.lower(), closing.lower()) for opening, closing in pairs]
    words = sorted({word for pair in lower for word in pair if word}, key=len, reverse=True)
    return re.compile(_any_of(words), re.IGNORECASE), dict(lower)


def last_box(text: str) -> Box | None:
    r"""Return the last closed, non-empty \boxed{} or \fbox{}.

    A box that contains only another box is replaced by the inner one. Boxes in a list, as in "\boxed{2} and \boxed{3}",
    are one answer with commas; boxes that are joined otherwise are ambiguous.
    """
    boxes, closed, is_last = _boxes(text)
    if not boxes:
        return None
    contents = [_content(text, boxes[-1], closed)]
    for box, following in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        gap = text[box.end + 1 : following.start]
        if len(gap) > _MAX_GAP or len(contents) > _MAX_BOXES or not _JOINED.fullmatch(gap):
            break
        if not _LISTED.fullmatch(gap):
            return Box(None, is_last)
        if (content := _content(text, box, closed)) not in contents:
            contents.insert(0, content)
    return Box(", ".join(contents), is_last)


class _Span(NamedTuple):
    """Offsets of a box: of its command, of its content and of its closing brace."""

    start: int
    content: int
    end: int


def _boxes(text: str) -> tuple[list[_Span], dict[int, int], bool]:
    """Return the closed, non-empty boxes that are not in another one.

    Also returns the end of each box by the offset of its content, and False if a later box is open at the end.
    """
    if "\\boxed" not in text and "\\fbox" not in text:
        return [], {}, True
    open_braces: list[tuple[int, int]] = []  # -1 for a brace that does not open a box
    boxes: list[_Span] = []
    closed: dict[int, int] = {}
    visible = -1
    for token in _BOX_TOKEN.finditer(text):
        word = token[0]
        if word == "{":
            open_braces.append((-1, -1))
        elif word[-1] == "{" and len(word) > 2:
            open_braces.append((token.start(), token.end()))
        elif word != "}":
            visible = token.start()
        elif open_braces:
            opening, content = open_braces.pop()
            if 0 <= content <= visible:
                closed[content] = token.start()
                while boxes and boxes[-1].start > opening:
                    boxes.pop()
                boxes.append(_Span(opening, content, token.start()))
    is_last = not (boxes and any(opened > boxes[-1].end for _, opened in open_braces))
    return boxes, closed, is_last


def _content(text: str, box: _Span, closed: dict[int, int]) -> str:
    """Return the content of a box; of the inner box if it contains nothing else."""
    start, end = box.content, box.end
    while inner := _BOX_OPENING.match(text, start, end):
        inner_end = closed.get(inner.end())
        if inner_end is None or text[inner_end + 1 : end].strip():
            break
        start, end = inner.end(), inner_end
    return text[start:end].strip()


def strip_formula_delimiters(text: str) -> str:
    r"""Return the text without surrounding formula delimiters: $...$, $$...$$, \(...\), \[...\]."""
    text = text.strip()
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$")):
        if (
            len(text) > len(opening + closing)
            and text.startswith(opening)
            and text.endswith(closing)
            and opening not in text[len(opening) : -len(closing)]
        ):
            return text[len(opening) : -len(closing)].strip()
    return text

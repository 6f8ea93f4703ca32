"""Splitting of answers at commas, conjunctions and comparison signs outside of brackets."""

from __future__ import annotations

import re

from secondpass.strategies.answers.forms.folding import TEXT_MARK

_GROUPED = (
    re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d)(?!,\d)", re.ASCII),
    re.compile(r"(?<![\d.,])\d{1,2}(?:,\d{2})+,\d{3}(?!\d)(?!,\d)", re.ASCII),
)
_JOINED = re.compile(
    r"(?<![\d.,_'])\d{1,3}(?:(?:_\d{3})+|(?:'\d{3})+|(?: \d{3})+)(?![\d_/'])(?! ?/)", re.ASCII
)
_TOKEN = re.compile(
    r"\\left|\\right|\\[{}]|\\begin|\\end|\\cup(?![A-Za-z])|[({\[]|[)}\]]|[,;]"
    rf"|{TEXT_MARK}?(?<![A-Za-z])(?:and|or)(?![A-Za-z])|\\text|\\(?:le|ge|ne|in)(?![A-Za-z])|<=|>=|!=|[=<>]",
)
_SIGNS = {"<=": "\\le", ">=": "\\ge", "!=": "\\ne"}
_OPENING = {"(", "[", "{", "\\{", "\\begin"}
_CLOSING = {")", "]", "}", "\\}", "\\end"}


def join_digits(text: str) -> str:
    r"""Remove the separators of thousands in 1,000, 1,00,000, 1_000, 1'000 and 1 000.

    Commas within brackets separate items.
    """
    text = _JOINED.sub(lambda match: re.sub(r"[_' ]", "", match[0]), text)
    for pattern in _GROUPED:
        depths = _depths(text)
        parts, end = [], 0
        for match in pattern.finditer(text):
            is_list = depths[match.start()] > 0 and "{" not in text[: match.start()]
            is_list = is_list and ",0" not in match[0]
            digits = match[0] if is_list else match[0].replace(",", "")
            parts += [text[end : match.start()], digits]
            end = match.end()
        text = "".join([*parts, text[end:]])
    return text


def _depths(text: str) -> list[int]:
    depth, found = 0, []
    for character in text:
        depth += (character in "([") - (character in ")]")
        found.append(depth)
    return found


def split_list(text: str) -> list[str]:
    """Split at commas, "and" and "or" outside of brackets, or at semicolons only if there are any.

    Empty parts are dropped.
    """
    found: list[tuple[str, int, int]] = []
    depth = 0
    for token in _TOKEN.finditer(text):
        word = token[0].lstrip(TEXT_MARK)
        depth += (word in _OPENING) - (word in _CLOSING)
        if depth <= 0 and word in (",", ";", "and", "or"):
            found.append((word, *token.span()))
    if any(word == ";" for word, _, _ in found):
        found = [each for each in found if each[0] == ";"]
    ends, starts = [at for _, at, _ in found], [at for _, _, at in found]
    parts = [text[a:b].strip() for a, b in zip([0, *starts], [*ends, len(text)], strict=True)]
    return [part for part in parts if part] or [text]


def split_comparison(text: str) -> tuple[list[str], list[str]]:
    """Split at comparison signs outside of brackets; return the sides and the signs between them."""
    sides, signs, start, depth = [], [], 0, 0
    for token in _TOKEN.finditer(text):
        word = _SIGNS.get(token[0], token[0])
        depth += (word in _OPENING) - (word in _CLOSING)
        if depth <= 0 and word in ("=", "<", ">", "\\le", "\\ge", "\\ne"):
            sides.append(text[start : token.start()])
            signs.append(word)
            start = token.end()
    sides.append(text[start:])
    return sides, signs


def split_top(text: str, separator: str) -> list[str]:
    """Split at a separator (a command, or "U") outside of brackets."""
    parts, start, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in _OPENING) - (token[0] in _CLOSING)
        if depth <= 0 and token[0] == separator:
            parts.append(text[start : token.start()])
            start = token.end()
    return [*parts, text[start:]]


def strip_brackets(text: str) -> tuple[str, str, str] | None:
    """Return the brackets around a whole text with what is inside; None without such brackets."""
    depth = 0
    first: re.Match[str] | None = None
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in _OPENING and word != "\\begin":
            if not depth and (first is not None or token.start()):
                return None
            first = first or token
            depth += 1
        elif word in _CLOSING and word != "\\end":
            depth -= 1
            if not depth and first is not None:
                if token.end() != len(text):
                    return None
                return first[0], text[first.end() : token.start()], word
            if depth < 0:
                return None
    return None

"""Answers in a marked field: the tag <answer> and JSON objects with an answer key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_JSON = 50_000
"""Most characters of a JSON object that is parsed."""

_KEYS = (
    "finalanswer",
    "answer",
    "correctanswer",
    "choice",
    "answerchoice",
    "correctoption",
    "correctchoice",
    "selectedoption",
    "option",
    "finalresult",
    "result",
    "letter",
)
_MAX_DEPTH = 4
_TAG = re.compile(r"<(/?)(?:final[_ ]?)?answer>", re.IGNORECASE)
_FENCE = re.compile(
    r"^[ \t]{0,3}```[ \t]{0,3}(?:json5?|JSON)?[ \t]*\n((?:(?!^[ \t]{0,3}```)[^\n]*+\n)*+)[ \t]{0,3}```",
    re.MULTILINE,
)
_LATEX_ESCAPE = re.compile(
    r"(?<!\\)\\(?=(?!u[0-9a-fA-F]{4})(?!n(?!eq\b|u\b))[A-Za-z]{2}|[()\[\]{}$%,!; ])"
)
_KEY_CHARACTERS = re.compile(r"[\W_]+")
_LINE_OBJECT = re.compile(r"^[ \t]{0,8}\{", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class AnswerField:
    """Content of the last marked field; None for a field without a usable value. `end` is its offset."""

    content: str | None
    end: int


def answer_field(text: str, *, finished: bool) -> AnswerField | None:
    """Return the last closed answer tag, else the answer of the last JSON object; None without either.

    In a finished text without a closed tag, an open tag extends to the end. In a truncated one a tag that is open at the
    end is not closed by it, so the text has no field.
    """
    return _tagged(text, finished=finished) or _json_field(text)


def _tagged(text: str, *, finished: bool) -> AnswerField | None:
    opened: int | None = None
    last: AnswerField | None = None
    for tag in _TAG.finditer(text):
        if not tag[1]:
            opened = tag.end()
        elif opened is not None:
            last = AnswerField(text[opened : tag.start()].strip() or None, tag.end())
            opened = None
    if opened is None or (last and finished):
        return last
    return AnswerField(text[opened:].strip() or None if finished else None, len(text))


def _json_field(text: str) -> AnswerField | None:
    """Return the answer of the last JSON object that is fenced or ends the text."""
    for source, end in _objects(text):
        try:
            value = json.loads(_LATEX_ESCAPE.sub(r"\\\\", source), parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            continue
        if (found := _value_of(value, 0)) is not None:
            return AnswerField(found.strip() or None, end)
    return None


def _objects(text: str) -> Iterator[tuple[str, int]]:
    """Yield sources of JSON objects, most explicit first, with their ends."""
    if "}" not in text[-200:] and "```" not in text:
        return
    stripped = text.strip()
    if stripped[:1] == "{" and stripped[-1:] == "}" and len(stripped) <= MAX_JSON:
        yield stripped, len(text)
    for fence in reversed(list(_FENCE.finditer(text))[-3:]):
        if (body := fence[1].strip())[:1] == "{" and len(body) <= MAX_JSON:
            yield body, fence.end()
    if stripped[-1:] == "}":
        starts = [match.end() - 1 for match in _LINE_OBJECT.finditer(stripped[-MAX_JSON:])]
        offset = max(0, len(stripped) - MAX_JSON)
        line = stripped.rfind("\n") + 1
        starts = [offset + start for start in starts[-3:]]
        if (inline := stripped.find('{"', line)) >= 0:
            starts.append(inline)
        for start in reversed(starts):
            yield stripped[start : start + MAX_JSON], len(text)


def _value_of(value: object, depth: int) -> str | None:
    """Return the answer in a JSON object; None without an answer key, empty for an unusable value."""
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return None
    named = {_KEY_CHARACTERS.sub("", str(key)).casefold(): each for key, each in value.items()}
    for key in _KEYS:
        if key in named:
            found = named[key]
            return _value_of(found, depth + 1) or "" if isinstance(found, dict) else _scalar(found)
    nested = [found for each in value.values() if (found := _value_of(each, depth + 1)) is not None]
    return nested[0] if len(nested) == 1 else None


def _scalar(value: object) -> str:
    """Return a string or number as text and a list of them joined by commas; empty for other values."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return ""

"""Members of a JSON object in its text.

One is removed or set without a change of the others. The text must be a JSON object that `strict_json.decode` accepts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any


def without_member(body: bytes, name: str) -> bytes:
    """Return the text of a JSON object without one member. The text of all others is unchanged."""
    text = body.decode()
    kept = [text[start:end] for key, _, start, end in _members(text) if key != name]
    return f"{{{', '.join(kept)}}}".encode()


def with_member(body: bytes, name: str, value_after: Callable[[Any], str]) -> bytes:
    """Set the member `name` of a JSON object to a string. All other text is unchanged.

    Args:
        body: The text.
        name: Key of the member.
        value_after: Returns the value for the value that the object has; None if it has none.
    """
    text, start, is_empty = body.decode(), -1, True
    end, given = start, None
    for key, value, first, last in _members(text):
        is_empty = False
        if key == name:
            start, end, given = first, last, value
    member = f"{json.dumps(name)}: {json.dumps(value_after(given))}"
    if start < 0:
        start = end = text.index("{") + 1
        member += "" if is_empty else ", "
    return f"{text[:start]}{member}{text[end:]}".encode()


def _members(text: str) -> Iterator[tuple[str, Any, int, int]]:
    """Yield the key and value of each member, and the offsets of its start and end."""
    read = json.JSONDecoder().raw_decode
    at = _next(text, text.index("{") + 1)
    while text[at] != "}":
        start = at
        key, at = read(text, at)
        value, at = read(text, _next(text, at))
        yield key, value, start, at
        at = _next(text, at)


def _next(text: str, at: int) -> int:
    """Return the offset of the next value or closing brace of a JSON object."""
    while text[at] in " \t\r\n,:":
        at += 1
    return at

"""Safe points of a text: a sentence inserted there is in no number, formula, code block or tool call. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A full stop after the number of a list item, or between digits, ends no sentence.
_MARK = re.compile(
    r"""\\[\\{}] | (?P<item> ^[ \t]*\d{1,9}[.)] ) | (?P<open> \{ | \\\[ | \\\( ) | (?P<close> \} | \\\] | \\\) )
      | (?P<fence> ``` ) | (?P<display> \$\$ ) | <(?P<end>/?)tool_call> | (?P<sentence> [.!?][)"'*_]{0,3}(?=\s) | \n )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)


def is_safe_end(text: str) -> bool:
    r"""Whether a new paragraph may follow a finished `text`: False while something is open in it.

    That is a brace (a \boxed{}), a formula, a code fence or a tool call. Escaped braces, and closing braces without an
    opening one, are ignored. Linear in the text.
    """
    *_, (_, is_open) = _points(text)
    return not is_open


def safe_end(text: str, *, after: int = 0) -> int | None:
    """The last safe point in a truncated `text`, as a number of characters; None without one.

    It ends a line or a sentence, nothing is open there (see `is_safe_end`), and it is beyond `after` characters. The end
    of the text is not one, since a number at the end may have more digits.
    """
    *points, _ = _points(text)
    return max((at for at, is_open in points if not is_open and at > after), default=None)


def _points(text: str) -> Iterator[tuple[int, bool]]:
    """The ends of sentences and lines, and the end of the text last, each with whether something is open there."""
    depth = 0
    is_open = {"fence": False, "display": False, "call": False}
    for match in _MARK.finditer(text):
        kind = match.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind in ("fence", "display"):
            is_open[kind] = not is_open[kind]
        elif kind == "end":
            is_open["call"] = not match["end"]
        elif kind == "sentence":
            yield match.end(), bool(depth) or any(is_open.values())
    yield len(text), bool(depth) or any(is_open.values())

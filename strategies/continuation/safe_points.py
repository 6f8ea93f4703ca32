r"""Safe points of a text, at which a sentence may be inserted. Pure.

A safe point is never inside a number, a formula, a `\boxed{}`, a code fence or a tool call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A full stop after the number of a list item, or between digits, does not end a sentence.
_PATTERN = re.compile(
    r"""\\[\\{}] | (?P<item> ^[ \t]*\d{1,9}[.)] ) | (?P<open> \{ | \\\[ | \\\( ) | (?P<close> \} | \\\] | \\\) )
      | (?P<fence> ``` ) | (?P<display> \$\$ ) | <(?P<end>/?)tool_call> | (?P<sentence> [.!?][)"'*_]{0,3}(?=\s) | \n )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)


def is_safe_end(text: str) -> bool:
    r"""Return whether a new paragraph may follow a finished `text`, i.e. nothing in it is left open.

    Open elements are braces (as of `\boxed{}`), formulas, code fences and tool calls. Escaped
    braces and unmatched closing braces are ignored. Runs in linear time.
    """
    *_, (_, is_open) = _points(text)
    return not is_open


def last_safe_point(text: str, *, after: int = 0) -> int | None:
    """Return the last safe point of a truncated `text` beyond `after` characters; None without one.

    It is the end of a line or a sentence at which nothing is open (see `is_safe_end`), as a number
    of characters. The end of the text is not a safe point, because a number there may be
    incomplete.
    """
    *points, _ = _points(text)
    return max((at for at, is_open in points if not is_open and at > after), default=None)


def _points(text: str) -> Iterator[tuple[int, bool]]:
    """Yield the ends of sentences and lines, then of the text, each with whether something is open."""
    depth = 0
    is_open = {"fence": False, "display": False, "call": False}
    for match in _PATTERN.finditer(text):
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

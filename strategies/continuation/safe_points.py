r"""Safe points of a text, at which a sentence may be inserted. Pure.

A safe point is never inside a number, a formula, a `\boxed{}`, a code fence or a tool call.
"""

from __future__ import annotations

import re

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
    _, is_open = _scan(text, after=len(text))
    return not is_open


def last_safe_point(text: str, *, after: int = 0) -> int | None:
    """Return the last safe point of a truncated `text` beyond `after` characters; None without one.

    It is the end of a line or a sentence at which nothing is open (see `is_safe_end`), as a number
    of characters. The end of the text is not a safe point, because a number there may be
    incomplete.
    """
    last, _ = _scan(text, after=after)
    return last


def _scan(text: str, *, after: int) -> tuple[int | None, bool]:
    """Return the last safe point beyond `after`, and whether something is open at the end.

    A safe point is the end of a sentence or line with nothing open.
    """
    depth = 0
    is_within = {"fence": False, "display": False, "call": False}
    is_open, last = False, None
    for match in _PATTERN.finditer(text):
        kind = match.lastgroup
        if kind == "sentence":
            if not is_open and match.end() > after:
                last = match.end()
            continue
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind in ("fence", "display"):
            is_within[kind] = not is_within[kind]
        elif kind == "end":
            is_within["call"] = not match["end"]
        is_open = depth > 0 or any(is_within.values())
    return last, is_open

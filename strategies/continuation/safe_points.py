"""Where a sentence may be put into a text without landing inside a number, a formula, a code block or a tool call. Pure."""

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
    r"""May a new paragraph begin after `text`, which is over? Not while something is open in it.

    That is a brace (a \boxed{}), a formula, a code fence or a tool call. Escaped braces count as nothing, and neither
    does a closing one too many. Linear in the text.
    """
    *_, (_, is_open) = _places(text)
    return not is_open


def safe_end(text: str, *, after: int = 0) -> int | None:
    """The last place where a new paragraph may begin in `text`, which may break off anywhere; None without one.

    It ends a line or a sentence, nothing is open there (see `is_safe_end`), and it is beyond `after` characters. A
    number at the end of a text that breaks off may have more digits, so that the end itself is none.
    """
    *places, _ = _places(text)
    return max((at for at, is_open in places if not is_open and at > after), default=None)


def _places(text: str) -> Iterator[tuple[int, bool]]:
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

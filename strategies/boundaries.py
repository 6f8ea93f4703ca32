"""Where a sentence may be put after a text without landing inside a formula, a code block or a tool call. Pure."""

from __future__ import annotations

import re

_BRACE = re.compile(r"\\[{}]|[{}]")
_CALL = re.compile(r"<(/?)tool_call>", re.IGNORECASE)


def is_safe_end(text: str) -> bool:
    r"""May a new paragraph begin after `text`? Not while a brace (a \boxed{}), a code fence or a tool call is open.

    Escaped braces count as nothing, and neither does a closing one too many. Linear in the text.
    """
    if text.count("```") % 2:
        return False
    calls = [match[1] for match in _CALL.finditer(text)]
    if calls and not calls[-1]:
        return False
    depth = 0
    for brace in _BRACE.findall(text):
        if brace == "{":
            depth += 1
        elif brace == "}":
            depth = max(0, depth - 1)
    return depth == 0

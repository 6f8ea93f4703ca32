"""Extraction of answers that are source code."""

from __future__ import annotations

import re

from secondpass.strategies.answers.markers import conclusion

_FENCED = re.compile(r"^```[^\n`]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)


def extract(text: str, *, finished: bool = True) -> str | None:
    """Return the last fenced block; without one, a finished reply as a whole."""
    tail = conclusion(text)
    if tail is None:
        return None
    blocks: list[str] = _FENCED.findall(tail)
    if blocks:
        return blocks[-1].strip("\n")
    return tail if finished else None


def normalise(answer: str) -> str:
    """Return the code without trailing white space on its lines, stripped."""
    return "\n".join(line.rstrip() for line in answer.strip().splitlines())

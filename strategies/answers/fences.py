"""Segments of a Markdown text: fenced blocks, and the text between them. Takes linear time."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

_FENCE = re.compile(
    r"(?P<prefix>[ \t>]{0,40}(?:(?:[-*+]|\d{1,3}[.)])[ \t]{1,4})?)(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)"
)
_QUOTE = re.compile(r"^[ \t]{0,3}>[ \t]?", re.MULTILINE)
_CONTAINERS = ("", "markdown", "md")
"""Languages of blocks in which a fence with a language opens another block."""

_NAMES_OF_PYTHON = ("python", "python3", "py")


class MarkdownSegment(NamedTuple):
    """A fenced block, or the text between two blocks.

    Attributes:
        text: The content without common indentation.
        language: First word after the opening fence in lower case, "" without one; None outside fences.
        is_closed: False for a block that the end of the text ends.
    """

    text: str
    language: str | None
    is_closed: bool = True


class _Fence(NamedTuple):
    prefix: str
    mark: str
    language: str

    def closes(self, opening: _Fence) -> bool:
        """Return whether this fence closes a block: same character, no language, no deeper indentation."""
        return (
            not self.language
            and self.mark[0] == opening.mark[0]
            and len(self.mark) >= len(opening.mark)
            and len(self.prefix) <= len(opening.prefix) + 3
        )


def segments(text: str) -> Iterator[MarkdownSegment]:
    """Yield the segments of a text in order. A closing fence that closes nothing opens an unclosed block."""
    opening: _Fence | None = None
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        fence = _fence(line)
        if fence is None and opening is not None and _closes_at_end(line, opening):
            lines.append(line.rstrip()[: -len(opening.mark)])
            yield _block(lines, opening, is_closed=True)
            opening, lines = None, []
        elif fence is None:
            lines.append(line)
        elif opening is None:
            yield MarkdownSegment("\n".join(lines), None)
            opening, lines = fence, []
        elif fence.closes(opening):
            yield _block(lines, opening, is_closed=True)
            opening, lines = None, []
        elif fence.language and opening.language in _CONTAINERS:
            yield MarkdownSegment("\n".join(lines), None)  # the earlier fence closed nothing
            opening, lines = fence, []
        else:
            lines.append(line)
    if opening is None:
        yield MarkdownSegment("\n".join(lines), None)
    else:
        yield _block(lines, opening, is_closed=False)


def _closes_at_end(line: str, opening: _Fence) -> bool:
    """Return whether a line of code ends with the closing fence of its block."""
    before = line.rstrip().removesuffix(opening.mark)
    is_end = opening.language != "" and before != line.rstrip() and before.strip() != ""
    return is_end and opening.mark not in before and before[-1] not in "`~\"'"


def _fence(line: str) -> _Fence | None:
    if "```" not in line and "~~~" not in line:
        return None
    match = _FENCE.fullmatch(line.rstrip())
    if match is None:
        return None
    words = match["info"].split(maxsplit=1)
    return _Fence(match["prefix"], match["mark"], words[0].strip("{.}").lower() if words else "")


def _block(lines: list[str], opening: _Fence, *, is_closed: bool) -> MarkdownSegment:
    if not lines:  # a text may consist of thousands of empty blocks
        return MarkdownSegment("", opening.language, is_closed)
    text = "\n".join(lines)
    if ">" in opening.prefix:
        text = _QUOTE.sub("", text)
    text, language = textwrap.dedent(text).strip("\n"), opening.language
    first, _, rest = text.partition("\n")
    if not language and first.strip().lower() in _NAMES_OF_PYTHON:  # below its fence
        text, language = textwrap.dedent(rest), first.strip().lower()
    return MarkdownSegment(text, language, is_closed)

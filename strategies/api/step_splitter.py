"""Reading what models wrote: steps of a solution. Pure functions that raise and never guess."""

from __future__ import annotations


def split_steps(text: str) -> list[str]:
    """The steps of a solution: its paragraphs, stripped, in order; none is empty.

    A paragraph inside a code fence (```) is not a step of its own.
    """
    splitter = StepSplitter()
    return splitter.feed(text) + splitter.close()


class StepSplitter:
    """Finds the finished steps of a text that is still being written; each character is looked at once."""

    def __init__(self) -> None:
        self._line: list[str] = []  # what is there of the line that is being written
        self._lines: list[str] = []  # the whole lines before it, of the same paragraph
        self._is_fenced = False
        self._ended: str | None = None  # a paragraph that is a step as soon as the next one begins

    def feed(self, piece: str) -> list[str]:
        """The steps that `piece` finished: a step is finished when the next one has begun."""
        first, *others = piece.split("\n")
        steps = self._write(first)
        for text in others:
            self._end_line()
            steps += self._write(text)
        return steps

    def close(self) -> list[str]:
        """The steps that were not given yet: the last one, if there is any."""
        self._lines.append("".join(self._line))
        self._line.clear()
        self._end_paragraph()
        last, self._ended = self._ended, None
        return [] if last is None else [last]

    def _write(self, text: str) -> list[str]:
        self._line.append(text)
        if self._ended is None or not text.strip():
            return []
        finished, self._ended = self._ended, None
        return [finished]

    def _end_line(self) -> None:
        line = "".join(self._line)
        self._line.clear()
        if not self._is_fenced and not line.strip(" \t"):
            self._end_paragraph()
            return
        self._is_fenced ^= line.count("```") % 2 == 1
        self._lines.append(line)

    def _end_paragraph(self) -> None:
        text = "\n".join(self._lines).strip()
        self._lines.clear()
        if text:
            self._ended = text


class TokenSplitter:
    """Gives a text that is still being written in pieces of at least `every` deltas, none of which is less than a token."""

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError(f"every: at least 1 token, not {every}")
        self._every = every
        self._held: list[str] = []

    def feed(self, piece: str) -> list[str]:
        """The piece that this one completes, if it does."""
        self._held.append(piece)
        return self.close() if len(self._held) >= self._every else []

    def close(self) -> list[str]:
        """What was not given yet, if there is any."""
        text = "".join(self._held)
        self._held.clear()
        return [text] if text else []

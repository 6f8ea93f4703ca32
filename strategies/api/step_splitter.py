"""Splitting of a completion into steps, also while it is streamed."""

from __future__ import annotations


def split_steps(text: str) -> list[str]:
    """Return the steps of a solution: its non-empty paragraphs, stripped, in order.

    A code fence (```) is never split.
    """
    splitter = StepSplitter()
    return splitter.feed(text) + splitter.close()


class StepSplitter:
    """Finds the finished steps of a streamed text, in linear time."""

    def __init__(self) -> None:
        self._line: list[str] = []  # parts of the current line
        self._lines: list[str] = []  # earlier lines of the paragraph
        self._is_fenced = False
        self._ended: str | None = None  # a complete paragraph, not yet returned

    def feed(self, chunk: str) -> list[str]:
        """Return the steps that the chunk finishes: a step is finished once the next one starts."""
        first, *others = chunk.split("\n")
        steps = self._write(first)
        for text in others:
            self._end_line()
            steps += self._write(text)
        return steps

    def close(self) -> list[str]:
        """Return the last step, if there is one that was not returned."""
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
    """Splits a streamed text into steps of at least `every` deltas, each of at least one token."""

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError(f"every: must be at least 1 token, not {every}")
        self._every = every
        self._buffer: list[str] = []

    def feed(self, chunk: str) -> list[str]:
        """Return the step that the chunk completes, if it does."""
        self._buffer.append(chunk)
        return self.close() if len(self._buffer) >= self._every else []

    def close(self) -> list[str]:
        """Return the remaining text, if there is any."""
        text = "".join(self._buffer)
        self._buffer.clear()
        return [text] if text else []

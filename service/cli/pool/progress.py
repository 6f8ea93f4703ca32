"""Progress of a recording or a replay: a bar at a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from secondpass.service.cli.common.output import print_text

LINE_SECONDS = 30.0
"""Interval between progress lines outside a terminal."""


class ProgressCounter:
    """Counter of finished items, engine calls and tokens. `str()` gives a line with the remaining time.

    Args:
        total: Number of items.
        unit: Plural noun for the items.
    """

    def __init__(self, total: int, unit: str) -> None:
        self.total = total
        self._unit, self._began = unit, time.monotonic()
        self.done = self.calls = self.tokens = 0

    def add_call(self, tokens: int) -> None:
        """Count a finished engine call and its completion tokens."""
        self.calls += 1
        self.tokens += tokens

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        calls = "" if self.calls == self.done else f"{self.calls} calls, "
        left = ""
        if 0 < self.done < self.total:
            left = f", about {_duration((self.total - self.done) * seconds / self.done)} left"
        return (
            f"{self.done} of {self.total} {self._unit}, {calls}{self.tokens} tokens, "
            f"{self.tokens / seconds:.0f} tokens/s{left}"
        )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


@contextmanager
def report_progress(counter: ProgressCounter) -> Iterator[Callable[[int], None]]:
    """Report progress on stderr and yield `advance(finished_items)`.

    A terminal with rich gets a bar, anything else a line every LINE_SECONDS and one at the end.
    """
    if sys.stderr.isatty() and (bar := _bar(counter.total)) is not None:
        with bar as update:

            def advance_bar(items: int) -> None:
                counter.done += items
                update(str(counter), items)

            yield advance_bar
    else:
        due = time.monotonic() + LINE_SECONDS

        def advance(items: int) -> None:
            nonlocal due
            counter.done += items
            if time.monotonic() >= due:
                due = time.monotonic() + LINE_SECONDS
                print_status(str(counter))

        yield advance
    print_status(f"done: {counter}")


def _bar(total: int) -> AbstractContextManager[Callable[[str, int], None]] | None:
    try:
        from secondpass.service.cli.common.rich_output import progress_bar  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return None
    return progress_bar(total)


def print_status(line: str) -> None:
    """Print a status line of `secondpass pool` on stderr."""
    print_text(f"secondpass pool: {line}", to_stderr=True)

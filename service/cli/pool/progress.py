"""How far a recording has come, at a terminal and in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

LINE_SECONDS = 30.0
"""Between two lines of progress where nobody watches a terminal."""


class Tally:
    """How much of `total` is done, and when all will be. `calls` and `tokens` are what an engine was asked for."""

    def __init__(self, total: int, what: str) -> None:
        self.total = total
        self._what, self._began = what, time.monotonic()
        self.done = self.calls = self.tokens = 0

    def drew(self, tokens: int) -> None:
        """A call to the engine has ended."""
        self.calls += 1
        self.tokens += tokens

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        calls = "" if self.calls == self.done else f"{self.calls} calls asked, "
        left = ""
        if 0 < self.done < self.total:
            left = f", about {_clock((self.total - self.done) * seconds / self.done)} left"
        return (
            f"{self.done} of {self.total} {self._what}, {calls}{self.tokens} tokens, "
            f"{self.tokens / seconds:.0f} tokens/s{left}"
        )


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


@contextmanager
def progress(tally: Tally) -> Iterator[Callable[[int], None]]:
    """A bar at a terminal, if rich is there; else a line every now and then. What it gives takes the steps just done."""
    if sys.stderr.isatty() and (bar := _bar(tally.total)) is not None:
        with bar as advance:

            def seen(steps: int) -> None:
                tally.done += steps
                advance(str(tally), steps)

            yield seen
    else:
        due = time.monotonic() + LINE_SECONDS

        def noted(steps: int) -> None:
            nonlocal due
            tally.done += steps
            if time.monotonic() >= due:
                due = time.monotonic() + LINE_SECONDS
                say(str(tally))

        yield noted
    say(f"done: {tally}")


def _bar(total: int) -> AbstractContextManager[Callable[[str, int], None]] | None:
    try:
        from secondpass.service.cli.common.screen import bar  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return None
    return bar(total)


def say(line: str) -> None:
    """A line of what `secondpass pool` does, to stderr."""
    print(f"secondpass pool: {line}", file=sys.stderr, flush=True)  # noqa: T201

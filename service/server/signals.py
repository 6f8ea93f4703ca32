"""Signals before the server can handle them: while a model is loaded."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled_by(
    handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals
) -> Iterator[None]:
    """Handle these signals in the block; leaving it restores the handlers that were there before.

    One that was not set from Python cannot be restored, and becomes the default.
    """
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, handler)
        yield
    finally:
        for number, restored in before.items():
            signal.signal(number, signal.SIG_DFL if restored is None else restored)


class Interrupted(KeyboardInterrupt):
    """A signal came before the server could be told of it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Start:
    """Ends the process on a signal that comes before there is a server to obey it: a model may take minutes to load.

    The event loop may swallow what a signal's handler raises: `check` raises it again. The server raises what it obeyed
    once more when it has ended: nothing is left to do then.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._number: int | None = None

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM in the block."""
        with handled_by(self._interrupt, signal.SIGINT, signal.SIGTERM):
            try:
                yield
            finally:
                self.is_over = True

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if not self.is_over:
            self._number = number
            raise Interrupted(number)

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self._number is not None:
            raise Interrupted(self._number)

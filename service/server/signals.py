"""Signal handling during startup, before the server installs its own handlers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signal_handler(
    handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals
) -> Iterator[None]:
    """Install a handler for these signals and restore the previous handlers on exit.

    A previous handler that was not installed from Python cannot be restored; it becomes SIG_DFL.
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
    """A signal arrived before the server handled signals."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StartupSignals:
    """Interrupts startup on SIGINT or SIGTERM, because loading a model can take minutes.

    The event loop may swallow an exception of a signal handler, so `check` raises it again. On exit, uvicorn raises the
    signals that it has handled once more. They are ignored because `is_complete` is set.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._number: int | None = None

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM within the block."""
        with signal_handler(self._interrupt, signal.SIGINT, signal.SIGTERM):
            try:
                yield
            finally:
                self.is_complete = True

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if not self.is_complete:
            self._number = number
            raise Interrupted(number)

    def check(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if self._number is not None:
            raise Interrupted(self._number)

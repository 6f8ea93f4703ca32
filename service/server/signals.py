"""Signals before the server can handle them: while a model is loaded."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal came before the server could be told of it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Start:
    """Has a signal end the process until there is a server to obey it, which may take as long as a model takes to load.

    The event loop may swallow what is raised out of a signal's handler: `check` raises it again. The server raises what
    it obeyed once more when it has ended: nothing is left to do then.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._number: int | None = None
        for received in (signal.SIGINT, signal.SIGTERM):
            signal.signal(received, self._interrupt)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if not self.is_over:
            self._number = number
            raise Interrupted(number)

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self._number is not None:
            raise Interrupted(self._number)

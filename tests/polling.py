"""Polling for a condition, on a machine that may stop for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 10.0
SHARE_OF_A_PAUSE = 0.1


class Patience:
    """Time left to wait, in seconds of a machine that runs.

    A virtual machine that is suspended for longer than the whole wait comes back to a condition
    that nothing had time to fulfil. One turn of the loop therefore uses at most a tenth of the time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left = seconds
        self._last = time.monotonic()

    def is_over(self) -> bool:
        """Whether the time is used up. Call it once a turn."""
        now = time.monotonic()
        self._left -= min(now - self._last, self._seconds * SHARE_OF_A_PAUSE)
        self._last = now
        return self._left <= 0


def wait_until(
    is_true: Callable[[], bool],
    seconds: float = PATIENCE,
    reason: str = "waited in vain",
    every: float = 0.002,
) -> float:
    """Poll for a condition that a test needs in order to go on; the seconds that it took.

    How fast it comes about is no claim of the test: for that see `wait_at_most`.

    Raises:
        AssertionError: It does not hold after `seconds` of a machine that runs.
    """
    began = time.monotonic()
    patience = Patience(seconds)
    while not is_true():
        assert not patience.is_over(), reason
        time.sleep(every)
    return time.monotonic() - began


def wait_at_most(
    seconds: float,
    is_true: Callable[[], bool],
    reason: str = "it took longer",
    every: float = 0.002,
) -> float:
    """Poll for a condition that must hold within `seconds` by the clock; the seconds that it took.

    Raises:
        AssertionError: It does not hold in time.
    """
    began = time.monotonic()
    while not is_true():
        assert time.monotonic() - began < seconds, reason
        time.sleep(every)
    return time.monotonic() - began

"""Polling for a condition on a machine that may be suspended."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 10.0
MAX_SHARE_PER_ITERATION = 0.1


class Patience:
    """A timeout that tolerates a suspended machine.

    After a suspension longer than the timeout, no process has had time to fulfil the condition. One iteration therefore
    consumes at most a tenth of the timeout.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left = seconds
        self._last = time.monotonic()

    def is_over(self) -> bool:
        """Return whether the timeout has expired. Call it once per iteration."""
        now = time.monotonic()
        self._left -= min(now - self._last, self._seconds * MAX_SHARE_PER_ITERATION)
        self._last = now
        return self._left <= 0


def wait_until(
    is_true: Callable[[], bool],
    seconds: float = PATIENCE,
    reason: str = "the condition did not hold in time",
    every: float = 0.002,
) -> float:
    """Poll for a condition that a test needs and return the seconds that it took.

    Use `wait_at_most` to assert how fast the condition holds.

    Raises:
        AssertionError: It does not hold within `seconds`, excluding suspensions of the machine.
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
    """Poll for a condition that must hold within `seconds` of wall time; return the seconds it took.

    Raises:
        AssertionError: It does not hold in time.
    """
    began = time.monotonic()
    while not is_true():
        assert time.monotonic() - began < seconds, reason
        time.sleep(every)
    return time.monotonic() - began

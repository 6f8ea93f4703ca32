"""Polling tolerates a machine that is suspended while a test waits."""

from __future__ import annotations

import time

import pytest

from tests.polling import wait_at_most, wait_until


class Clock:
    """A fake clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.sleeps = 0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps += 1


def test_a_pause_longer_than_the_timeout_does_not_expire_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)

    def is_true() -> bool:
        if not clock.sleeps:
            clock.now += 44  # suspended between the check and reading the clock
        return clock.sleeps > 3

    assert wait_until(is_true, 20, every=0.01) == pytest.approx(44.04)


def test_wait_at_most_uses_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def is_true() -> bool:
        clock.now += 0.2  # a slow check
        return clock.sleeps > 3

    with pytest.raises(AssertionError, match=r"^it took longer$"):
        wait_at_most(0.5, is_true)
    assert wait_at_most(5, is_true) < 5


def test_a_condition_that_never_holds_fails_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    with pytest.raises(AssertionError, match=r"^no request came"):
        wait_until(lambda: False, 20, "no request came", every=0.01)
    assert clock.now == pytest.approx(120, abs=0.02)

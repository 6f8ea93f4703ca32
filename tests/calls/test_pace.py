"""Batching of tokens into deltas of streams that no client reads."""

import time

import pytest

from secondpass.service.calls.length_stats import Pace


@pytest.mark.parametrize(
    ("tokens", "interval"), [(0, 1), (1, 1), (50, 1), (51, 2), (150, 3), (151, 4), (10_000, 8)]
)
def test_the_delta_rate_never_exceeds_the_target(
    monkeypatch: pytest.MonkeyPatch, tokens: int, interval: int
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(deltas_per_second=100, max_interval=8)
    pace.add(tokens)
    assert pace.interval == 1  # measured every 0.5 s
    now += 0.5
    pace.add(0)
    assert pace.interval == interval
    now += 0.5
    pace.add(50)
    assert pace.interval == 1  # earlier tokens no longer count

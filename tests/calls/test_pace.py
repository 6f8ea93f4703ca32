"""How many tokens are gathered in a delta that nobody reads as it comes."""

import time

import pytest

from secondpass.service.calls.length_stats import Pace


@pytest.mark.parametrize(
    ("tokens", "interval"), [(0, 1), (1, 1), (50, 1), (51, 2), (150, 3), (151, 4), (10_000, 8)]
)
def test_deltas_arrive_at_the_wanted_rate_at_most(
    monkeypatch: pytest.MonkeyPatch, tokens: int, interval: int
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(deltas_per_second=100, most=8)
    pace.add(tokens)
    assert pace.interval == 1  # too early to tell
    now += 0.5
    pace.add(0)
    assert pace.interval == interval
    now += 0.5
    pace.add(50)
    assert pace.interval == 1  # what was counted before is forgotten

"""Intervals: published values, exact cases, and coverage in repeated draws."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.lab.evaluation.intervals import (
    Conclusion,
    Estimate,
    bootstrap,
    conclude,
    mean,
    paired_difference,
    wilson,
)
from secondpass.strategies.api.ranking import quantile


def test_wilson_agrees_with_published_values() -> None:
    # Newcombe 1998, method 3 (the score method without correction).
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611), (1, 29): (0.0061, 0.1718)}  # fmt: skip
    for (hits, n), (low, high) in published.items():
        made = wilson(hits, n)
        assert (made.low, made.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_share_and_is_symmetric(case: tuple[int, int]) -> None:
    hits, n = case
    made, mirrored = wilson(hits, n), wilson(n - hits, n)
    assert 0 <= made.low <= made.value <= made.high <= 1
    assert made.low < made.high
    assert (made.low, made.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low))


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (3, 2), (-1, 2)])
def test_wilson_rejects_counts_out_of_range(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="from 0 to n"):
        wilson(hits, n)


@settings(max_examples=25)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_bootstrap_is_reproducible_and_within_the_data(values: list[float]) -> None:
    made = bootstrap(values, mean, resamples=100)
    assert made == bootstrap(values, mean, resamples=100)
    assert min(values) - 1e-9 <= made.low <= made.high <= max(values) + 1e-9
    assert made.n == len(values)


def test_bootstrap_coverage_is_near_its_level() -> None:
    chance = random.Random(1)
    covered = 0
    for trial in range(200):
        values = [chance.random() < 0.3 for _ in range(80)]
        made = bootstrap(values, mean, resamples=200, seed=trial)
        covered += made.low <= 0.3 <= made.high
    assert 0.88 <= covered / 200 <= 0.99


def test_pairing_removes_the_variance_of_questions() -> None:
    theirs = [float(i % 2) for i in range(40)]
    made = paired_difference([value - 0.1 for value in theirs], theirs)
    assert (made.value, made.low, made.high) == pytest.approx((-0.1, -0.1, -0.1))
    assert paired_difference(theirs, theirs) == Estimate(0, 0, 0, 40)
    with pytest.raises(ValueError, match="1 and 40 questions"):
        paired_difference([1.0], theirs)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01, 0.05, "superior"), (0.0, 0.05, "non-inferior"), (-0.009, 0.02, "non-inferior"), (-0.02, 0.02, "inconclusive"),
     (-0.01, 0.0, "inconclusive"), (-0.05, -0.02, "inferior"), (-0.009, -0.001, "non-inferior")],
)  # fmt: skip
def test_conclusion_follows_from_the_interval(
    low: float, high: float, expected: Conclusion
) -> None:
    assert conclude(Estimate((low + high) / 2, low, high, 9), margin=0.01) == expected


def test_the_margin_must_be_positive() -> None:
    with pytest.raises(ValueError, match="margin must be above 0"):
        conclude(Estimate(0, 0, 0, 1), margin=0)


def test_quantiles_are_interpolated() -> None:
    assert [quantile([1, 2, 4], share) for share in (0, 0.25, 0.5, 0.75, 1)] == [1, 1.5, 2, 3, 4]
    for bad in (quantile, lambda values, _: mean(values), lambda values, _: bootstrap(values, mean)):  # fmt: skip
        with pytest.raises(ValueError, match=r"must not be empty|no quantile"):
            bad([], 0.5)

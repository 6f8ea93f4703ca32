"""Quantiles, compared with the standard library."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.api.ranking import quantile

VALUES = st.lists(st.floats(-50, 50), min_size=2, max_size=60)


@given(VALUES, st.integers(1, 99))
def test_quantiles_are_those_of_the_standard_library(values: list[float], percent: int) -> None:
    expected = statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
    assert quantile(values, percent / 100) == pytest.approx(expected, abs=1e-9)


@given(VALUES)
def test_quantiles_0_and_1_are_the_extremes_in_any_order(values: list[float]) -> None:
    assert (quantile(values, 0), quantile(values, 1)) == (min(values), max(values))


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_no_values_and_shares_out_of_range_are_errors(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        quantile(values, share)

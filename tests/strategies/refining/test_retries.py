"""The temperature schedule of retries, and retries that lose the numbers of a solution."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.refining.retries import loses_numbers, retry_temperature


@given(st.floats(0, 1.2), st.integers(1, 8))
def test_the_schedule_rises_to_its_limit_and_never_falls(
    temperature: float, round_number: int
) -> None:
    assert temperature <= retry_temperature(temperature, round_number) <= 1.2
    assert retry_temperature(temperature, round_number) <= retry_temperature(
        temperature, round_number + 1
    )
    assert retry_temperature(0.7, 2) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("retry", "others", "is_lost"),
    [
        ("so 7", ("1 2 3 4 5", "1 2 3 4"), True),
        ("6 and 7", ("1 2 3 4 5", "1 2 3 4"), False),
        ("so 7", ("1 2 3", "1 2 3 4 5 6"), False),
        ("1,000.5", ("1.5 2 3 4", "1.5 2 3 4"), True),
        ("", ("1", "1"), False),
    ],
)
def test_a_retry_with_far_fewer_numbers_than_every_earlier_version_has_lost_them(
    retry: str, others: tuple[str, str], is_lost: bool
) -> None:
    assert loses_numbers(retry, *others) is is_lost

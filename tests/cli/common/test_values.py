"""Option values in the range of a sampling field."""

import argparse

import pytest

from secondpass.service.cli.common.values import sampling_value


@pytest.mark.parametrize("text", ["0", "0.7", "2"])
def test_a_temperature_in_range_is_accepted(text: str) -> None:
    assert sampling_value("temperature", float)(text) == float(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-0.1", "must be at least 0, not '-0.1'"),
        ("2.1", "must be at most 2, not '2.1'"),
        ("nan", "not 'nan'"),
        ("inf", "not 'inf'"),
        ("warm", "must be a number, not 'warm'"),
    ],
)
def test_a_temperature_out_of_range_is_an_error(text: str, problem: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=problem):
        sampling_value("temperature", float)(text)

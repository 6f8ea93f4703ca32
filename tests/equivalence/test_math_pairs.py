"""Recorded pairs of answers: equal values in any notation, and values that only look alike."""

import pytest

from secondpass.service.equivalence.checker import Equivalence
from tests.equivalence.math_pairs import math_pairs


@pytest.mark.anyio
async def test_pairs_are_equal_exactly_where_their_values_are_in_either_order() -> None:
    wrong = []
    async with Equivalence() as equivalence:
        for a, b, same in math_pairs():
            found = await equivalence.same(a, b), await equivalence.same(b, a)
            if found != (same, same):
                wrong.append((a, b, same, found))
        assert equivalence.undecided == 0
    assert wrong == []

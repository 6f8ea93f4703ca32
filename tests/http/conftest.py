"""One service for all tests of a module that leave no state behind."""

from collections.abc import Iterator

import pytest

from tests.http.serving import Served, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running

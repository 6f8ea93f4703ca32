"""A server shared by the tests of a module, which must not change its state."""

from collections.abc import Iterator

import pytest

from tests.http.serving import Served, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running

"""Fixtures: an HTTP engine and its upstream server, both in this process."""

from collections.abc import AsyncIterator

import pytest

from secondpass.service.engines.openai.engine import HttpEngine
from tests.engines.support import started
from tests.engines.upstream import Upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """An upstream server that replies "Hello" by default."""
    async with Upstream().serving() as server:
        yield server


@pytest.fixture
async def engine(upstream: Upstream) -> AsyncIterator[HttpEngine]:
    """A ready engine for `upstream`."""
    async with started(upstream) as ready:
        assert ready.ready
        yield ready

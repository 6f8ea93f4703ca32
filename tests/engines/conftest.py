"""An engine over HTTP and the server behind it, both in this process."""

from collections.abc import AsyncIterator

import pytest

from secondpass.service.engines.openai.engine import HttpEngine
from tests.engines.asking import started
from tests.engines.upstream import Upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A server that answers plainly until a test tells it otherwise."""
    async with Upstream().serving() as server:
        yield server


@pytest.fixture
async def engine(upstream: Upstream) -> AsyncIterator[HttpEngine]:
    """An engine that has probed `upstream`."""
    async with started(upstream) as ready:
        assert ready.ready
        yield ready

"""Images that are built once for all the tests that run them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.containers import Containers, skip_where_nothing_can_be_built


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    """A store with the base image in it."""
    skip_where_nothing_can_be_built()
    # Gigabytes, and pytest keeps its own folders.
    with tempfile.TemporaryDirectory(prefix="containers-") as folder:
        made = Containers(Path(folder))
        made.prepare()
        try:
            yield made
        finally:
            made.remove()


@pytest.fixture(scope="session")
def service_image(containers: Containers) -> str:
    return containers.build("service")


@pytest.fixture(scope="session")
def router_image(containers: Containers) -> str:
    return containers.build("router")

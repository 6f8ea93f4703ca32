"""Images that are built once per session."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.containers import Containers, skip_without_build_tools


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    """A store that contains the base image."""
    skip_without_build_tools()
    # pytest keeps its temporary folders, and this one takes gigabytes.
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

"""What every test may ask for: an async backend, and a real vLLM server that is started once."""

import gc
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # before anything freezes the garbage collector, which hypothesis asks
import pytest

from tests.leftovers import MARK, Starts, leftovers
from tools.fetch_model import fetch
from tools.local_vllm import VllmServer, serve_vllm
from tools.process_tree import adopt_orphans

pytest_plugins = ["secondpass.testing"]
# Packages of their own, whose tests run in processes of their own.
collect_ignore = ["examples/src"]

# A shell starts background jobs with SIGINT ignored, and what tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more of what else the machine does than of the code.
hypothesis.settings.register_profile(
    "secondpass", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("secondpass")


_starts = Starts()


def pytest_runtest_logstart(nodeid: str) -> None:
    """Note when each test begins."""
    _starts.add(nodeid)


def pytest_unconfigure() -> None:
    """Release what servers have frozen: nanobind would report it as leaked, after pytest's closing line."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _no_process_outlives_its_session() -> Iterator[None]:
    """Fail the session (under xdist: the worker's) when a process that a test started is still running.

    Orphans become children of this process, so that none escapes; ended ones stay zombies until it ends.
    """
    adopt_orphans()
    os.environ[MARK] = mark = uuid.uuid4().hex
    yield
    found = leftovers(mark, _starts)
    assert not found, "left running: " + ", ".join(f"{pid}: {at}" for pid, at in found.items())


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests run on asyncio; those of our own concurrency ask for `secondpass.testing.support.ON_BOTH_BACKENDS`."""
    return "asyncio"


@pytest.fixture(scope="session")
def vllm_server() -> Iterator[VllmServer]:
    """A vLLM server with the small model (or the folder TEST_MODEL); fails where none starts.

    In float32: bfloat16 has so few digits that tokens often tie, and then the order of sums decides. In blocks as
    small as a GPU's: the cache shares whole ones, and the CPU build's hold 128 tokens.
    """
    folder = os.environ.get("TEST_MODEL")
    model = Path(folder) if folder else fetch()
    flags = ("--dtype", "float32", "--block-size", "32")
    with serve_vllm(model, extra_args=flags) as server:
        yield server

"""Shared fixtures, and the check that no test leaves a process running."""

import gc
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # before a test freezes the garbage collector, which hypothesis inspects
import pytest

from tests.leftovers import MARK, Starts, leftovers
from tools.fetch_model import fetch
from tools.local_vllm import VllmServer, serve_vllm
from tools.process_tree import adopt_orphans

pytest_plugins = ["secondpass.testing"]
# A separate package, whose tests run in a separate process.
collect_ignore = ["examples/src"]

# A shell starts background jobs with SIGINT ignored, which child processes of tests would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The duration of an example depends on the load of the machine.
hypothesis.settings.register_profile(
    "secondpass", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("secondpass")


_starts = Starts()


def pytest_runtest_logstart(nodeid: str) -> None:
    """Record the start of each test."""
    _starts.add(nodeid)


def pytest_unconfigure() -> None:
    """Unfreeze objects frozen by servers, which nanobind would report as leaks."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _no_process_outlives_its_session() -> Iterator[None]:
    """Fail the session if a process that a test started is still running.

    With xdist, the session of the worker fails. This process adopts orphans, so that all are found. Exited orphans remain zombies until it exits.
    """
    adopt_orphans()
    os.environ[MARK] = mark = uuid.uuid4().hex
    yield
    found = leftovers(mark, _starts)
    assert not found, "left running: " + ", ".join(f"{pid}: {at}" for pid, at in found.items())


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio; concurrency tests use `secondpass.testing.support.ON_BOTH_BACKENDS`."""
    return "asyncio"


@pytest.fixture(scope="session")
def vllm_server() -> Iterator[VllmServer]:
    """A vLLM server with the small model, or the model in the folder TEST_MODEL.

    It uses float32 because logits often tie in bfloat16, so that the order of summation decides. Its block size is that
    of a GPU because the prefix cache shares whole blocks, and the CPU build has blocks of 128 tokens.
    """
    folder = os.environ.get("TEST_MODEL")
    model = Path(folder) if folder else fetch()
    flags = ("--dtype", "float32", "--block-size", "32")
    with serve_vllm(model, extra_args=flags) as server:
        yield server

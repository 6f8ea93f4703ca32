"""vLLM in the process of the tests, as its own server holds it, with its handlers beside it.

It is imported only when it is asked for: most tests run where it is not installed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from prometheus_client import REGISTRY

from tools.fetch_model import fetch
from tools.local_vllm import is_cpu_build, vllm_environment

if TYPE_CHECKING:
    from secondpass.service.engines.vllm.engine import VllmEngine

# Few digits make tokens tie, and then the order of sums decides: float32. Blocks smaller than the CPU build's 128.
FLAGS = (
    *("--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--block-size", "32"),
)


def model_folder() -> str:
    """The small model, or the folder TEST_MODEL."""
    return os.environ.get("TEST_MODEL") or str(fetch())


@contextmanager
def vllm_at_hand(model: str) -> Iterator[None]:
    """What vLLM reads from its environment, and silence about what it and torch deprecate in each other.

    The core is the first one: a server that other tests have started is bound to the rest.
    """
    wanted = {**vllm_environment(model), "VLLM_LOGGING_LEVEL": "WARNING"}
    if is_cpu_build():
        wanted["VLLM_CPU_OMP_THREADS_BIND"] = str(min(os.sched_getaffinity(0)))
    with patch.dict(os.environ, wanted), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@asynccontextmanager
async def in_process_engine(*flags: str) -> AsyncIterator[VllmEngine]:
    """An engine as `secondpass serve --engine vllm` starts it, with vLLM's own handlers behind it."""
    model = model_folder()
    async with AsyncExitStack() as stack:
        with vllm_at_hand(model):
            from secondpass.service.engines.vllm.server import vllm_server  # noqa: PLC0415

            named = ("--served-model-name", Path(model).name)
            server = await stack.enter_async_context(
                vllm_server("vllm", model, (*FLAGS, *named, *flags))
            )
        client = server.engine._client
        assert client is not None
        zmq = client.engine_core.resources.ctx
        del client  # whose destructor fails when it comes as late as the interpreter's end
        yield server.engine
    zmq.destroy(linger=0)  # vLLM leaves it to the garbage collector, which warns of it


def requests_in_core() -> int:
    """Running and waiting requests, as the engine core itself reported them last."""
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return sum(int(sample.value) for sample in samples if sample.name in names)

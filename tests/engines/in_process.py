"""vLLM and its server's handlers in the test process.

vLLM is imported only within functions, because most tests run without it installed.
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

# float32, because with a lower precision tokens tie and the order of summation decides. Smaller blocks than the
# CPU build's 128.
FLAGS = (
    *("--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--block-size", "32"),
)


def model_folder() -> str:
    """Return the folder of the test model: TEST_MODEL, or the small model by default."""
    return os.environ.get("TEST_MODEL") or str(fetch())


@contextmanager
def patched_vllm_environment(model: str) -> Iterator[None]:
    """Set vLLM's environment variables and suppress warnings within the block.

    On CPUs vLLM is bound to the first CPU core: the server of other tests is bound to the others.
    """
    variables = {**vllm_environment(model), "VLLM_LOGGING_LEVEL": "WARNING"}
    if is_cpu_build():
        variables["VLLM_CPU_OMP_THREADS_BIND"] = str(min(os.sched_getaffinity(0)))
    with patch.dict(os.environ, variables), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@asynccontextmanager
async def in_process_engine(*flags: str) -> AsyncIterator[VllmEngine]:
    """Yield an engine as `secondpass serve --engine vllm` starts it, with vLLM's handlers."""
    model = model_folder()
    async with AsyncExitStack() as stack:
        with patched_vllm_environment(model):
            from secondpass.service.engines.vllm.server import vllm_server  # noqa: PLC0415

            named = ("--served-model-name", Path(model).name)
            server = await stack.enter_async_context(
                vllm_server("vllm", model, (*FLAGS, *named, *flags))
            )
        client = server.engine._client
        assert client is not None
        zmq = client.engine_core.resources.ctx
        del client  # its destructor fails at interpreter shutdown
        yield server.engine
    zmq.destroy(linger=0)  # vLLM leaves it to the garbage collector, which then warns


def requests_in_core() -> int:
    """Return the number of running and waiting requests in the engine core's last report."""
    return _metric("vllm:num_requests_running", "vllm:num_requests_waiting")


def tokens_from_core() -> int:
    """Return the number of generated tokens in the engine core's last report."""
    return _metric("vllm:generation_tokens_total")


def _metric(*names: str) -> int:
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return sum(int(sample.value) for sample in samples if sample.name in names)

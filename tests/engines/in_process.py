"""vLLM in the process of the tests, as its own server holds it, with its handlers beside it.

It is imported only when it is asked for: most tests run where it is not installed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from prometheus_client import REGISTRY

from tools.fetch_model import fetch
from tools.local_vllm import is_cpu_build, vllm_environment

if TYPE_CHECKING:
    from secondpass.service.engines.vllm import VllmEngine

# Few digits make tokens tie, and then the order of sums decides: float32. Blocks smaller than the CPU build's 128.
ARGUMENTS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 2048,
    "block_size": 32,
}


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
async def in_process_engine(**arguments: Any) -> AsyncIterator[VllmEngine]:
    """An engine that was launched here, and as a plug-in would make it: with the server's renderer and handlers."""
    model = model_folder()
    async with AsyncExitStack() as stack:
        with vllm_at_hand(model):
            from secondpass.service.engines.vllm import VllmEngine, launched  # noqa: PLC0415

            name = Path(model).name
            arguments = {**ARGUMENTS, "served_model_name": name, **arguments}
            own = await stack.enter_async_context(launched(model, **arguments))
            client = own._client
            assert client is not None
            zmq = client.engine_core.resources.ctx
            app = await _server_of(client, model, name)
        engine = VllmEngine("vllm", client, own.model, online=app.state.online_renderer, plain=app)
        await engine.start()
        yield engine
        await engine.aclose()
    zmq.destroy(linger=0)  # vLLM leaves it to the garbage collector, which warns of it


async def _server_of(client: Any, model: str, name: str) -> Any:
    """vLLM's own application over `client`."""
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state  # noqa: PLC0415
    from vllm.entrypoints.launchers.app import build_app  # noqa: PLC0415
    from vllm.entrypoints.launchers.cli_args import make_arg_parser  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415

    parser = make_arg_parser(FlexibleArgumentParser())
    args = parser.parse_args(["--model", model, "--served-model-name", name])
    tasks = await client.get_supported_tasks()
    app = build_app(args, tasks, client.model_config)
    await init_app_state(client, app.state, args, tasks)
    return app


def requests_in_core() -> int:
    """Running and waiting requests, as the engine core itself reported them last."""
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return sum(int(sample.value) for sample in samples if sample.name in names)

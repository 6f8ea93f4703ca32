"""Throughput of a real vLLM with and without secondpass.

The direct side repeats the requests of the preceding runs. Both sides therefore have the same prompts, sampling, seeds,
output kind and stream interval.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import httpx
from httpx_aiohttp import AiohttpTransport

from benchmarks.pairs import Pairs
from secondpass.service.calls.admission import Admission
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.events import CallFinished, Trace
from secondpass.service.config.settings import Settings
from secondpass.service.engines.openai.connection import KEEP_ALIVE_SECONDS
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec, SharedResources
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Engine
from secondpass.strategies.api.values import Message, Sampling
from tools.local_vllm import VllmServer, is_cpu_build, serve_vllm, vllm_environment
from tools.processes import free_port, serving

RUNS = 2
PARAMS = {"n": 8, "stop": "none"}
MAX_CALLS = 256
START_SECONDS = 60.0
# Few completions of the small model end before the cap, so both sides generate the same number of tokens.
QUESTION = (
    "A farmer has {} sheep and twice as many goats, sells 5 of each and gives a third of what is left to his "
    "neighbour. How many animals does he keep? Explain every step at length, in whole sentences."
)
LENGTH = ("--max-model-len", "2048")
ON_CPU = ("--dtype", "float32", "--enforce-eager")

_WRITTEN = re.compile(rb'"completion_tokens":\s*(\d+)')

Workload = Callable[[], Awaitable[int]]
"""Answer RUNS questions concurrently and return the number of completion tokens."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One execution of a workload: wall time in seconds and completion tokens."""

    seconds: float
    tokens: int

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


async def in_process(model: Path, pairs: int, tokens: int) -> Pairs[Pass]:
    """Measure runs over the in-process engine against plain `generate` calls of its client.

    `tokens` caps each completion.
    """
    from secondpass.service.engines.vllm.engine import VllmEngine  # noqa: PLC0415 - heavy
    from secondpass.service.engines.vllm.server import vllm_server  # noqa: PLC0415

    os.environ |= {"VLLM_LOGGING_LEVEL": "WARNING", **vllm_environment(str(model))}
    flags = (*LENGTH, *(ON_CPU if is_cpu_build() else ()))
    async with vllm_server("vllm", str(model), flags) as server:
        own = server.engine
        client = RecordingClient(own._client)  # noqa: SLF001 - the direct side uses it
        engine = VllmEngine("vllm", client, own.model)
        await engine.start()
        workloads = {
            "direct": client.repeat,
            "through": _runs(engine, tokens, client.recorded_calls.clear),
        }
        measured = await _measure_rounds(workloads, pairs)
        await engine.aclose()
        client.release()
    return Pairs("vLLM in process", measured["direct"], measured["through"])


async def over_http(model: Path, pairs: int, tokens: int) -> tuple[Pairs[Pass], Pairs[Pass]]:
    """Measure runs over the HTTP engine and `/solve` of the service against plain requests to vLLM.

    `tokens` caps each completion. Raises ServerDidNotStart.
    """
    flags = ("--dtype", "float32") if is_cpu_build() else ()
    with serve_vllm(model, extra_args=flags) as server:
        async with _client() as client, _client() as recorded, _service(server) as service:
            requests = RecordedRequests(recorded)
            engine = HttpEngine("vllm", server.base_url, server.model_name, client=recorded)
            await engine.start()
            workloads = {
                "direct": lambda: requests.repeat(client),
                "through": _runs(engine, tokens, requests.recorded_calls.clear),
                "service": lambda: _solves(client, service, tokens),
            }
            measured = await _measure_rounds(workloads, pairs)
    return (
        Pairs("vLLM over HTTP, runs", measured["direct"], measured["through"]),
        Pairs("vLLM over HTTP, service", measured["direct"], measured["service"]),
    )


async def _measure_rounds(workloads: Mapping[str, Workload], rounds: int) -> dict[str, list[Pass]]:
    """Execute every workload once per round, after a warm-up.

    The warm-up is in reverse order because the direct workload repeats the requests of the other ones.
    """
    for workload in reversed(list(workloads.values())):
        await workload()
    measured: dict[str, list[Pass]] = {name: [] for name in workloads}
    for _ in range(rounds):
        for name, workload in workloads.items():
            began = time.perf_counter()
            written = await workload()
            measured[name].append(Pass(time.perf_counter() - began, written))
    return measured


async def _gather_sum(work: Callable[[int], Awaitable[int]], count: int) -> int:
    """Run `work` concurrently for each number below `count` and return the sum of the results."""
    found: list[int] = []

    async def one(number: int) -> None:
        found.append(await work(number))

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, number)
    return sum(found)


# -- through secondpass ---------------------------------------------------------------------------------


def _runs(engine: Engine, tokens: int, begin: Callable[[], None]) -> Workload:
    """Return a workload of runs like those of the service; it calls `begin` first."""
    served = Upstream(engine, Admission(MAX_CALLS))
    shared = SharedResources(Equivalence())

    async def one(number: int) -> int:
        run = LiveRun(_spec(served, number, tokens), shared, Trace())
        await execute(run)
        finished = [event for event in run.trace.events if isinstance(event, CallFinished)]
        return sum(event.usage.completion for event in finished)

    async def workload() -> int:
        begin()
        return await _gather_sum(one, RUNS)

    return workload


def _spec(upstream: Upstream, number: int, tokens: int) -> RunSpec:
    strategy = STRATEGIES["self_consistency"]
    return RunSpec(
        id=f"run-{number}",
        strategy=strategy,
        params=strategy.params.model_validate(PARAMS),
        messages=(Message(role="user", content=QUESTION.format(11 + number)),),
        task=Task(kind="math"),
        upstreams={"actor": upstream, "critic": upstream, "judge": upstream},
        limits=Settings(engine="scripted", model="scripted").operator_maxima,
        sampling=Sampling(seed=number, max_tokens=tokens),
    )


@asynccontextmanager
async def _service(server: VllmServer) -> AsyncIterator[str]:
    """Start the service as a separate process in front of `server` and return its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "secondpass.service", "serve", "--port", str(port)),
        *("--engine", "http", "--engine-url", server.base_url, "--model", server.model_name),
    ]
    log = server.log_path.with_name(f"service-{port}.log")
    with serving("secondpass", command, f"{url}/readyz", log, timeout=START_SECONDS):
        yield url


async def _solves(client: httpx.AsyncClient, service: str, tokens: int) -> int:
    async def one(number: int) -> int:
        body = {
            "question": QUESTION.format(11 + number),
            "strategy": {"name": "self_consistency", "params": PARAMS},
            "sampling": {"max_tokens": tokens, "seed": number},
        }
        reply = (await client.post(f"{service}/solve", json=body)).raise_for_status().json()
        written: int = reply["usage"]["actor"]["completion"]
        return written

    return await _gather_sum(one, RUNS)


# -- direct --------------------------------------------------------------------------------------------


class RecordingClient:
    """A proxy of vLLM's engine client that records its `generate` calls and can repeat them."""

    def __init__(self, client: Any) -> None:
        self.recorded_calls: list[tuple[Any, Any, dict[str, Any]]] = []
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def generate(self, prompt: Any, sampling: Any, request: str, **options: Any) -> Any:
        """Record the call and return the results of the client."""
        self.recorded_calls.append(deepcopy((prompt, sampling, options)))
        return self._client.generate(prompt, sampling, request, **options)

    def release(self) -> None:
        """Drop the reference to the client, whose destructor fails at interpreter shutdown."""
        self._client = None

    async def repeat(self) -> int:
        """Repeat all recorded calls concurrently and return the number of completion tokens."""
        return await _gather_sum(self._generate, len(self.recorded_calls))

    async def _generate(self, number: int) -> int:
        prompt, sampling, options = self.recorded_calls[number]
        written = 0
        async for result in self._client.generate(prompt, sampling, f"direct-{number}", **options):
            written += sum(len(output.token_ids) for output in result.outputs)
        return written


class RecordedRequests:
    """A recorder of the requests of an HTTP client, which can be sent again."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.recorded_calls: list[httpx.Request] = []
        client.event_hooks = {"request": [self._note]}

    async def _note(self, request: httpx.Request) -> None:
        self.recorded_calls.append(request)

    async def repeat(self, client: httpx.AsyncClient) -> int:
        """Send all recorded requests concurrently with `client` and return the number of completion tokens."""

        async def one(number: int) -> int:
            request = self.recorded_calls[number]
            tail = b""
            async with client.stream(
                "POST", request.url, content=request.content, headers=request.headers
            ) as reply:
                async for chunk in reply.raise_for_status().aiter_raw():
                    tail = (tail + chunk)[-4096:]
            return int(_WRITTEN.findall(tail)[-1])

        return await _gather_sum(one, len(self.recorded_calls))


def _client() -> httpx.AsyncClient:
    """Create an HTTP client configured as the one of `HttpEngine`."""

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        return aiohttp.ClientSession(connector=connector)

    return httpx.AsyncClient(
        transport=AiohttpTransport(client=session), trust_env=False, timeout=None
    )

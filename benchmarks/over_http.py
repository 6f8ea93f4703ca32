"""Overhead of the service per request, over real sockets and an upstream with known latency."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.load import Load, Traffic, generate
from benchmarks.mock_upstream import PREFIX
from benchmarks.pairs import Pairs, cpu_seconds, table
from tools.processes import free_port, serving

LATENCIES = (0, 100)
START_SECONDS = 60.0
QUESTION = "What is 6 times 7?"

HEADER = (
    "over HTTP, ms of upstream latency",
    "added ms at p50",
    "p50 ms",
    "p99 ms",
    "requests/s",
    "rate ratio",
    "samples/s",
    "deltas/s",
    "server CPU-ms",
)

CONFIG = """\
[engines.{model}]
kind = "http"
url = "http://127.0.0.1:{port}/v1"
model = "{model}"
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports and process ids of the upstream and the service."""

    upstream: int
    service: int
    upstream_pid: int
    service_pid: int


@dataclass(frozen=True, slots=True)
class Case:
    """Two equivalent traffics. One unit of either draws `samples` completions."""

    name: str
    direct: Traffic
    through: Traffic
    samples: int = 1

    def reduced(self, share: float) -> Case:
        """Return the case scaled by `share`, with at least four units per client and four times the ramp."""

        def fewer(traffic: Traffic) -> Traffic:
            count = max(4 * traffic.clients, round(traffic.count * share))
            seconds = max(4 * traffic.ramp, traffic.seconds * share)
            return replace(traffic, count=count, seconds=seconds)

        return replace(self, direct=fewer(self.direct), through=fewer(self.through))


@dataclass(frozen=True, slots=True)
class Measurement:
    """A load, and the CPU seconds of the server under it."""

    load: Load
    cpu: float


@contextmanager
def running(logs: Path, tokens: int = 16) -> Iterator[Ports]:
    """Run the upstream and the service as separate processes within the block; their logs are in `logs`.

    Raises ServerDidNotStart.
    """
    upstream, service = free_port(), free_port()
    config = logs / "secondpass.toml"
    models = [_model(latency) for latency in LATENCIES]
    config.write_text(
        "".join(CONFIG.format(model=model, port=upstream) for model in models)
        + f'[roles]\nactor = "{models[0]}"\n'
    )
    mock = _python("benchmarks.mock_upstream", "--port", upstream, "--tokens", tokens)
    ours = _python("secondpass.service", "serve", "--config", config, "--port", service)
    with (
        serving(
            "upstream",
            mock,
            f"http://127.0.0.1:{upstream}/health",
            logs / "upstream.log",
            timeout=START_SECONDS,
        ) as upstream_child,
        serving(
            "secondpass",
            ours,
            f"http://127.0.0.1:{service}/readyz",
            logs / "secondpass.log",
            timeout=START_SECONDS,
        ) as service_child,
    ):
        yield Ports(upstream, service, upstream_child.process.pid, service_child.process.pid)


def cases(ports: Ports) -> Iterator[Case]:
    """Yield the cases in the order of the table."""
    for latency, stream, clients, count in (
        (0, False, 1, 400),
        (0, False, 64, 1200),
        (0, True, 1, 300),
        (0, True, 64, 640),
        (100, False, 1, 10),
        (100, False, 64, 1024),
        (100, False, 256, 1536),
        (100, True, 1, 10),
        (100, True, 64, 1024),
    ):
        kind = "stream" if stream else "chat"
        body = _chat(latency, stream=True) if stream else _chat(latency)
        direct = Traffic(
            port=ports.upstream,
            path="/v1/chat/completions",
            body=body,
            clients=clients,
            count=count,
            ramp=latency / 1e3,
        )
        name = f"{kind}, {latency} ms, {clients} cl."
        yield Case(name, direct, replace(direct, port=ports.service))
    yield _solved(ports, "single", 1, clients=1, count=150)
    for n, stop, clients, count in (
        (4, "none", 1, 150),
        (32, "none", 1, 80),
        (4, "lead", 1, 80),
        (32, "lead", 1, 30),
        (16, "none", 32, 256),
        (16, "lead", 32, 96),
    ):
        yield _solved(ports, stop, n, clients=clients, count=count)


def _model(latency: int) -> str:
    return f"{PREFIX}{latency}ms"


def _chat(latency: int, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": _model(latency), "messages": messages, **more}


def _python(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def _solved(ports: Ports, stop: str, n: int, *, clients: int, count: int) -> Case:
    """Return a case of a solve against one request with n samples, or n concurrent requests."""
    sampled: dict[str, Any] = {"name": "self_consistency", "params": {"n": n, "stop": stop}}
    if stop == "lead":
        sampled["params"]["width"] = n
    strategy = "single" if n == 1 else sampled
    drawn = {"lead": "separate", "none": "one call"}.get(stop, "single")
    is_one = stop == "none"
    return Case(
        f"solve {drawn}, {n} samples, {clients} cl." if n > 1 else f"solve single, {clients} cl.",
        Traffic(
            port=ports.upstream,
            path="/v1/chat/completions",
            body=_chat(0, n=n) if is_one else _chat(0),
            clients=clients,
            count=count,
            fan=1 if is_one else n,
        ),
        Traffic(
            port=ports.service,
            path="/solve",
            body={"question": QUESTION, "strategy": strategy},
            clients=clients,
            count=count,
        ),
        samples=n,
    )


async def measure(ports: Ports, case: Case, pairs: int) -> Pairs[Measurement]:
    """Measure both traffics alternately, `pairs` times, after a warm-up. Raises BadReply."""
    for traffic in (case.direct, case.through):
        await generate(traffic.warmup())
    direct, through = [], []
    for _ in range(pairs):
        direct.append(await _measured(case.direct, ports.upstream_pid))
        through.append(await _measured(case.through, ports.service_pid))
    return Pairs(case.name, direct, through)


async def _measured(traffic: Traffic, server: int) -> Measurement:
    before = cpu_seconds(server)
    load = await generate(traffic)
    return Measurement(load, cpu_seconds(server) - before)


def report(measured: Sequence[tuple[Case, Pairs[Measurement]]]) -> str:
    """Return the table: `a → b` is direct → through; brackets contain the extremes of the pairs."""
    return table(HEADER, (_row(case, pairs) for case, pairs in measured))


def _row(case: Case, pairs: Pairs[Measurement]) -> tuple[str, ...]:
    added = pairs.compared(lambda one, other: other.load.median - one.load.median)
    ratio = pairs.compared(lambda one, other: other.load.rate / one.load.rate)
    rates = pairs.medians(lambda one: one.load.rate)
    deltas = pairs.medians(lambda one: one.load.deltas / one.load.seconds)
    return (
        pairs.name,
        added.shown(".2f"),
        _both(pairs.medians(lambda one: one.load.median), ".2f"),
        _both(pairs.medians(lambda one: one.load.percentile(99)), ".1f"),
        _both(rates, ".0f"),
        ratio.shown(".2f"),
        f"{rates[1] * case.samples:.0f}",
        _both(deltas, ".0f") if all(deltas) else "",
        _both(tuple(_cpu_ms(side) for side in (pairs.direct, pairs.through)), ".2f"),
    )


def _both(values: tuple[float, ...], form: str) -> str:
    return " → ".join(f"{value:{form}}" for value in values)


def _cpu_ms(blocks: Sequence[Measurement]) -> float:
    """CPU milliseconds per unit over all blocks, because one block may be shorter than a clock tick."""
    return sum(one.cpu for one in blocks) / sum(len(one.load.latencies) for one in blocks) * 1e3

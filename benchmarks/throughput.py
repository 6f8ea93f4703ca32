"""Throughput of self-consistency with eight samples per question, direct and through runs.

The two sides alternate. Only ratios are meaningful, because all processes share the machine. All servers listen on
127.0.0.1 and stop when the benchmark ends.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from benchmarks import in_process, on_vllm
from benchmarks.pairs import Pairs, table
from tools.fetch_model import FetchError, fetch
from tools.processes import ServerDidNotStart

PARTS = ("scripted", "in-process", "http")
SCRIPTED = in_process.CASES[1]

HEADER = (
    "self_consistency, n = 8, stop none",
    "tokens a pass",
    "tokens/s direct",
    "tokens/s through",
    "rate ratio",
    "at least",
    "target",
    "met",
)


class Rated(Protocol):
    """A measurement with a rate in tokens per second."""

    @property
    def rate(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Result:
    """Pairs of one part, and the targets for the median ratio and for its lower bound."""

    pairs: Pairs[Any]
    tokens: tuple[float, float]
    ratio: float
    bound: float = 0.0

    @property
    def lower_bound(self) -> float:
        """One-sided 95% lower bound of the median ratio."""
        return self.pairs.lower_bound(_ratio)

    @property
    def is_met(self) -> bool:
        """True if the median ratio and its lower bound reach their targets."""
        return self.pairs.compared(_ratio).middle >= self.ratio and self.lower_bound >= self.bound


def _ratio(direct: Rated, through: Rated) -> float:
    return through.rate / direct.rate


async def measure(parts: Sequence[str], pairs: int, share: float) -> AsyncIterator[Result]:
    """Yield the results of `parts`, each with `pairs` pairs at `share` of the full completion length."""
    if "scripted" in parts:
        scripted = await in_process.measure(SCRIPTED, pairs, max(8, round(128 * share)))
        yield Result(scripted, scripted.medians(lambda one: one.deltas), 0.9)
    cap = max(8, round(64 * share))
    if "in-process" in parts:
        embedded = await on_vllm.in_process(fetch(), pairs, cap)
        yield Result(embedded, embedded.medians(lambda one: one.tokens), 0.97, 0.94)
    if "http" in parts:
        for sent in await on_vllm.over_http(fetch(), pairs, cap):
            yield Result(sent, sent.medians(lambda one: one.tokens), 0.95)


def report(results: Sequence[Result]) -> str:
    """Return the table; brackets contain the extremes of the pairs."""
    return table(HEADER, map(_row, results))


def _row(result: Result) -> tuple[str, ...]:
    pairs = result.pairs
    rates = pairs.medians(lambda one: one.rate)
    return (
        pairs.name,
        " → ".join(f"{tokens:.0f}" for tokens in result.tokens),
        *(f"{rate:.0f}" for rate in rates),
        pairs.compared(_ratio).shown(".3f"),
        f"{result.lower_bound:.3f}",
        f"{result.ratio}" + (f", at least {result.bound}" if result.bound else ""),
        "yes" if result.is_met else "no",
    )


async def _all(parts: Sequence[str], pairs: int, share: float) -> list[Result]:
    return [result async for result in measure(parts, pairs, share)]


def main() -> None:
    """Print the table and its method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--pairs", type=int, help="pairs per part (default: 15; 2 with --quick)")
    parser.add_argument(
        "--quick", action="store_true", help="limit completions to a quarter of the length"
    )
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="measure this part only; may be repeated"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args()
    parts = options.only or PARTS
    if find_spec("vllm") is None and set(parts) != {"scripted"}:
        sys.exit("throughput: vLLM is not installed: use --only scripted, or install it")
    pairs = options.pairs or (2 if options.quick else 15)
    began = time.monotonic()
    try:
        results = asyncio.run(_all(parts, pairs, 0.25 if options.quick else 1.0))
    except (FetchError, ServerDidNotStart) as error:
        sys.exit(f"throughput: {error}")
    print(
        f"\n{report(results)}\n\nMedians of {pairs} interleaved pairs, extremes in brackets, direct → through secondpass; "
        "`at least` is the one-sided 95% bootstrap lower bound of the median ratio; "
        f"{time.monotonic() - began:.0f} s in all."
    )
    if options.check and not all(result.is_met for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()

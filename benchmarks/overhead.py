"""Overhead of the service: each case is measured directly and through secondpass, alternately.

Only ratios and differences are meaningful, because load generator, upstream and service share the machine. All servers
listen on 127.0.0.1 and stop when the benchmark ends.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import in_process, over_http
from benchmarks.load import BadReply
from tools.processes import ServerDidNotStart


async def compare(pairs: int, share: float) -> None:
    """Measure every case with `pairs` pairs at `share` of its full size, and print the tables."""
    runs = []
    for run in in_process.CASES:
        _print_progress(run.name)
        runs.append(await in_process.measure(run, pairs, max(8, round(128 * share))))
    print(f"\n{in_process.report(runs)}\n", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="overhead-") as logs,
        over_http.running(Path(logs)) as ports,
    ):
        requests = []
        for full in over_http.cases(ports):
            _print_progress(full.name)
            case = full.reduced(share)
            requests.append((case, await over_http.measure(ports, case, pairs)))
    print(f"\n{over_http.report(requests)}", flush=True)


def _print_progress(name: str) -> None:
    if sys.stderr.isatty():
        print(f"{name} ...", file=sys.stderr)


def main() -> None:
    """Print the tables and their method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--pairs", type=int, help="pairs per case (default: 5; 2 with --quick)")
    parser.add_argument("--quick", action="store_true", help="send about a seventh of the requests")
    options = parser.parse_args()
    pairs = options.pairs or (2 if options.quick else 5)
    began = time.monotonic()
    try:
        asyncio.run(compare(pairs, 0.15 if options.quick else 1.0))
    except (BadReply, ServerDidNotStart) as error:
        sys.exit(f"overhead: {error}")
    print(
        f"\nMedians of {pairs} interleaved pairs, extremes in brackets, direct → through secondpass; "
        f"{time.monotonic() - began:.0f} s in all."
    )


if __name__ == "__main__":
    main()

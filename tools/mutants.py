"""Measure the tests: how many of a seeded sample of mutants do they kill?

    python -m tools.mutants --seed 7 --source service/calls --tests tests/calls --require 90

Run it in the checkout, which is only read: each job works in a temporary copy. A mutant is killed when a test fails,
or when the tests take three times as long as without a mutant, and at least ten seconds. Every survivor is printed as
a diff. The same seed, source and tests give the same result. `tools.mutation` describes the mutants.
"""

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue

from tools.demo import Failed, Signals, Stopped
from tools.mutation import Mutant, mutants, sample
from tools.processes import Child

SOURCES = ("service/runs", "service/calls")
TESTS = ("tests/runs", "tests/calls")
SLOWER = 3
LEAST_SECONDS = 10.0
POLL_SECONDS = 0.05
LOG_CHARACTERS = 4000


class Outcome(StrEnum):
    """What the tests did to a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Result:
    """What one run of the tests found, and the seconds it took."""

    outcome: Outcome
    seconds: float


class Workspace:
    """A copy of the checkout in `folder`, in which one mutant at a time is tested."""

    def __init__(self, folder: Path, seed: int, signals: Signals) -> None:
        self._folder, self._seed, self._signals = folder, seed, signals
        self._checkout, self._log = folder / "checkout", folder / "log"
        self._writes = 0
        ignored = shutil.ignore_patterns(".*", "__pycache__")
        shutil.copytree(Path.cwd(), self._checkout, symlinks=True, ignore=ignored)

    def measure(self, tests: Sequence[str]) -> float:
        """The seconds that the tests take without a mutant. Raises Failed if one of them fails."""
        result = self._run(tests, limit=None)
        if result.outcome is not Outcome.SURVIVED:
            end = self._log.read_text(encoding="utf-8")[-LOG_CHARACTERS:]
            raise Failed(f"the tests fail without a mutant:\n{end}")
        return result.seconds

    def test(self, mutant: Mutant, tests: Sequence[str], limit: float) -> Result:
        """Run the tests on the mutant, for at most `limit` seconds."""
        path = self._checkout / mutant.path
        self._write(path, mutant.mutated)
        try:
            return self._run(nearest_first(mutant.path, tests), limit)
        finally:
            self._write(path, mutant.text)

    def _write(self, path: Path, text: str) -> None:
        """Write a module with a time of change of its own: bytecode is taken for that of the same time and size."""
        path.write_text(text, encoding="utf-8")
        self._writes += 1
        os.utime(path, (self._writes, self._writes))

    def _run(self, tests: Sequence[str], limit: float | None) -> Result:
        self._signals.check()
        command = [
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *("-m", "not vllm and not slow", f"--hypothesis-seed={self._seed}"),
            *(f"--basetemp={self._folder / 'tmp'}", *tests),
        ]
        shutil.rmtree(self._checkout / ".hypothesis", ignore_errors=True)  # an earlier mutant's
        environment = {"PYTHONPATH": str(self._checkout), "PYTHONHASHSEED": "0"}
        start = time.monotonic()
        child = Child.start("pytest", command, self._log, environment, self._checkout)
        try:
            while (status := child.exit_status()) is None:
                self._signals.check()
                if limit is not None and time.monotonic() - start > limit:
                    return Result(Outcome.TIMED_OUT, limit)
                time.sleep(POLL_SECONDS)
        finally:
            child.stop(grace=0)
        outcome = Outcome.KILLED if status else Outcome.SURVIVED
        return Result(outcome, time.monotonic() - start)


def nearest_first(path: str, tests: Sequence[str]) -> list[str]:
    """The tests, those that mirror the module at `path` first, then those that name it, then the rest."""
    module = Path(path)
    dotted = f"{module.parent.name}.{module.stem}"

    def distance(test: str) -> int:
        file = Path(test.partition("::")[0])
        if file.name == f"test_{module.stem}.py":
            return 0
        return 1 if dotted in file.read_text(encoding="utf-8") else 2

    return sorted(tests, key=distance)


def modules_in(sources: Sequence[str]) -> dict[str, str]:
    """The text of each module below the folders, by path. Raises Failed for a folder without modules."""
    found: dict[str, str] = {}
    for source in sources:
        paths = [Path(source)] if source.endswith(".py") else sorted(Path(source).rglob("*.py"))
        if not paths:
            raise Failed(f"{source} has no modules")
        found |= {path.as_posix(): path.read_text(encoding="utf-8") for path in paths}
    return found


def files_of(tests: Sequence[str]) -> list[str]:
    """The test files of the folders, and what is no folder as it is. Raises Failed for a path that does not exist."""
    found: list[str] = []
    for test in tests:
        path = Path(test.partition("::")[0])
        if not path.exists():
            raise Failed(f"{test} does not exist")
        found += map(str, sorted(path.rglob("test_*.py"))) if path.is_dir() else [test]
    return found


def results(
    chosen: Sequence[Mutant], workspaces: Sequence[Workspace], tests: Sequence[str], limit: float
) -> Iterator[tuple[Mutant, Result]]:
    """Test the mutants, one at a time in each workspace, in the order in which they finish."""
    idle: SimpleQueue[Workspace] = SimpleQueue()
    for workspace in workspaces:
        idle.put(workspace)

    def test(mutant: Mutant) -> tuple[Mutant, Result]:
        workspace = idle.get()
        try:
            return mutant, workspace.test(mutant, tests, limit)
        finally:
            idle.put(workspace)

    with ThreadPoolExecutor(len(workspaces)) as pool:
        for done in as_completed([pool.submit(test, mutant) for mutant in chosen]):
            yield done.result()


def measure(options: argparse.Namespace, folder: Path) -> float:
    """Print what the tests do to each mutant, and the survivors; the share that was killed, in percent.

    Raises Failed where there is nothing to measure, Stopped by a signal.
    """
    signals = Signals()
    modules, tests = modules_in(options.source), files_of(options.tests)
    every = [mutant for path, text in modules.items() for mutant in mutants(path, text)]
    chosen = sample(every, options.count, options.seed)
    if not chosen:
        raise Failed("nothing to mutate")
    scope = f"{len(chosen)} of {len(every)} mutants of {len(modules)} modules"
    print(f"seed {options.seed}: {scope}", flush=True)
    workspaces = [
        Workspace(folder / str(job), options.seed, signals) for job in range(options.jobs)
    ]
    with ThreadPoolExecutor(options.jobs) as pool:  # at once: as slow as they will be
        slowest = max(pool.map(lambda workspace: workspace.measure(tests), workspaces))
    limit = options.timeout or max(LEAST_SECONDS, SLOWER * slowest)
    print(f"the tests pass in {slowest:.1f} s; a mutant has {limit:.0f} s", flush=True)
    outcomes: Counter[Outcome] = Counter()
    survivors = []
    for number, (mutant, result) in enumerate(results(chosen, workspaces, tests, limit), 1):
        outcomes[result.outcome] += 1
        if result.outcome is Outcome.SURVIVED:
            survivors.append(mutant)
        place = f"{mutant.path}:{mutant.line}"
        took = f"{result.outcome}, {result.seconds:.1f} s"
        print(f"[{number}/{len(chosen)}] {place}: {mutant.operator}: {took}", flush=True)
    for mutant in sorted(survivors, key=lambda mutant: (mutant.path, mutant.edit)):
        print(f"\nsurvived: {mutant.operator}, line {mutant.line}\n{mutant.diff()}", end="")
    killed = len(chosen) - len(survivors)
    score = 100 * killed / len(chosen)
    print(
        f"\nkilled {killed} of {len(chosen)} ({score:.1f}%), "
        f"{outcomes[Outcome.TIMED_OUT]} of them timed out; seed {options.seed}"
    )
    return score


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="tools.mutants", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seed", type=int, default=secrets.randbelow(1_000_000), help="default: a new one")
    add("--count", type=int, default=60, help="mutants to test; default: %(default)s")
    add("--source", nargs="+", default=SOURCES, metavar="PATH", help="folders or modules to mutate")
    add("--tests", nargs="+", default=TESTS, metavar="PATH", help="folders or files of tests")
    add("--timeout", type=float, metavar="SECONDS", help="limit for one mutant's tests")
    add("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="mutants at a time")
    add("--require", type=float, default=0.0, metavar="PERCENT", help="exit 1 below this score")
    return parser.parse_args(arguments)


def main() -> int:
    """The exit status: 1 for a failure or a score below the required one, 128 + the number of a signal."""
    options = parse()
    try:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            score = measure(options, Path(folder))
    except Failed as failure:
        print(f"tools.mutants: {failure}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"ended by {stopped}; nothing is left running", flush=True)
        return 128 + stopped.number
    if score < options.require:
        print(f"tools.mutants: {score:.1f}% is below {options.require:g}%", file=sys.stderr)
    return int(score < options.require)


if __name__ == "__main__":
    sys.exit(main())

"""Mutation score: the share of a seeded sample of mutants that the tests kill.

    python -m tools.mutants --seed 7 --source service/calls --tests tests/calls --require 90

Run it in the checkout, which is only read: each job works in a temporary copy without hidden folders. Every survivor is
printed as a diff. The result is deterministic for a seed, source and tests. `tools.mutation` describes the mutants.

A mutant is killed when

- a test fails, or cannot be collected (pytest's exit statuses 1 and 2)
- a conftest or a plug-in cannot be imported (4 and 3, with pytest's message)
- a signal ends pytest
- the tests exceed three times their duration without a mutant, at least ten seconds (`--timeout` sets the limit)

Any other status of pytest, such as a usage error, is a measurement error. The mutant then counts neither as killed nor
as survived, the end of pytest's output is printed, and the exit status is 1.
"""

import argparse
import ast
import codecs
import math
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue

from tools.demo import Failed, Signals, Stopped
from tools.mutation import Mutant, mutants, sample
from tools.process_tree import adopt_orphans, end_descendants
from tools.processes import Child

SOURCES = ("service/runs", "service/calls")
TESTS = ("tests/runs", "tests/calls")
SLOWDOWN = 3
MIN_SECONDS = 10.0
POLL_SECONDS = 0.05
INTERRUPT_SECONDS = 5.0  # for tests to clean up before they are killed
KILL_SECONDS = 10.0
LOG_CHARACTERS = 4000
FAILED = frozenset({1, 2})
SIGNALLED = 128  # or more: exit status of `tools.supervise` if a signal ended pytest
CANNOT_BE_IMPORTED = (
    "\nImportError while loading conftest ",
    "\nError while loading plugin ",
    "\nERROR: Error importing plugin ",
)
"""Prefixes of pytest's message for import errors, which it exits with as usage or internal errors."""


class Outcome(StrEnum):
    """Outcome of testing one mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    TIMED_OUT = "timed out"
    ERROR = "not tested"


@dataclass(frozen=True)
class Result:
    """Outcome and duration in seconds of one test run, and for an error the end of pytest's output."""

    outcome: Outcome
    seconds: float
    error: str = ""


class BadOption(Exception):
    """An option has an invalid value. The message names the option and the allowed values."""


class Workspace:
    """A copy of the checkout in `folder` that tests one mutant at a time."""

    def __init__(self, folder: Path, seed: int, signals: Signals) -> None:
        self._folder, self._seed, self._signals = folder, seed, signals
        self._checkout, self._log = folder / "checkout", folder / "log"
        self._writes = 0
        ignored = shutil.ignore_patterns(".*", "__pycache__")
        shutil.copytree(Path.cwd(), self._checkout, symlinks=True, ignore=ignored)

    def measure(self, tests: Sequence[str]) -> float:
        """Return the duration of the tests without a mutant in seconds. Raises Failed if one fails."""
        result = self._run(tests, limit=None)
        if result.outcome is not Outcome.SURVIVED:
            end = self._output()[-LOG_CHARACTERS:]
            raise Failed(f"the tests fail without a mutant:\n{result.error or end}")
        return result.seconds

    def test(self, mutant: Mutant, tests: Sequence[str], limit: float) -> Result:
        """Run the tests on the mutant for at most `limit` seconds."""
        path = self._checkout / mutant.path
        original = path.read_bytes()
        bom = codecs.BOM_UTF8 if original.startswith(codecs.BOM_UTF8) else b""
        self._write(path, bom + mutant.mutated.encode())
        try:
            return self._run(nearest_first(mutant.path, tests), limit)
        finally:
            self._write(path, original)

    def _write(self, path: Path, content: bytes) -> None:
        """Write a module with a unique mtime, because Python reuses bytecode if mtime and size match."""
        path.write_bytes(content)
        self._writes += 1
        os.utime(path, (self._writes, self._writes))

    def _run(self, tests: Sequence[str], limit: float | None) -> Result:
        self._signals.check()
        command = [
            *(sys.executable, "-m", "tools.supervise", str(INTERRUPT_SECONDS)),
            *("env", "-C", str(self._checkout), f"PYTHONPATH={self._checkout}", "PYTHONHASHSEED=0"),
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *("-m", "not vllm and not slow", f"--hypothesis-seed={self._seed}"),
            *(f"--basetemp={self._folder / 'tmp'}", *tests),
        ]
        shutil.rmtree(self._checkout / ".hypothesis", ignore_errors=True)  # of an earlier mutant
        start = time.monotonic()
        child = Child.start("pytest", command, self._log)
        try:
            while (status := child.exit_status()) is None:
                self._signals.check()
                if limit is not None and time.monotonic() - start > limit:
                    return Result(Outcome.TIMED_OUT, limit)
                time.sleep(POLL_SECONDS)
        finally:
            child.stop(INTERRUPT_SECONDS + KILL_SECONDS)
        return self._result(status, time.monotonic() - start)

    def _result(self, status: int, seconds: float) -> Result:
        """Classify pytest's exit status as described in the module docstring."""
        output = self._output()
        if status == 0:
            return Result(Outcome.SURVIVED, seconds)
        cannot_be_imported = any(text in f"\n{output}" for text in CANNOT_BE_IMPORTED)
        if status in FAILED or status >= SIGNALLED or (status in (3, 4) and cannot_be_imported):
            return Result(Outcome.KILLED, seconds)
        end = f"pytest's exit status is {status}:\n{output[-LOG_CHARACTERS:]}"
        return Result(Outcome.ERROR, seconds, end)

    def _output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


def nearest_first(path: str, tests: Sequence[str]) -> list[str]:
    """Sort tests: those that mirror the module at `path`, then those that name it, then the rest."""
    module = Path(path)
    dotted = f"{module.parent.name}.{module.stem}"

    def distance(test: str) -> int:
        file = Path(test.partition("::")[0])
        if file.name == f"test_{module.stem}.py":
            return 0
        return 1 if dotted in file.read_text(encoding="utf-8") else 2

    return sorted(tests, key=distance)


def in_checkout(option: str, given: str) -> Path:
    """Resolve a path of `option`, including links, relative to the checkout.

    Raises BadOption if it does not exist or is outside of the checkout.
    """
    path = Path(given).resolve()
    if not path.exists():
        raise BadOption(f"argument {option}: {given} does not exist")
    if not path.is_relative_to(Path.cwd()):
        raise BadOption(f"argument {option}: {given} is outside of the checkout {Path.cwd()}")
    return path.relative_to(Path.cwd())


def files_below(path: Path, pattern: str) -> list[Path]:
    """Return `path` if it is a file, or the matching files in the folder, except hidden ones."""
    found = sorted(path.rglob(pattern)) if path.is_dir() else [path]
    return [file for file in found if not any(part.startswith(".") for part in file.parts)]


def modules_in(sources: Sequence[str]) -> dict[str, str]:
    """Return the text of each module in the sources, by path relative to the checkout.

    Raises BadOption for a path without modules or outside of the checkout, and for a module that cannot be parsed.
    """
    found: dict[str, str] = {}
    for source in sources:
        paths = files_below(in_checkout("--source", source), "*.py")
        if not paths or paths[0].suffix != ".py":
            raise BadOption(f"argument --source: {source} has no modules")
        for path in paths:
            module = in_checkout("--source", str(path))
            found[module.as_posix()] = text_of(module)
    return found


def text_of(module: Path) -> str:
    """Return the text of a module without byte order mark. Raises BadOption if it is not Python in UTF-8."""
    try:
        text = module.read_text(encoding="utf-8-sig")
        ast.parse(text)
    except UnicodeDecodeError as error:
        raise BadOption(f"argument --source: {module} is not UTF-8: {error}") from error
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        raise BadOption(f"argument --source: {module} is not Python: {error}") from error
    return text


def files_of(tests: Sequence[str]) -> list[str]:
    """Return the test files in the folders, and the given files and node ids, relative to the checkout.

    Raises BadOption for a path that does not exist or is outside of the checkout, and for a folder without tests.
    """
    found: list[str] = []
    for test in tests:
        name, separator, node = test.partition("::")
        files = files_below(in_checkout("--tests", name), "test_*.py")
        if not files:
            raise BadOption(f"argument --tests: {test} has no test_*.py")
        found += [f"{file.as_posix()}{separator}{node}" for file in files]
    return found


def results(
    chosen: Sequence[Mutant], workspaces: Sequence[Workspace], tests: Sequence[str], limit: float
) -> Generator[tuple[Mutant, Result]]:
    """Test one mutant at a time per workspace and yield results as they complete, until closed."""
    idle: SimpleQueue[Workspace] = SimpleQueue()
    for workspace in workspaces:
        idle.put(workspace)

    def test(mutant: Mutant) -> tuple[Mutant, Result]:
        workspace = idle.get()
        try:
            return mutant, workspace.test(mutant, tests, limit)
        finally:
            idle.put(workspace)

    pool = ThreadPoolExecutor(len(workspaces))
    try:
        for done in as_completed([pool.submit(test, mutant) for mutant in chosen]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def limit_for(timeout: float | None, slowest: float) -> float:
    """Return the time limit per mutant in seconds. Raises BadOption if it is below the tests' duration."""
    if timeout is None:
        return max(MIN_SECONDS, SLOWDOWN * slowest)
    if timeout < slowest:
        duration = f"the {slowest:.1f} s that the tests take without a mutant"
        raise BadOption(f"argument --timeout: must be at least {duration}, not {timeout:g} s")
    return timeout


def measure(options: argparse.Namespace, folder: Path) -> float:
    """Print the outcome of each mutant and the survivors, and return the score in percent.

    Raises Failed if no mutants exist or pytest fails, BadOption, or Stopped after a signal.
    """
    signals = Signals()
    modules, tests = modules_in(options.source), files_of(options.tests)
    every = [mutant for path, text in modules.items() for mutant in mutants(path, text)]
    chosen = sample(every, options.count, options.seed)
    if not chosen:
        raise Failed("the source contains nothing to mutate")
    scope = f"{len(chosen)} of {len(every)} mutants of {len(modules)} modules"
    print(f"seed {options.seed}: {scope}", flush=True)
    workspaces = [
        Workspace(folder / str(job), options.seed, signals) for job in range(options.jobs)
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        slowest = max(pool.map(lambda workspace: workspace.measure(tests), workspaces))
    limit = limit_for(options.timeout, slowest)
    print(f"the tests pass in {slowest:.1f} s; the limit per mutant is {limit:.0f} s", flush=True)
    found = []
    with closing(results(chosen, workspaces, tests, limit)) as tested:
        for number, (mutant, result) in enumerate(tested, 1):
            found.append((mutant, result))
            location = f"{mutant.path}:{mutant.line}"
            outcome = f"{result.outcome}, {result.seconds:.1f} s"
            print(f"[{number}/{len(chosen)}] {location}: {mutant.operator}: {outcome}", flush=True)
    return report(found, options.seed)


def report(found: Sequence[tuple[Mutant, Result]], seed: int) -> float:
    """Print survivors and score; return the score in percent. Raises Failed if a mutant was not tested."""
    outcomes = Counter(result.outcome for _, result in found)
    for mutant, result in sorted(found, key=lambda pair: (pair[0].path, pair[0].edit)):
        if result.outcome is Outcome.SURVIVED:
            print(f"\nsurvived: {mutant.operator}, line {mutant.line}\n{mutant.diff()}", end="")
        elif result.outcome is Outcome.ERROR:
            print(f"\n{result.outcome}: {mutant.operator}\n{mutant.diff()}{result.error}")
    tested = len(found) - outcomes[Outcome.ERROR]
    killed = tested - outcomes[Outcome.SURVIVED]
    score = 100 * killed / max(1, tested)
    print(
        f"\nkilled {killed} of {tested} ({score:.1f}%), "
        f"{outcomes[Outcome.TIMED_OUT]} of them timed out; seed {seed}"
    )
    if tested < len(found):
        raise Failed(f"pytest could not test {len(found) - tested} of {len(found)} mutants")
    return score


def count(text: str) -> int:
    """Parse an integer of at least 1. Raises ArgumentTypeError."""
    with suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {text}")


def seconds(text: str) -> float:
    """Parse a finite number above 0. Raises ArgumentTypeError."""
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text}")


def percent(text: str) -> float:
    """Parse a number from 0 to 100. Raises ArgumentTypeError."""
    with suppress(ValueError):
        if 0 <= (number := float(text)) <= 100:
            return number
    raise argparse.ArgumentTypeError(f"must be a number from 0 to 100, not {text}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line. Exits with status 2 if it is invalid."""
    parser = argparse.ArgumentParser(prog="tools.mutants", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--seed",
        type=int,
        default=secrets.randbelow(1_000_000),
        help="seed of the sample; default: random",
    )
    add("--count", type=count, default=60, help="mutants to test; default: %(default)s")
    add("--source", nargs="+", default=SOURCES, metavar="PATH", help="folders or modules to mutate")
    add("--tests", nargs="+", default=TESTS, metavar="PATH", help="folders or files of tests")
    add("--timeout", type=seconds, metavar="SECONDS", help="time limit per mutant")
    add("--jobs", type=count, default=max(1, (os.cpu_count() or 1) // 2), help="concurrent mutants")
    add("--require", type=percent, default=0.0, metavar="PERCENT", help="required score")
    return parser.parse_args(arguments)


def main() -> int:
    """Measure the score and return the exit status.

    1: a failure or a score below `--require`. 2: an invalid option. 128 plus the signal number: a signal.
    """
    options = parse()
    adopt_orphans()
    left = {}
    try:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            try:
                score = measure(options, Path(folder))
            finally:
                left = end_descendants(KILL_SECONDS)
    except BadOption as error:
        print(f"tools.mutants: error: {error}", file=sys.stderr)
        return 2
    except Failed as failure:
        print(f"tools.mutants: {failure}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        pids = ", ".join(map(str, left)) or "none"
        print(f"stopped by {stopped}; processes left running: {pids}", flush=True)
        return 128 + stopped.number
    if score < options.require:
        print(f"tools.mutants: {score:.1f}% is below {options.require:g}%", file=sys.stderr)
    return int(score < options.require)


if __name__ == "__main__":
    sys.exit(main())

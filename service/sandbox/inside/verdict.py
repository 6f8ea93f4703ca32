"""Verdict of the test process: the tests passed, the code failed them, or they could not be run."""

from __future__ import annotations

import ast
import math
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .collection import NO_PYTEST, TestRun, TestsUnrunnable, Unexplained
from .dependence import Dependence
from .names import seen_names
from .nulls import KINDS, Kind, null_names
from .proxy import CandidateBroken, CandidateProcess
from .source import FILE_NAME, TestSource
from .unshared import unshared_state
from .wire import MAX_ERROR_CHARACTERS, Json

NULL_SECONDS = 2.0
"""Seconds for the tests of one null candidate; tests that need longer do not accept it."""

SITE_PACKAGES = "/site-packages"
"""Read-only folder of third-party packages for the tests."""

_ASSERTS_NOTHING = (
    "they assert nothing about the code: a candidate that computes nothing would pass"
)

_TOO_MANY = (
    "they leave so many threads or processes that no other can start to check what they assert"
)

Verdict = tuple[str, str]


class CodeFailed(Exception):
    """The code cannot be tested, because it raised or defines too little. The message contains the reason."""


def run_tests(link: socket.socket, job: Json, progress: Callable[[str], None]) -> Verdict:
    """Run the tests in `job` against the candidate at the other end of `link`; return status and reason.

    The status is "passed", "failed" or "error"; the latter if the tests could not be run, or assert nothing about the code.
    `progress` is called with "loaded" when the code has run, and with "called" before the tests first use it.
    """
    try:
        source = _parsed(job)
        candidate = CandidateProcess(link, lambda: progress("called"))
        names = _loaded_names(candidate, job["entry_point"])
        job["named"] = job["entry_point"]
        job["entry_point"] = _entry_point(job, source, names)
        progress("loaded")
        _install(job["tests"])
        return _Verdicts(source, candidate, names, job).verdict()
    except TestsUnrunnable as error:
        return "error", str(error)
    except CodeFailed as error:
        return "failed", str(error)


def _parsed(job: Json) -> TestSource:
    """Parse tests; a session of doctest examples becomes a docstring. Raises TestsUnrunnable."""
    tests: str = job["tests"]
    is_session = any(line.lstrip().startswith(">>> ") for line in tests.splitlines())
    try:
        source = TestSource(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if not is_session:
            raise TestsUnrunnable(f"the tests are not valid Python: {error}") from error
        source = TestSource(repr(tests))
    return source


def _entry_point(job: Json, source: TestSource, names: dict[str, Any]) -> str | None:
    """Return the name of the function that `check` tests, or None if the tests call it.

    Raises TestsUnrunnable if it is unknown. Without a given name it is the only public function of the code, or any name if `check` ignores its parameter.
    """
    given: str | None = job["entry_point"]
    if given is not None or not source.has_uncalled_check():
        return given
    body = ast.parse(job["code"]).body
    defined = (
        n for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    )
    public = [n.name for n in defined if n.name in names and not n.name.startswith("_")]
    if len(public) == 1 or (public and source.ignores_argument("check")):
        return public[-1]
    raise TestsUnrunnable("the tests define check but never call it: end them with check(NAME)")


def _loaded_names(candidate: CandidateProcess, entry_point: str | None) -> dict[str, Any]:
    """Return the names that the code defines. Raises CodeFailed if it raised, or lacks the entry point."""
    try:
        names = candidate.names()
    except BaseException as error:  # noqa: BLE001 - the code may raise anything
        raise CodeFailed(_message(error)) from None
    if entry_point is not None and not callable(names.get(entry_point)):
        raise CodeFailed(f"the code does not define {entry_point}")
    return names


def _install(tests: str) -> None:
    """Make third-party packages importable, and write the tests to the file that they are run as."""
    if Path(SITE_PACKAGES).is_dir():
        sys.path.append(SITE_PACKAGES)
    with suppress(OSError):
        Path(FILE_NAME).write_text(tests, encoding="utf-8", errors="replace")


class _Verdicts:
    """Verdict of the tests on the code, from their errors with it and with null candidates."""

    def __init__(
        self, source: TestSource, candidate: CandidateProcess, names: dict[str, Any], job: Json
    ) -> None:
        self._source = source
        self._candidate = candidate
        self._names = names
        self._entry: str | None = job["entry_point"]
        self._code: str = job["code"]
        self._seen = seen_names(source, self._code, names.keys(), job["named"])
        self._dependence = Dependence(source, names, self._seen, self._entry)
        candidate.comparable = source.expected_names(self._dependence.modules) & names.keys()

    def verdict(self) -> Verdict:
        """Run the tests and return the verdict. Raises TestsUnrunnable."""
        found = self._errors(self._names)
        if self._candidate.misuse or self._candidate.broken or found:
            return self._failed(found)
        if any(not self._is_accepted(kind) for kind in KINDS):
            return "passed", ""
        raise TestsUnrunnable(_ASSERTS_NOTHING)

    def _errors(self, names: dict[str, Any]) -> list[BaseException]:
        run = TestRun(self._source, self._dependence, names, self._seen)
        return run.run(None if self._entry is None else names[self._entry])

    def _failed(self, found: list[BaseException]) -> Verdict:
        """Return the verdict of tests with errors: "error" unless one of them depends on the code."""
        if self._candidate.misuse:
            return "error", str(self._candidate.misuse)
        if self._candidate.broken:
            return "failed", str(self._candidate.broken)
        of_code = next((each for each in found if not self._is_own(each)), None)
        if of_code is None:
            is_pytest = isinstance(found[0], ModuleNotFoundError) and found[0].name == "pytest"
            reason = NO_PYTEST if is_pytest else self._described(found[0])
            return "error", reason + self._dependence.described_names()
        has_results = self._candidate.has_results
        why = unshared_state(self._source, self._code, of_code, has_results=has_results)
        if why is not None:
            return "error", why
        return "failed", self._described(of_code)

    def _is_own(self, error: BaseException) -> bool:
        is_of_code = isinstance(error, CandidateBroken | Unexplained)
        return not is_of_code and self._dependence.is_own_error(error)

    def _described(self, error: BaseException) -> str:
        name = self._dependence.missing_name(error)
        message = f"the code does not define {name}" if name else _message(error)
        return message + self._dependence.described(error)

    def _is_accepted(self, kind: Kind) -> bool:
        """Return whether the tests accept a null candidate, in a process that ends after NULL_SECONDS."""
        try:
            child = os.fork()
        except OSError as error:
            raise TestsUnrunnable(_TOO_MANY) from error
        if not child:
            status = 1
            try:
                _, hard = resource.getrlimit(resource.RLIMIT_CPU)
                resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(NULL_SECONDS), hard))
                found = self._errors(null_names(self._names, kind))
                # An operation on None may raise without any assertion.
                is_lax = kind == "none"
                status = int(any(not is_lax or _is_assertion(each) for each in found))
            finally:
                os._exit(status)
        deadline = time.monotonic() + NULL_SECONDS
        while time.monotonic() < deadline:
            ended, how = os.waitpid(child, os.WNOHANG)
            if ended:
                return how == 0
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False


def _is_assertion(error: BaseException) -> bool:
    return isinstance(error, AssertionError | SystemExit) or type(error).__name__ == "Failed"


def _message(error: BaseException) -> str:
    if isinstance(error, CandidateBroken):
        return str(error)
    try:
        text = "".join(traceback.format_exception_only(error)).strip()
    except BaseException:  # noqa: BLE001 - an error of the tests may have any __str__
        text = type(error).__name__
    return text[-MAX_ERROR_CHARACTERS:]

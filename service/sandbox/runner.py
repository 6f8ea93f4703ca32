"""Run model-written Python against unit tests in bubblewrap.

There is no network, the system is read-only, and the kernel limits each process. Each test run uses two sandboxes, one
for the code and one for its tests, connected by a socket (see `inside`). Neither has the host's environment, home, /etc,
/proc or users, or the packages of the server (`mounts`). System calls are filtered (`seccomp`). Memory, CPU time and files
of both sandboxes together are bounded by a watch (`tree_limits`) and, where available, a control group (`cgroups`). All
processes of both end with the test run.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, Process

from secondpass.service.common.concurrency import task_group
from secondpass.service.sandbox.bubblewrap import (
    PROCESSES,
    SCRATCH_BYTES,
    bubblewrap,
    limits_of,
)
from secondpass.service.sandbox.cgroups import Group, new_group
from secondpass.service.sandbox.mounts import python, site_packages
from secondpass.service.sandbox.report import REPORT_BYTES, Status, parsed_report, printable
from secondpass.service.sandbox.seccomp import seccomp_filter
from secondpass.service.sandbox.tree_limits import PROMISED_BYTES, Excess, Role, TreeWatch
from secondpass.service.sandbox.unavailable import SandboxUnavailable

__all__ = ["SandboxResult", "SandboxUnavailable", "Status", "run_python"]

OUTPUT_BYTES = 2**20
"""Maximum bytes of output; code that prints more is killed."""

MAX_OUTPUT_CHARACTERS = 2000
"""Characters kept from the end of the output."""

_INSIDE = {
    path.stem: path.read_text(encoding="utf-8")
    for path in Path(__file__).with_name("inside").glob("*.py")
}
_BOOTSTRAP = _INSIDE.pop("bootstrap")
_SOURCES = json.dumps({f"inside.{name}": text for name, text in _INSIDE.items()})
CPU_OF_ALL = 3
"""CPU time of all processes of a test run, in multiples of the limit of one process."""

EXIT_SECONDS = 1.0
"""Seconds for the candidate process to exit after the tests."""


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """Result of a test run.

    Attributes:
        status: "passed"; "failed" if the code is incorrect or broke a rule; "timeout" if CPU or wall time ran out; "error" if
            the tests could not be run, whatever the code.
        output: The reason, followed by the end of the code's output unless the tests could not be run.
    """

    status: Status
    output: str


@dataclass
class _Run:
    """The two processes of a test run, with their output."""

    candidate: Process
    tester: Process
    printed: bytearray = field(default_factory=bytearray)
    report: bytearray = field(default_factory=bytearray)
    is_flooded: bool = False
    watch: TreeWatch | None = None


async def run_python(
    code: str,
    tests: str,
    *,
    entry_point: str | None = None,
    cpu_seconds: float = 10.0,
    wall_seconds: float = 30.0,
    memory_bytes: int = 2**29,
) -> SandboxResult:
    """Run `tests` against `code`, both as source text.

    The tests see the names that the code defines, also as a module that they import. Top-level assertions, functions named
    test_..., unittest cases and doctests must succeed. If pytest is installed, so must its classes and fixtures. A null
    candidate must fail the tests: they would accept any code otherwise. Arguments and results are plain data (numbers,
    texts, containers of them), or objects of the code that tests can only call and inspect.

    Args:
        code: Source of the candidate.
        tests: Source of its tests.
        entry_point: Name of the tested function, for tests that define `check`.
        cpu_seconds: CPU time limit of each process; all processes together may use three times as much.
        wall_seconds: Wall-clock limit of the test run.
        memory_bytes: Address space limit of each process.

    Raises:
        SandboxUnavailable: bubblewrap is missing or could not set up a sandbox.
    """
    limits: dict[Role, str] = {
        "candidate": limits_of(cpu_seconds, memory_bytes),
        "tester": limits_of(cpu_seconds, memory_bytes),
    }
    job = {"code": code, "tests": tests, "entry_point": entry_point and entry_point.strip()}
    async with _started(limits, CPU_OF_ALL * cpu_seconds) as run:
        with anyio.move_on_after(wall_seconds) as scope:
            async with task_group() as group:
                group.start_soon(_feed, run.candidate, {"code": code})
                group.start_soon(_feed, run.tester, job)
                group.start_soon(_watch, run)
                await _read(run.tester.stdout, REPORT_BYTES, run.report)
                await run.tester.wait()
                with anyio.move_on_after(EXIT_SECONDS):  # its exit code may contain the cause
                    await run.candidate.wait()
                _kill(run.candidate)  # closes its output, which ends the block
        await _end_all(run)
    return _result(run, is_late=scope.cancelled_caught)


def _result(run: _Run, *, is_late: bool) -> SandboxResult:
    printed = printable(run.printed.decode(errors="replace")[-MAX_OUTPUT_CHARACTERS:])
    report = parsed_report(run.report)

    def result(status: Status, why: str) -> SandboxResult:
        return SandboxResult(status, why if status == "error" else f"{why}\n{printed}".strip())

    excess = _checked(run.watch)
    if run.is_flooded or excess is not None:
        return result(*_status_of(excess, is_unused=report.is_unused))
    if is_late and not report.is_unused:
        return result("timeout", "the wall time ran out")
    if is_late:
        return result("error", "the tests ran out of wall time before they called the code")
    if not report.is_started:
        written = printable(run.report.decode(errors="replace")).strip()
        last = (written or printed or "no output").splitlines()[-1][:MAX_OUTPUT_CHARACTERS]
        raise SandboxUnavailable(f"bubblewrap could not set up a sandbox: {last}")
    if report.status == "timeout" and report.is_unused:
        return result("error", "the tests ran out of CPU time before they called the code")
    if report.status != "passed" and run.candidate.returncode == 128 + signal.SIGXCPU:
        return result("timeout", "the CPU time ran out")
    return result(report.status, report.why)


def _checked(watch: TreeWatch | None) -> Excess | None:
    """Return the bound that was exceeded, if any. Raises SandboxUnavailable if the watch failed."""
    if watch is None:
        return None
    if watch.failure is not None:
        message = f"the processes of a sandbox cannot be watched: {watch.failure}"
        raise SandboxUnavailable(message) from watch.failure
    return watch.excess


def _status_of(excess: Excess | None, *, is_unused: bool) -> tuple[Status, str]:
    """Return status and reason where a bound was exceeded; None is that of the output."""
    if excess is None:
        return "failed", f"the code printed more than {OUTPUT_BYTES} bytes"
    if excess.role == "tester" and is_unused:
        return "error", f"the tests {excess.why} before they called the code"
    subject = "the code" if excess.role == "candidate" else "the tests of the code"
    return "timeout" if excess.resource == "cpu" else "failed", f"{subject} {excess.why}"


@asynccontextmanager
async def _started(limits: dict[Role, str], cpu_seconds: float) -> AsyncIterator[_Run]:
    """Start both processes, connected by a socket, and their watch; end all with the block."""
    group = new_group(PROMISED_BYTES, 2 * (PROCESSES + 3))  # and bubblewrap's own processes
    tester_end, candidate_end = socket.socketpair()
    try:
        # Shielded: a cancellation during the start would leak a process.
        with anyio.CancelScope(shield=True), tester_end, candidate_end:
            candidate = await _start("candidate", candidate_end, limits["candidate"], group)
            try:
                tester = await _start("tester", tester_end, limits["tester"], group)
            except BaseException:
                await _end(candidate)
                raise
        roots: dict[Role, int] = {"candidate": candidate.pid, "tester": tester.pid}
        run = _Run(candidate, tester)
        try:
            run.watch = TreeWatch(roots, cpu_seconds, SCRATCH_BYTES, group)
            yield run
        finally:
            if run.watch is not None:
                run.watch.end()
            await _end_all(run)
    finally:
        if group is not None:
            await group.remove()


async def _start(role: Role, link: socket.socket, limits: str, group: Group | None) -> Process:
    packages = site_packages() if role == "tester" else ()
    with _filter() as filter_end:
        command = [*bubblewrap(filter_end, packages or ()), python(), "-I", "-S", "-c", _BOOTSTRAP]
        command += [_SOURCES, role, str(link.fileno()), limits]
        try:
            return await anyio.open_process(
                command if group is None else group.joined(command),
                stdin=PIPE,
                stdout=PIPE,
                stderr=STDOUT,
                env={},
                pass_fds=(link.fileno(), filter_end),
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxUnavailable(f"bubblewrap could not be started: {error}") from error


@contextmanager
def _filter() -> Iterator[int]:
    """Return a descriptor from which bubblewrap reads the seccomp filter."""
    read_end, write_end = os.pipe()
    try:
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(seccomp_filter())  # smaller than the pipe's buffer
        yield read_end
    finally:
        os.close(read_end)


async def _feed(process: Process, job: dict[str, Any]) -> None:
    if process.stdin is not None:
        # Where the process has ended, its exit is handled elsewhere.
        with suppress(OSError, anyio.BrokenResourceError):
            await process.stdin.send(json.dumps(job).encode())
            await process.stdin.aclose()


async def _watch(run: _Run) -> None:
    """Collect the candidate's output; kill both processes if it exceeds OUTPUT_BYTES."""
    await _read(run.candidate.stdout, OUTPUT_BYTES, run.printed)
    if len(run.printed) > OUTPUT_BYTES:
        run.is_flooded = True
        _kill(run.candidate)
        _kill(run.tester)


async def _read(stream: ByteReceiveStream | None, limit: int, read: bytearray) -> None:
    """Append to `read` until the end of the stream or until more than `limit` bytes arrived."""
    if stream is not None:
        with suppress(anyio.EndOfStream):
            while len(read) <= limit:
                read += await stream.receive()


def _kill(process: Process) -> None:
    """Kill bubblewrap and, with it, all processes in the sandbox.

    The process group is killed: until bubblewrap has set up the sandbox, its child does not die with it.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _end_all(run: _Run) -> None:
    for process in (run.candidate, run.tester):
        await _end(process)


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        _kill(process)
        await process.aclose()

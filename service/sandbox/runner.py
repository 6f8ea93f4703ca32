"""Runs Python that a model wrote against unit tests, in bubblewrap: no network, a read-only system, hard limits.

Two sandboxes for each run: the code in one, its tests in the other, joined by a socket (`inside` says why).
Neither has an environment, a home, /etc, /proc or a user of this machine; both end with the run, whatever they started.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any, Literal

import anyio
from anyio.abc import ByteReceiveStream, Process

from secondpass.service.common.concurrency import task_group
from secondpass.service.sandbox.bubblewrap import SandboxUnavailable, bubblewrap, limits_of, python

__all__ = ["SandboxResult", "SandboxUnavailable", "Status", "run_python"]

Status = Literal["passed", "failed", "timeout", "error"]

OUTPUT_BYTES = 2**20
"""Code that prints more is stopped."""

TAIL = 2000
"""Characters of output that are kept."""

_INSIDE = Path(__file__).with_name("inside.py")
_STARTED = b'{"started"'
LAST_SECONDS = 1.0
"""What the code's process gets to end after its tests."""


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """How the tests ended, and the last lines: why they failed, then what the code printed.

    `failed`: the code is wrong, or broke a rule. `timeout`: CPU or wall time ran out. `error`: the tests themselves could
    not be run, which says nothing about the code.
    """

    status: Status
    output: str


@dataclass
class _Run:
    """The two processes of a run, and what they said."""

    candidate: Process
    tester: Process
    printed: bytes = b""
    said: bytes = b""
    is_flooded: bool = False


async def run_python(
    code: str,
    tests: str,
    *,
    entry_point: str | None = None,
    cpu_seconds: float = 10.0,
    wall_seconds: float = 30.0,
    memory_bytes: int = 2**29,
) -> SandboxResult:
    """Run `tests` (source text) against `code`.

    The tests see the names that the code defines; what they assert at the top, `check(entry_point)` if they define
    `check` and `entry_point` is given, and functions named test_... all have to end well. Arguments and results are plain
    data (numbers, texts, containers of them) or objects of the code that tests only call and look into. `cpu_seconds` and
    `memory_bytes` are for each process. Raises SandboxUnavailable.
    """
    limits = limits_of(cpu_seconds, memory_bytes)
    job = {"code": code, "tests": tests, "entry_point": entry_point and entry_point.strip()}
    async with _started(limits) as run:
        with anyio.move_on_after(wall_seconds) as scope:
            async with task_group() as group:
                group.start_soon(_feed, run.candidate, {"code": code})
                group.start_soon(_feed, run.tester, job)
                group.start_soon(_watch, run)
                run.said = await _read(run.tester.stdout, OUTPUT_BYTES)
                await run.tester.wait()
                with anyio.move_on_after(
                    LAST_SECONDS
                ):  # it ends by itself, and its exit code may say why
                    await run.candidate.wait()
                _kill(run.candidate)  # then what it prints ends, and the block with it
        await _bury(run)
    return _result(run, is_late=scope.cancelled_caught)


def _result(run: _Run, *, is_late: bool) -> SandboxResult:
    printed = run.printed.decode(errors="replace")[-TAIL:]

    def result(status: Status, why: str) -> SandboxResult:
        return SandboxResult(status, f"{why}\n{printed}".strip())

    if run.is_flooded:
        return result("failed", f"the code printed more than {OUTPUT_BYTES} bytes")
    if is_late:
        return result("timeout", "the wall time ran out")
    if not run.said.startswith(_STARTED):
        said = run.said.decode(errors="replace").strip()
        last = (said or printed or "it says nothing").splitlines()[-1]
        raise SandboxUnavailable(f"bubblewrap sets up no sandbox here: {last}")
    status, why = _reported(run.said)
    ran_out = 128 + signal.SIGXCPU in (run.candidate.returncode, run.tester.returncode)
    if ran_out and status != "passed":
        return result("timeout", "the CPU time ran out")
    return result(status, why)


def _reported(said: bytes) -> tuple[Status, str]:
    """Status and reason in the last line from the tests' process, whatever the tests themselves wrote there.

    Both are text that can be encoded: an escaped surrogate is replaced.
    """
    last = said.rstrip().rpartition(b"\n")[2]
    try:
        report = json.loads(last)
    except (ValueError, RecursionError):
        report = None
    match report:
        case {"started": True}:
            return "failed", "the tests' process ended before its tests"
        case {"status": "passed" | "failed" | "error" as status, "why": str(why)}:
            return status, why.encode(errors="replace").decode()
        case _:
            return "error", "the tests wrote to the stream that reports how they ended"


@asynccontextmanager
async def _started(limits: str) -> AsyncIterator[_Run]:
    """Both processes, joined by a socket; killed and waited for when the block is left."""
    ours, theirs = socket.socketpair()
    with (
        anyio.CancelScope(shield=True),
        ours,
        theirs,
    ):  # starting takes a moment, and must not be left half-way
        candidate = await _start("candidate", theirs, limits)
        try:
            tester = await _start("tester", ours, limits)
        except BaseException:
            await _end(candidate)
            raise
    run = _Run(candidate, tester)
    try:
        yield run
    finally:
        await _bury(run)


async def _start(role: str, link: socket.socket, limits: str) -> Process:
    command = [*bubblewrap(), python(), "-I", "-S", "-c", _INSIDE.read_text(encoding="utf-8")]
    try:
        return await anyio.open_process(
            [*command, role, str(link.fileno()), limits],
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            env={},
            pass_fds=(link.fileno(),),
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxUnavailable(f"bubblewrap cannot be started: {error}") from error


async def _feed(process: Process, job: dict[str, Any]) -> None:
    if process.stdin is not None:
        with suppress(OSError, anyio.BrokenResourceError):  # it ended, which others will notice
            await process.stdin.send(json.dumps(job).encode())
            await process.stdin.aclose()


async def _watch(run: _Run) -> None:
    """Keep what the candidate prints; end it, and with it the run, when that is too much."""
    run.printed = await _read(run.candidate.stdout, OUTPUT_BYTES)
    if len(run.printed) > OUTPUT_BYTES:
        run.is_flooded = True
        _kill(run.candidate)
        _kill(run.tester)


async def _read(stream: ByteReceiveStream | None, most: int) -> bytes:
    """What comes until the end, or until it is more than `most` bytes."""
    read = bytearray()
    if stream is not None:
        with suppress(anyio.EndOfStream):
            while len(read) <= most:
                read += await stream.receive()
    return bytes(read)


def _kill(process: Process) -> None:
    """Kill bubblewrap: its processes die with it, and so do theirs."""
    with suppress(ProcessLookupError):
        process.kill()


async def _bury(run: _Run) -> None:
    for process in (run.candidate, run.tester):
        await _end(process)


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        _kill(process)
        await process.aclose()

"""Descendant processes, independent of their sessions and environments. Linux only."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Running:
    """A running process that is not a zombie. `started` is in seconds since boot."""

    pid: int
    parent: int
    group: int
    started: float


def adopt_orphans() -> None:
    """Become the parent of every orphaned descendant. Raises OSError if the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def running() -> dict[int, Running]:
    """Return the running processes of this machine, by process id."""
    return {each.pid: each for each in _running()}


def is_running(pid: int) -> bool:
    """Return whether `pid` is running; a zombie is not."""
    return pid in running()


def descendants(pid: int) -> dict[int, Running]:
    """Return the running descendants of `pid`, by process id.

    A process whose parent exits during the call may be missing. Only two consecutive empty results prove that no
    descendant is running.
    """
    found: dict[int, Running] = {}
    processes, parents = running(), {pid}
    while below := {each.pid: each for each in processes.values() if each.parent in parents}:
        found |= below
        parents = set(below)
    return found


def end_descendants(seconds: float) -> dict[int, Running]:
    """Kill and reap the descendants of this process for at most `seconds`.

    No other code may wait for a child at the same time.

    Returns:
        The descendants that are still running.
    """
    deadline = time.monotonic() + seconds
    found, before = descendants(os.getpid()), {os.getpid()}
    while (found or before) and time.monotonic() < deadline:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
        reap()
        before, found = set(found), descendants(os.getpid())
    return found


def reap() -> dict[int, int]:
    """Reap exited children and return their exit statuses (negative: signal number) by process id."""
    statuses: dict[int, int] = {}
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            statuses[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    return statuses


def _running() -> Iterator[Running]:
    ticks = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has exited
            continue
        state, parent, group, *rest = text.rpartition(")")[2].split()
        if state not in "ZX":
            yield Running(int(entry.name), int(parent), int(group), int(rest[16]) / ticks)

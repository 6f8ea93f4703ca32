"""Processes that tests left running: descendants of this process, and processes with its mark."""

import os
import re
import time
from multiprocessing import resource_tracker
from pathlib import Path

from tools.process_tree import descendants

MARK = "PYTEST_SESSION_MARK"
"""Environment variable that processes inherit from the test that starts them."""


class Starts:
    """Start times of tests, which identify the test that started a process."""

    def __init__(self) -> None:
        self._tests: list[tuple[float, str]] = []

    def add(self, test: str) -> None:
        """Record that `test` starts now."""
        self._tests.append((time.clock_gettime(time.CLOCK_BOOTTIME), test))

    def test_at(self, started: float) -> str:
        """Return the test that was running `started` seconds after boot, with a resolution of 10 ms."""
        earlier = [test for at, test in self._tests if at <= started + 0.01]  # in ticks of 10 ms
        return earlier[-1] if earlier else "outside of any test"


def marked_processes(mark: str) -> dict[int, str]:
    """Return the command and the test of each process whose environment contains `mark`, by process id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            if mark.encode() not in environment:
                continue
            test = re.search(rb"PYTEST_CURRENT_TEST=([^\0]*)", environment)
            starter = test[1].decode(errors="replace") if test else "outside of any test"
            found[int(entry.name)] = f"{_command(int(entry.name))} ({starter})"
        except OSError:  # it has exited, or belongs to another user
            continue
    return found


def leftovers(mark: str, starts: Starts, grace: float = 5.0) -> dict[int, str]:
    """Return descendants and `marked_processes` that are still running after `grace` seconds.

    Returns early if there are none. Python's resource tracker is excluded because it exits with this process.
    """
    deadline = time.monotonic() + grace
    before, found = None, _leftovers(mark, starts)
    while (found or before != {}) and time.monotonic() < deadline:
        time.sleep(0.05)
        before, found = found, _leftovers(mark, starts)
    return found


def _leftovers(mark: str, starts: Starts) -> dict[int, str]:
    found = {}
    for process in descendants(os.getpid()).values():
        try:
            started_in = starts.test_at(process.started)
            found[process.pid] = f"{_command(process.pid)} ({started_in})"
        except OSError:  # it has exited
            continue
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    found |= marked_processes(mark)
    return {pid: at for pid, at in found.items() if pid != tracker}


def _command(pid: int) -> str:
    """Return the command line of a process. Raises OSError if it has exited."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return command.decode(errors="replace").strip()[:200]

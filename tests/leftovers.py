"""Processes that tests started and left running: the descendants of this process, and those that carry its mark."""

import os
import re
import time
from multiprocessing import resource_tracker
from pathlib import Path

from tools.process_tree import descendants

MARK = "PYTEST_SESSION_MARK"
"""Environment variable that processes inherit from the test that starts them, unless they get another environment."""


class Starts:
    """When each test began, to name the one that a process was started in."""

    def __init__(self) -> None:
        self._tests: list[tuple[float, str]] = []

    def add(self, test: str) -> None:
        """`test` begins now."""
        self._tests.append((time.clock_gettime(time.CLOCK_BOOTTIME), test))

    def test_at(self, started: float) -> str:
        """The test that ran `started` seconds after boot; a start within 10 ms of the next test counts as that test's."""
        begun = [test for at, test in self._tests if at <= started + 0.01]  # in ticks of 10 ms
        return begun[-1] if begun else "outside of any test"


def marked_processes(mark: str) -> dict[int, str]:
    """Process ids whose environment contains `mark`, each with its command and the test that started it."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            if mark.encode() not in environment:
                continue
            test = re.search(rb"PYTEST_CURRENT_TEST=([^\0]*)", environment)
            starter = test[1].decode(errors="replace") if test else "outside of any test"
            found[int(entry.name)] = f"{_command(int(entry.name))} ({starter})"
        except OSError:  # it has ended, or belongs to another user
            continue
    return found


def leftovers(mark: str, starts: Starts, grace: float = 5.0) -> dict[int, str]:
    """Descendants and `marked_processes` that still run after `grace` seconds; returns soon where there are none.

    Python's own resource tracker is left out: it ends with this process.
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
        except OSError:  # it has ended
            continue
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    found |= marked_processes(mark)
    return {pid: at for pid, at in found.items() if pid != tracker}


def _command(pid: int) -> str:
    """A process's command. Raises OSError where it has ended."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return command.decode(errors="replace").strip()[:200]

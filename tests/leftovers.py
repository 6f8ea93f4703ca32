"""Processes that outlive whoever started them, found by a mark that they inherit."""

import re
import time
from multiprocessing import resource_tracker
from pathlib import Path

MARK = "PYTEST_SESSION_MARK"
"""Environment variable of every process that a test starts."""


def marked_processes(mark: str) -> dict[int, str]:
    """Process ids whose environment contains `mark`, each with its command and the test that started it."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            if mark.encode() not in environment:
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended, or belongs to another user
            continue
        test = re.search(rb"PYTEST_CURRENT_TEST=([^\0]*)", environment)
        starter = test[1].decode(errors="replace") if test else "outside of any test"
        found[int(entry.name)] = f"{command.strip()[:200]} ({starter})"
    return found


def leftovers(mark: str, grace: float = 5.0) -> dict[int, str]:
    """`marked_processes` that are still running after `grace` seconds; returns at once where there are none.

    Python's own resource tracker is left out: it ends with this process.
    """
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    deadline = time.monotonic() + grace
    while True:
        found = {pid: at for pid, at in marked_processes(mark).items() if pid != tracker}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)

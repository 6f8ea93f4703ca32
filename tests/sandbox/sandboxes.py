"""Running sandboxes of the test process, and concurrent test runs."""

import os
import subprocess
from collections.abc import Iterable

from secondpass.service.common.concurrency import task_group
from secondpass.service.sandbox.runner import SandboxResult, run_python


def sandboxes() -> list[str]:
    """Return the running sandboxes of this process. Zombies of killed sandboxes are excluded."""
    command = ["ps", "-o", "stat=,args=", "--ppid", str(os.getpid())]
    processes = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in processes.stdout.splitlines() if "bwrap" in line and line[0] != "Z"]


async def results(code: Iterable[str], tests: Iterable[str]) -> list[SandboxResult]:
    """Return the result of each code with each of the tests, run concurrently, in order."""
    jobs = [(each, its) for each in code for its in tests]
    found: dict[int, SandboxResult] = {}

    async def run(number: int) -> None:
        found[number] = await run_python(*jobs[number])

    async with task_group() as group:
        for number in range(len(jobs)):
            group.start_soon(run, number)
    return [found[number] for number in range(len(jobs))]

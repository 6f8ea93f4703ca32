"""A test run that is cancelled while its sandboxes start leaves no process behind."""

import itertools

import anyio
import pytest

from secondpass.service.sandbox.runner import run_python
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.polling import wait_until
from tests.sandbox.sandboxes import sandboxes

DELAYS = itertools.cycle([0.0, 0.001, 0.002, 0.003])
"""Seconds after the start at which bubblewrap's child has not set up the sandbox yet."""


@ON_BOTH_BACKENDS
@pytest.mark.anyio
async def test_a_cancelled_start_leaves_no_process() -> None:
    async def cancelled_run() -> None:
        with anyio.move_on_after(next(DELAYS)):
            await run_python("x = 1", "assert x == 1")

    for _ in range(30):
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(cancelled_run)
    wait_until(lambda: not sandboxes(), 3)

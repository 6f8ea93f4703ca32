"""Server side of one `worker` process: start, resolve, classify exits, and clean up."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from enum import Enum
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

import secondpass
from secondpass.service.common.errors import boundary
from secondpass.strategies.api.errors import SecondpassError

_START_SECONDS = 60.0
_REPLY_BYTES = 2**20
_ROOT = Path(secondpass.__file__).parents[1]
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[3]); from secondpass.service.equivalence.worker import main; "
    "main(float(sys.argv[1]), int(sys.argv[2]))"
)
_FORWARDED_VARIABLES = ("LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH")


class WorkerFailed(SecondpassError):
    """A worker process failed to start."""


class WorkerFailure(Enum):
    """Reason why a value was not resolved."""

    EXHAUSTED = "exhausted"  # out of CPU time; deterministic, so it is cached
    LOST = "lost"  # the worker timed out or died; a later attempt may succeed


class Worker:
    """A worker process that resolves one value at a time.

    A caller that abandons a value must close the worker.
    """

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise WorkerFailed("equivalence worker: stdin and stdout must be pipes")
        self._process = process
        self._requests = process.stdin
        self._replies = BufferedByteReceiveStream(process.stdout)
        self._is_ready = False
        self.is_usable = True

    @classmethod
    async def start(cls, cpu_seconds: float, memory_bytes: int) -> Self:
        """Start a process without waiting until it is ready. Shielded from cancellation."""
        environment = {
            name: os.environ[name] for name in _FORWARDED_VARIABLES if name in os.environ
        }
        # -P keeps the current folder off sys.path: its module names could shadow others.
        limits = [str(cpu_seconds), str(memory_bytes)]
        command = [sys.executable, "-P", "-c", _BOOTSTRAP, *limits, str(_ROOT)]
        with (
            boundary(WorkerFailed, "equivalence worker could not be started", OSError),
            anyio.CancelScope(shield=True),
        ):
            process = await anyio.open_process(
                command,
                stderr=DEVNULL,
                env=environment | {"PYTHONHASHSEED": "0"},
                start_new_session=True,  # only the server handles Ctrl-C
            )
        return cls(process)

    @property
    def is_alive(self) -> bool:
        """True if the worker is usable and has not exited, as far as is known."""
        return self.is_usable and self._process.returncode is None

    async def ready(self) -> None:
        """Wait until the worker is ready. Can be cancelled and repeated. Raises WorkerFailed."""
        if self._is_ready:
            return
        try:
            with anyio.fail_after(_START_SECONDS):
                await self._replies.receive_until(b"\n", _REPLY_BYTES)
        except (anyio.IncompleteRead, TimeoutError) as error:
            self.is_usable = False
            raise WorkerFailed(
                "equivalence worker exited or timed out before it was ready"
            ) from error
        self._is_ready = True

    async def resolve(self, value: list[Any], *, wall_seconds: float) -> list[Any] | WorkerFailure:
        """Resolve the trees of a value. The worker is unusable after an exception."""
        self.is_usable = False
        try:
            with anyio.fail_after(wall_seconds):
                await self._requests.send(json.dumps(value).encode() + b"\n")
                line = await self._replies.receive_until(b"\n", _REPLY_BYTES)
        except (TimeoutError, anyio.DelimiterNotFound):
            return WorkerFailure.LOST
        except (anyio.BrokenResourceError, anyio.IncompleteRead, OSError):
            with anyio.CancelScope(shield=True):
                code = await self._process.wait()
            return WorkerFailure.EXHAUSTED if code == -signal.SIGPROF else WorkerFailure.LOST
        reply = json.loads(line)
        self.is_usable = not reply["retire"]
        return list(reply["value"])

    async def aclose(self) -> None:
        """Kill the process and wait for it to exit."""
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.aclose()

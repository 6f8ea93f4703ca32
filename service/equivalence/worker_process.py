"""The server's end of one `worker` process: start it, ask it, tell how it died, and bury it."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from enum import Enum
from pathlib import Path
from subprocess import DEVNULL
from typing import Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from secondpass.service.common.errors import boundary
from secondpass.strategies.api.errors import SecondpassError

_START_SECONDS = 60.0
_REPLY_BYTES = 1000
_FORWARDED_VARIABLES = ("LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH")


class WorkerFailed(SecondpassError):
    """A worker process did not get as far as its first question."""


class Equality(Enum):
    """What came of one comparison."""

    SAME = "same"
    DIFFERENT = "different"
    EXHAUSTED = "exhausted"  # its CPU time ran out: it would again
    LOST = "lost"  # the worker went for another reason: next time it may be decided


class Worker:
    """One process. It has at most one question at a time, and whoever leaves early has to close it."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise WorkerFailed("a worker needs pipes at its stdin and stdout")
        self._process = process
        self._questions = process.stdin
        self._replies = BufferedByteReceiveStream(process.stdout)
        self._is_ready = False
        self.is_usable = True

    @classmethod
    async def start(cls, cpu_seconds: float, memory_bytes: int) -> Self:
        """Start a process, without waiting until it is ready. Cannot be cancelled half-way."""
        script = Path(__file__).with_name("worker.py")
        environment = {
            name: os.environ[name] for name in _FORWARDED_VARIABLES if name in os.environ
        }
        # -P keeps the script's folder, whose modules have common names, off the path.
        command = [sys.executable, "-P", str(script), str(cpu_seconds), str(memory_bytes)]
        with (
            boundary(WorkerFailed, "no worker for comparing answers", OSError),
            anyio.CancelScope(shield=True),
        ):
            process = await anyio.open_process(
                command,
                stderr=DEVNULL,
                env=environment | {"PYTHONHASHSEED": "0"},
                start_new_session=True,  # Ctrl-C is for the server to act on
            )
        return cls(process)

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked, as far as one can know without asking."""
        return self.is_usable and self._process.returncode is None

    async def ready(self) -> None:
        """Wait until the worker can work. May be cancelled and called again; raises WorkerFailed."""
        if self._is_ready:
            return
        try:
            with anyio.fail_after(_START_SECONDS):
                await self._replies.receive_until(b"\n", _REPLY_BYTES)
        except (anyio.IncompleteRead, TimeoutError) as error:
            self.is_usable = False
            raise WorkerFailed("a worker for comparing answers did not start") from error
        self._is_ready = True

    async def compare(self, a: str, b: str, *, wall_seconds: float) -> Equality:
        """The verdict on a pair. Left with an exception, the worker is not usable any more."""
        self.is_usable = False
        try:
            with anyio.fail_after(wall_seconds):
                await self._questions.send(json.dumps([a, b]).encode() + b"\n")
                line = await self._replies.receive_until(b"\n", _REPLY_BYTES)
        except TimeoutError:
            return Equality.LOST
        except (anyio.BrokenResourceError, anyio.IncompleteRead, OSError):
            with anyio.CancelScope(shield=True):
                code = await self._process.wait()
            return Equality.EXHAUSTED if code == -signal.SIGPROF else Equality.LOST
        reply = json.loads(line)
        self.is_usable = not reply["retire"]
        return Equality.SAME if reply["same"] else Equality.DIFFERENT

    async def aclose(self) -> None:
        """Kill the process and wait until the kernel has let go of it."""
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.aclose()

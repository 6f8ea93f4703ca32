"""Child processes that never outlive us: each leads its own group, logs to a file and dies as a group.

vLLM keeps its engine core in a grandchild that holds the memory and the cores, so ending the child alone
is not enough; and a child in our own group would get the terminal's Ctrl-C before we could order the end.
"""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tools.process_tree import running

TAIL_BYTES = 64 * 1024
POLL_SECONDS = 0.05
STOP_GRACE = 15.0
KILL_SECONDS = 5.0  # a killed process takes a moment to go
# Loopback must not go through a proxy that the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerDidNotStart(RuntimeError):
    """A server died or was not ready in time; the message ends with the tail of its log."""


@dataclass(frozen=True)
class Child:
    """A running command, the leader of its own process group, writing to `log_path`."""

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> "Child":
        """Start `command` with stdout and stderr in a fresh `log_path`; `env` adds to our environment.

        It runs in `cwd`, by default ours. Raises OSError where the command cannot be executed.
        """
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        return cls(name, process, log_path)

    def exit_status(self) -> int | None:
        """The child's exit status (negative: the signal that ended it), or None while it runs."""
        return self.process.poll()

    def tail(self, lines: int = 30) -> str:
        """The last `lines` lines of the log."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, grace: float = STOP_GRACE) -> None:
        """Ask the whole group to end, and kill what is left of it after `grace` seconds.

        Safe to call twice and after the child died: orphans of a dead leader are still in its group.
        """
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_SECONDS)):
            deadline = time.monotonic() + seconds
            self._signal_group(number)
            while self._group_lives() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        self.process.wait()

    def _group_lives(self) -> bool:
        self.process.poll()
        return any(each.group == self.process.pid for each in running().values())

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def never() -> None:
    """Interrupt nothing."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: past TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(url: str) -> bool:
    """Whether a GET of a loopback `url` is answered with 200 within two seconds."""
    try:
        with _direct.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until_ready(
    child: Child, url: str, timeout: float, interrupt: Callable[[], None] = never
) -> None:
    """Return once `url` answers 200; `interrupt` is called meanwhile, and may raise.

    Raises ServerDidNotStart when `child` dies first or `timeout` seconds pass.
    """
    deadline = time.monotonic() + timeout
    while not answers(url):
        interrupt()
        status = child.exit_status()
        if status is not None or time.monotonic() > deadline:
            what = f"was not ready after {timeout:.0f} s" if status is None else f"ended ({status})"
            raise ServerDidNotStart(
                f"{child.name} {what}; end of {child.log_path}:\n{child.tail()}"
            )
        time.sleep(0.2)


@contextmanager
def serving(
    name: str,
    command: Sequence[str],
    ready_url: str,
    log_path: Path,
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    interrupt: Callable[[], None] = never,
    grace: float = STOP_GRACE,
) -> Iterator[Child]:
    """Run a server until the block is left; `ready_url` answers when the block is entered.

    Leaving the block, by an exception too, ends the server's whole process group. Raises as
    `wait_until_ready` does, which `interrupt` and `timeout` (seconds) go to; `grace` goes to `stop`.
    """
    child = Child.start(name, command, log_path, env)
    try:
        wait_until_ready(child, ready_url, timeout, interrupt)
        yield child
    finally:
        child.stop(grace)

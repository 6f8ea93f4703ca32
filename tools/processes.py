"""Child processes that never outlive this one: each leads a process group and logs to a file.

The whole group is terminated, because vLLM's engine core is a grandchild that owns the memory and the cores. A separate
group also keeps the terminal's Ctrl-C from reaching the child before this process can stop it in order.
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
KILL_SECONDS = 5.0
# Requests to loopback must bypass proxies of the environment.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerDidNotStart(RuntimeError):
    """A server exited or was not ready in time. The message contains the end of its log."""


@dataclass(frozen=True)
class Child:
    """A running command that leads a process group and writes to `log_path`."""

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
        """Start `command` with stdout and stderr in a new file, `log_path`.

        `env` extends the environment of this process; `cwd` defaults to its working directory. Raises OSError if the
        command cannot be executed.
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
        """Return the exit status (negative: signal number), or None while the child is running."""
        return self.process.poll()

    def tail(self, lines: int = 30) -> str:
        """Return the last `lines` lines of the log."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, grace: float = STOP_GRACE) -> None:
        """Terminate the child, then its group, and kill what is still running after `grace` seconds.

        The child is first, because it may need its own children to drain: the service needs vLLM's engine core. May be called
        twice and after the child has exited: its orphans remain in the group.
        """
        end = time.monotonic() + grace
        self.process.terminate()
        _wait_while(lambda: self.exit_status() is None, end)
        self._signal_group(signal.SIGTERM)
        _wait_while(self._is_group_running, end)
        self._signal_group(signal.SIGKILL)
        _wait_while(self._is_group_running, time.monotonic() + KILL_SECONDS)
        self.process.wait()

    def _is_group_running(self) -> bool:
        self.process.poll()
        return any(each.group == self.process.pid for each in running().values())

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def _wait_while(condition: Callable[[], bool], end: float) -> None:
    """Wait until `condition` is false or the monotonic clock reaches `end`."""
    while condition() and time.monotonic() < end:
        time.sleep(POLL_SECONDS)


def never() -> None:
    """Never interrupt."""


def is_free(port: int) -> bool:
    """Return whether a server can listen on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do, to ignore TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return an unused TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(url: str) -> bool:
    """Return whether a GET of a loopback `url` returns 200 within two seconds."""
    try:
        with _direct.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until_ready(
    child: Child, url: str, timeout: float, interrupt: Callable[[], None] = never
) -> None:
    """Wait until `url` returns 200. `interrupt` is called repeatedly while waiting and may raise.

    Raises:
        ServerDidNotStart: `child` exited or `timeout` seconds elapsed.
    """
    deadline = time.monotonic() + timeout
    while not answers(url):
        interrupt()
        status = child.exit_status()
        if status is not None or time.monotonic() > deadline:
            problem = (
                f"was not ready after {timeout:.0f} s"
                if status is None
                else f"exited with status {status}"
            )
            raise ServerDidNotStart(
                f"{child.name} {problem}; end of {child.log_path}:\n{child.tail()}"
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
    """Run a server within the block, which is entered once `ready_url` returns 200.

    The server's whole process group is terminated when the block exits. `interrupt` and `timeout` (seconds) are passed
    to `wait_until_ready`, which may raise; `grace` is passed to `Child.stop`.
    """
    child = Child.start(name, command, log_path, env)
    try:
        wait_until_ready(child, ready_url, timeout, interrupt)
        yield child
    finally:
        child.stop(grace)

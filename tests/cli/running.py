"""Run the command line as a process, with pipes or at a pseudo-terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from secondpass.service.config.sources import PREFIX
from tests.polling import Patience

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "secondpass.service"]
SECONDS = 60

SET_CONTROLLING_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Program that executes its arguments with stdin as controlling terminal. Ctrl-C becomes a signal."""

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def surroundings(**more: str) -> dict[str, str]:
    """Return the environment without settings of the service, plus `more`."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(PREFIX) and k != "NO_COLOR"
    }
    return environment | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | more


def piped(*arguments: str, stdin: bytes = b"", **more: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a command with pipes for stdin, stdout and stderr."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=surroundings(**more),
        input=stdin,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )


@dataclass
class Terminal:
    """A process at a terminal of 100 columns and 30 lines, and its output so far."""

    popen: "subprocess.Popen[bytes]"
    screen: int
    written: bytes = b""

    @property
    def text(self) -> str:
        """Output without colours and cursor movements."""
        return _ESCAPES.sub("", self.written.decode(errors="replace")).replace("\r", "")

    def read_until(self, text: str) -> None:
        """Read until the output contains `text`. Fails if the process ends before."""
        patience = Patience(SECONDS)
        while text not in self.text:
            assert self._read() or self.popen.poll() is None, f"ended without {text!r}: {self.text}"
            assert not patience.is_over(), f"waited for {text!r} in: {self.text}"

    def type(self, keys: bytes) -> None:
        """Send keys."""
        os.write(self.screen, keys)

    def end(self) -> int:
        """Read until the process has ended and return its exit code."""
        patience = Patience(SECONDS)
        while self._read() or self.popen.poll() is None:
            assert not patience.is_over(), self.text
        return self.popen.wait()

    def _read(self) -> bool:
        if not select.select([self.screen], [], [], 0.05)[0]:
            return False
        with suppress(OSError):  # Linux raises EIO when the other side is closed
            chunk = os.read(self.screen, 65536)
            self.written += chunk
            return bool(chunk)
        return False


@contextmanager
def at_terminal(*arguments: str, **more: str) -> Iterator[Terminal]:
    """Run a command at a terminal and kill it when the block is left."""
    screen, side = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    command = [sys.executable, "-c", SET_CONTROLLING_TERMINAL, *COMMAND, *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=surroundings(**more),
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    ) as popen:
        os.close(side)
        try:
            yield Terminal(popen, screen)
        finally:
            popen.kill()
            os.close(screen)

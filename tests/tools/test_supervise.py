"""`tools.supervise` ends all processes of a command and returns its exit status."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from tests.cli.running import ROOT
from tools.process_tree import is_running


def supervised(grace: float, script: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tools.supervise", str(grace), "sh", "-c", script]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_processes_in_other_sessions_end_with_the_command() -> None:
    with supervised(1, "setsid --fork sh -c 'echo $$; exec sleep 600'; exit 3") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        try:
            assert process.wait(timeout=30) == 3
            assert not is_running(pid)
        finally:
            kill(pid)


def test_a_command_that_ignores_sigint_is_killed_after_the_grace_period() -> None:
    with supervised(0.2, "trap '' INT; echo $$; sleep 600 & wait; wait") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        try:
            process.terminate()
            start = time.monotonic()
            assert process.wait(timeout=30) == 128 + signal.SIGKILL
            assert time.monotonic() - start >= 0.2
            assert not is_running(pid)
        finally:
            kill(pid)
            process.kill()

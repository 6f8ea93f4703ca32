"""First process of the sandbox of the tests: it runs them in a child and reports their result.

Tests are code of clients and control their own process. Of what the child sends, the supervisor passes on each sign of
progress once, one status and a reason of bounded length. The child has no descriptor of the report, and cannot trace the
supervisor, which is not dumpable.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from .wire import Json

MAX_REASON_CHARACTERS = 1200
"""Maximum characters of a reason."""

_PROGRESS = {b"l": "loaded", b"c": "called"}
_STATUSES = {b"p": "passed", b"f": "failed", b"e": "error"}
_MESSAGE_BYTES = 1 + 4 * MAX_REASON_CHARACTERS
_WAIT_SECONDS = 0.1
_PR_SET_DUMPABLE = 4


def supervise(link: socket.socket, job: Json, *, is_other_user: bool) -> None:
    """Run the tests in a child process, and write the report to standard output.

    Args:
        link: Socket to the candidate process.
        job: The tests and the code.
        is_other_user: True if the process has changed its user, for which the kernel already made it not dumpable.
    """
    if not is_other_user:
        ctypes: Any = importlib.import_module("ctypes")
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _report(started=True)
    own, of_child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if not child:
        try:
            own.close()
            _run(link, job, of_child)
        finally:
            os._exit(0)
    of_child.close()
    link.close()
    status, why = _outcome(own, child)
    _report(status=status, why=why)


def _report(**document: Json) -> None:
    os.write(1, json.dumps(document).encode() + b"\n")


def _run(link: socket.socket, job: Json, supervisor: socket.socket) -> None:
    """Run the tests without standard streams, and send progress and result to the supervisor."""
    with Path(os.devnull).open("r+b", buffering=0) as nothing:
        for stream in (0, 1, 2):
            os.dup2(nothing.fileno(), stream)
    sys.stdin = open(0)  # noqa: SIM115 - the former one has been read
    verdict = importlib.import_module(".verdict", __package__)
    letters = {name: letter for letter, name in (_PROGRESS | _STATUSES).items()}
    status, why = verdict.run_tests(link, job, lambda name: supervisor.send(letters[name]))
    reason = why[:MAX_REASON_CHARACTERS].encode(errors="replace")
    supervisor.send(letters[status] + reason)


def _outcome(child_end: socket.socket, child: int) -> tuple[str, str]:
    """Return status and reason of the child process, of which nothing is believed but its first result."""
    expected = dict(_PROGRESS)
    while message := _message(child_end, child):
        kind, text = message[:1], message[1:]
        if kind in _STATUSES:
            return _STATUSES[kind], text.decode(errors="replace")[:MAX_REASON_CHARACTERS]
        if message in expected:
            _report(**{expected.pop(message): True})
    how = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(how) and os.WTERMSIG(how) == signal.SIGXCPU:
        return "timeout", "the CPU time ran out"
    return "error", "the tests ended their own process"


def _message(child_end: socket.socket, child: int) -> bytes:
    """Return the next message; b"" once the child has ended.

    Processes that the child started may still hold its socket.
    """
    while True:
        has_ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if select.select([child_end], [], [], 0 if has_ended else _WAIT_SECONDS)[0]:
            return child_end.recv(_MESSAGE_BYTES)
        if has_ended:
            return b""

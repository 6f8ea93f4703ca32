"""Entry point of both processes: resource limits, then the role.

The candidate process reads {"code"} from stdin. The supervisor of the tests reads {"tests", "code", "entry_point"} and
writes one line each to stdout: {"started": true}, {"loaded": true} after the code has run, {"called": true} before the
tests use it, and {"status": "passed" | "failed" | "timeout" | "error", "why": text}.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import socket
import sys
from typing import NoReturn

from .confinement import restrict
from .wire import Json


def confine(limits: Json) -> None:
    """Apply the resource limits, drop the user, and take on the other restrictions, permanently."""
    sys.set_int_max_str_digits(0)
    for name, soft in limits["resources"].items():
        # SIGXCPU at the soft limit identifies the cause; the hard limit stops code that ignores the signal.
        hard = soft + 1 if name == "RLIMIT_CPU" else soft
        resource.setrlimit(getattr(resource, name), (soft, hard))
    user = limits["user"]
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    restrict(limits["keyctl"])


def keep_only(descriptor: int) -> None:
    """Close all descriptors but the standard streams and one other.

    Some event loops of the service leave copies of the streams open, through which the code or the tests could write.
    """
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, 2**16)


def main(role: str, descriptor: str, limits: str) -> NoReturn:
    """Run the process of `role`, then exit without running atexit handlers of the candidate."""
    confine(json.loads(limits))
    keep_only(int(descriptor))
    link = socket.socket(fileno=int(descriptor))
    job = json.loads(sys.stdin.buffer.read())
    if role == "candidate":
        importlib.import_module(".candidate", __package__).serve_candidate(link, job["code"])
    else:
        supervisor = importlib.import_module(".supervisor", __package__)
        supervisor.supervise(link, job, is_other_user=json.loads(limits)["user"] is not None)
    sys.stdout.flush()
    os._exit(0)

"""Bubblewrap command line of a sandbox, for root and unprivileged users."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Iterable

from secondpass.service.sandbox.mounts import system_mounts
from secondpass.service.sandbox.seccomp import number_of
from secondpass.service.sandbox.unavailable import SandboxUnavailable

SCRATCH_BYTES = 16 * 2**20
PROCESSES = 16
FILES = 64
PENDING_SIGNALS = 256
"""Queued signals and timers of a process."""

_USERS = itertools.cycle(range(61_184, 65_184))
"""Unused user ids within a container's 65,536; one per sandbox, to separate process limits."""


def bubblewrap(filter_descriptor: int, mounts: Iterable[str] = ()) -> list[str]:
    """Return the sandbox command, with the options `mounts` and the seccomp filter in a descriptor.

    Raises:
        SandboxUnavailable: bubblewrap is not installed, or the libraries of Python cannot be listed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable("bwrap is not installed; run `apt-get install bubblewrap`")
    spaces = ["--unshare-all", "--uid", "65534", "--gid", "65534"]
    if os.geteuid() == 0:
        # RLIMIT_NPROC does not apply to root, also within a user namespace. So the process inside switches to another
        # user permanently, and keeps the capabilities for that until then.
        spaces = [f"--unshare-{kind}" for kind in ("ipc", "pid", "net", "uts", "cgroup-try")]
        spaces += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    devices = ["--perms", "0755", "--dir", "/dev"]
    for device in ("/dev/null", "/dev/urandom"):
        devices += ["--dev-bind", device, device]
    scratch = ["--perms", "1777", "--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 - private tmpfs
    return [
        program,
        *spaces,
        *("--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *("--seccomp", str(filter_descriptor)),
        *system_mounts(),
        *devices,
        *scratch,
        *mounts,
        *("--remount-ro", "/", "--chdir", "/tmp"),  # noqa: S108
    ]


def limits_of(cpu_seconds: float, memory_bytes: int) -> str:
    """Return the limits of each sandboxed process as JSON.

    They are the resource limits, the user id that root switches to, and the number of the keyctl call.
    Raises SandboxUnavailable on a machine whose system calls cannot be filtered.
    """
    resources = {
        "RLIMIT_CPU": math.ceil(cpu_seconds),
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_NPROC": PROCESSES,
        "RLIMIT_FSIZE": SCRATCH_BYTES,
        "RLIMIT_NOFILE": FILES,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_SIGPENDING": PENDING_SIGNALS,
    }
    user = next(_USERS) if os.geteuid() == 0 else None
    return json.dumps({"resources": resources, "user": user, "keyctl": number_of("keyctl")})

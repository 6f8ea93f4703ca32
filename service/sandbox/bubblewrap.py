"""How bubblewrap is told to make one sandbox, as root and as anybody else."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import sys
from pathlib import Path

from secondpass.strategies.api.errors import SecondpassError

SCRATCH_BYTES = 16 * 2**20
PROCESSES = 16
FILES = 64

_USERS = itertools.cycle(range(61_184, 65_184))
"""Nobody's: each sandbox counts its processes by its own. All fit into the 65,536 users of a container."""


class SandboxUnavailable(SecondpassError):
    """No sandbox could be set up, so nothing was run; the text says what to change."""


def bubblewrap() -> list[str]:
    """The sandbox as a command. Raises SandboxUnavailable where bubblewrap is not installed."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable("bwrap is not installed: `apt-get install bubblewrap` has it")
    spaces = ["--unshare-all", "--uid", "65534", "--gid", "65534"]
    if os.geteuid() == 0:
        # A user space of root's has root in it, whom the kernel lets start any number of processes. So root changes
        # its user for good instead, inside, and keeps what that takes until then.
        spaces = [f"--unshare-{kind}" for kind in ("ipc", "pid", "net", "uts", "cgroup-try")]
        spaces += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    devices = ["--perms", "0755", "--dir", "/dev"]
    for device in ("/dev/null", "/dev/urandom"):
        devices += ["--dev-bind", device, device]
    scratch = ["--perms", "1777", "--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 - its own
    return [
        program,
        *spaces,
        *("--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *_system(),
        *devices,
        *scratch,
        *("--remount-ro", "/", "--chdir", "/tmp"),  # noqa: S108
    ]


def _system() -> list[str]:
    """Read-only: the system's programs and libraries, and the Python that runs this."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/lib", "/lib32", "/lib64"):
        path = Path(name)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), name]
        elif path.exists():
            options += ["--ro-bind", name, name]
    prefix = Path(sys.base_prefix)
    if prefix.is_relative_to("/usr"):
        return options
    for folder in reversed(prefix.parents[:-1]):  # else only root might pass through them
        options += ["--perms", "0755", "--dir", str(folder)]
    return [*options, "--ro-bind", str(prefix), str(prefix)]


def python() -> str:
    """The interpreter inside: the one that this environment was made from, without what was installed into it."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(Path(sys.base_prefix, "bin", version))


def limits_of(cpu_seconds: float, memory_bytes: int) -> str:
    """What each process inside gives up, as JSON: resources, and the user whom root becomes."""
    resources = {
        "RLIMIT_CPU": math.ceil(cpu_seconds),
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_NPROC": PROCESSES,
        "RLIMIT_FSIZE": SCRATCH_BYTES,
        "RLIMIT_NOFILE": FILES,
        "RLIMIT_CORE": 0,
    }
    return json.dumps({"resources": resources, "user": next(_USERS) if os.geteuid() == 0 else None})

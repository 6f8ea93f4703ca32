"""Bubblewrap command line of a sandbox, for root and unprivileged users."""

from __future__ import annotations

import importlib.util
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

SITE_PACKAGES = "/site-packages"
"""Folder of third-party packages in the sandbox of the tests."""

_USERS = itertools.cycle(range(61_184, 65_184))
"""Unused user ids within a container's 65,536; one per sandbox, to separate process limits."""


class SandboxUnavailable(SecondpassError):
    """The sandbox could not be set up, and nothing was run. The message contains the cause."""


def bubblewrap(packages: Path | None = None) -> list[str]:
    """Return the sandbox command. Raises SandboxUnavailable if bubblewrap is not installed.

    A folder of `packages` is mounted read-only at SITE_PACKAGES.
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
        *_system(),
        *devices,
        *scratch,
        *(("--ro-bind", str(packages), SITE_PACKAGES) if packages else ()),
        *("--remount-ro", "/", "--chdir", "/tmp"),  # noqa: S108
    ]


def _system() -> list[str]:
    """Return read-only mounts of system programs, libraries and the running Python."""
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
    for folder in reversed(
        prefix.parents[:-1]
    ):  # created 0755, so that other users can traverse them
        options += ["--perms", "0755", "--dir", str(folder)]
    return [*options, "--ro-bind", str(prefix), str(prefix)]


def python() -> str:
    """Return the base interpreter, without the packages of this environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(Path(sys.base_prefix, "bin", version))


def site_packages() -> Path | None:
    """Return the folder that contains pytest; None if pytest is not installed."""
    found = importlib.util.find_spec("pytest")
    return Path(found.origin).parents[1] if found is not None and found.origin else None


def limits_of(cpu_seconds: float, memory_bytes: int) -> str:
    """Return the limits of each sandboxed process as JSON.

    They are the resource limits and the user id that root switches to.
    """
    resources = {
        "RLIMIT_CPU": math.ceil(cpu_seconds),
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_NPROC": PROCESSES,
        "RLIMIT_FSIZE": SCRATCH_BYTES,
        "RLIMIT_NOFILE": FILES,
        "RLIMIT_CORE": 0,
    }
    return json.dumps({"resources": resources, "user": next(_USERS) if os.geteuid() == 0 else None})

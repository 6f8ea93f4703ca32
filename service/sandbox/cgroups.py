"""Control groups that bound all processes of a test run together, where the service may create some.

Version 2 needs a delegated group, with the service in a child of it (systemd: `Delegate=` and `DelegateSubgroup=`).
Version 1 needs write access to the service's own group of the memory and pids controllers.
"""

from __future__ import annotations

import itertools
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import anyio

PREFIX = "secondpass-sandbox-"
REMOVAL_SECONDS = 2.0
"""Seconds in which killed processes must have left their group; a later start removes the rest."""

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Group:
    """A control group of one test run: a folder of version 2, or one for each controller of version 1."""

    folders: tuple[Path, ...]

    def joined(self, command: list[str]) -> list[str]:
        """Return a command that joins the group and then runs `command`."""
        script = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
        folders = (str(folder) for folder in self.folders)
        return ["/bin/sh", "-c", script, "sh", *folders, "--", *command]

    def is_out_of_memory(self) -> bool:
        """Return whether the kernel has killed a process of the group for its memory."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                if _entry(folder / name, "oom_kill"):
                    return True
        return False

    def cpu_seconds(self) -> float | None:
        """Return the CPU time of all processes of the group, ended ones included; None if not counted."""
        for folder in self.folders:
            if (used := _entry(folder / "cpu.stat", "usage_usec")) is not None:
                return used / 1e6
            with suppress(OSError):
                return int((folder / "cpuacct.usage").read_text()) / 1e9
        return None

    async def remove(self) -> None:
        """Kill what is left in the group and remove it."""
        for folder in self.folders:
            _kill_all(folder)
        with anyio.move_on_after(REMOVAL_SECONDS, shield=True):
            while not all(_is_removed(folder) for folder in self.folders):  # noqa: ASYNC110 - no event
                await anyio.sleep(0.01)


def new_group(memory_bytes: int, processes: int) -> Group | None:
    """Create the group of a test run; None where the service may not create one.

    It limits the memory, swap included, and the number of tasks, and counts CPU time.
    """
    parents = _parents()
    name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
    folders = tuple(parent / name for parent in dict.fromkeys(parents.values()))
    group = Group(folders)
    if not folders:
        return None
    try:
        for folder in folders:
            folder.mkdir()
        for controller, parent in parents.items():
            for file, value in _settings(controller, memory_bytes, processes):
                path = parent / name / file
                # Some files are absent: those of the other version, and of swap where it is not counted.
                if path.exists():
                    path.write_text(value)
    except OSError:  # not delegated completely
        for folder in folders:
            _is_removed(folder)
        return None
    return group


def _settings(controller: str, memory_bytes: int, processes: int) -> list[tuple[str, str]]:
    return {
        "memory": [
            ("memory.max", str(memory_bytes)),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("memory.limit_in_bytes", str(memory_bytes)),
            ("memory.memsw.limit_in_bytes", str(memory_bytes)),
        ],
        "pids": [("pids.max", str(processes))],
        "cpuacct": [],
    }[controller]


@cache
def _parents() -> dict[str, Path]:
    """Return the group below which each controller's groups are created; empty if there is none.

    First, groups of services that were killed are removed. A bubblewrap that was starting then may still wait in one.
    """
    found = _delegated_parent() or _version_1_parents()
    for parent in set(found.values()):
        for folder in parent.glob(f"{PREFIX}*"):
            pid = folder.name.removeprefix(PREFIX).partition("-")[0]
            if pid == str(os.getpid()) or not Path("/proc", pid).exists():
                _kill_all(folder)
                _is_removed(folder)
    return found


def _delegated_parent() -> dict[str, Path]:
    """Return the delegated group of version 2 for each of its controllers; empty if there is none."""
    own = _own_groups().get("")
    mount = _mounts().get("")
    if own is None or mount is None or own == "/":
        return {}
    parent = Path(f"{mount}{own}").parent
    needed = {"memory", "pids"}
    if not needed <= _words(parent / "cgroup.controllers") or not _is_delegated(parent):
        return {}
    missing = needed - _words(parent / "cgroup.subtree_control")
    try:
        if missing:
            words = " ".join(f"+{name}" for name in missing)
            (parent / "cgroup.subtree_control").write_text(words)
    except OSError:  # it has processes of its own
        return {}
    return dict.fromkeys(sorted(needed), parent)


def _is_delegated(folder: Path) -> bool:
    """Return whether this user may manage a group: root only if systemd marked it as delegated."""
    if not all(os.access(path, os.W_OK) for path in (folder, folder / "cgroup.procs")):
        return False
    if os.geteuid() != 0:
        return True
    marks = []
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            marks.append(os.getxattr(folder, name))
    return b"1" in marks


def _version_1_parents() -> dict[str, Path]:
    """Return the own group of each controller of version 1; empty unless memory and pids are writable."""
    found: dict[str, Path] = {}
    own, mounts = _own_groups(), _mounts()
    for name in ("memory", "pids", "cpuacct"):
        if name in own and name in mounts:
            folder = Path(f"{mounts[name]}{own[name]}".rstrip("/"))
            if os.access(folder, os.W_OK):
                found[name] = folder
    return found if {"memory", "pids"} <= {*found} else {}


def _own_groups() -> dict[str, str]:
    """Return the path of this process's group by controller of version 1, or "" for version 2."""
    with suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        parts = (line.split(":", 2) for line in lines)
        return {name: path for _, names, path in parts for name in names.split(",")}
    return {}


def _mounts() -> dict[str, str]:
    """Return the writable mount points of control groups, by controller of version 1, or "" for version 2."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
            _, folder, kind, options, *_ = line.split()
            names = {"cgroup2": [""], "cgroup": options.split(",")}.get(kind, [])
            if "rw" in options.split(","):
                found |= dict.fromkeys(names, folder)
    return found


def _words(path: Path) -> set[str]:
    with suppress(OSError):
        return {*path.read_text(encoding="utf-8").split()}
    return set()


def _entry(path: Path, name: str) -> int | None:
    """Return the number after `name` in a file of lines "NAME NUMBER"; None if it is absent."""
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] == [name]:
                return int(words[1])
    return None


def _kill_all(folder: Path) -> None:
    """Kill the processes of a group."""
    for pid in _words(folder / "cgroup.procs"):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # its processes have not ended
        return False
    return True

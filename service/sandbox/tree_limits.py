"""Watch of all processes of a test run: memory, CPU time and files of both sandboxes together.

Resource limits of the kernel bound one process only. The watch reads /proc and ends the run soon after a bound is
exceeded. It samples the more often, the less memory is left: between two samples the processes cannot allocate more
than is left. Shared memory cannot exist in the sandbox outside of its scratch folder (see `seccomp`), so the sum of
what each process has in its page tables includes all memory.
"""

from __future__ import annotations

import os
import re
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from secondpass.service.sandbox.cgroups import Group

Resource = Literal["memory", "cpu", "files"]
Role = Literal["candidate", "tester"]

PROMISED_BYTES = 2**30
"""Memory of a test run that is never exceeded, where the kernel enforces it or the watch runs in time."""

MEMORY_BYTES = 3 * 2**28
"""Memory of both sandboxes at which the run ends.

The difference to PROMISED_BYTES covers the delay of the watch.
"""

MAX_FILES = 4096
"""Files in the scratch folder of a sandbox; each costs about 1 KiB of kernel memory."""

DEFAULT_BUFFER_BYTES = 212_992
"""Buffer of a socket, where the kernel's setting is not visible, as in most containers."""

TASK_BYTES = 32 * 2**10
"""Kernel memory of a process: stack and descriptors."""

FILL_RATE = 3 * 2**30
"""Bytes per second that a processor can allocate in pages of 4 KiB."""

UNSEEN_SECONDS = 0.005
"""CPU time charged for a process that started and ended between two samples."""

SHARING_SECONDS, SHARING_RATE = 0.005, 40 * 2**30
"""CPU time of the watch for the pages that processes share, and bytes for each further second.

Code can make the reading slow by many small mappings. The memory of a process that is not read in time counts as if it
were not shared. Time of the clock may be five times as much.
"""

MIN_INTERVAL, MAX_INTERVAL = 0.005, 0.05
_MAPPED = re.compile(r"^(?:RssAnon|RssShmem|VmSwap|VmPTE):\s*(\d+)", re.MULTILINE)
_SHARE = re.compile(r"^(?:Pss_Anon|Pss_Shmem|SwapPss):\s*(\d+)", re.MULTILINE)
_PAGE_TABLES = re.compile(r"^VmPTE:\s*(\d+)", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Excess:
    """A bound that was exceeded.

    Attributes:
        resource: Name of the bound.
        role: The sandbox that used more of it.
        why: Predicate of a sentence whose subject is the code or the tests.
    """

    resource: Resource
    role: Role
    why: str


@dataclass(frozen=True, slots=True)
class _Use:
    """Use of one sandbox: bytes of memory, seconds of CPU time since its start, and files."""

    memory: int = 0
    cpu: float = 0.0
    files: int = 0


class _Tree:
    """Processes of one sandbox: a bubblewrap that this process started, and its descendants."""

    def __init__(self, root: int, scratch_bytes: int) -> None:
        self._root = root
        self._scratch_bytes = scratch_bytes
        self._scratch: int | None = None
        self._seen: dict[int, float] = {}
        self._newest = 0
        self._socket_bytes = _socket_bytes()
        self._last = _Use()
        self._handle: int | None = None
        with suppress(ProcessLookupError):  # it has ended
            self._handle = os.pidfd_open(root)

    def kill(self) -> None:
        """Kill bubblewrap and, with it, all processes.

        Its process group is killed: until it has set up the sandbox, its child does not die with it.
        """
        if self._handle is not None and not self._has_ended(self._handle):
            with suppress(ProcessLookupError):
                os.killpg(self._root, signal.SIGKILL)

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in (self._scratch, self._handle):
            if descriptor is not None:
                os.close(descriptor)
        self._scratch = self._handle = None

    def use(self) -> _Use:
        """Return the use of all processes. After their end, only the CPU time counts."""
        if self._handle is None or self._has_ended(self._handle):
            return _Use(cpu=self._last.cpu)
        pids = list(_tree(self._root))
        scratch, files = self._scratch_use(pids)
        memory = sum(map(self._mapped, pids))
        if memory > MEMORY_BYTES // 2:
            memory = min(memory, self._shared(pids, memory))
        memory += scratch + self._sockets(pids) * self._socket_bytes
        self._last = _Use(memory, max(self._cpu_seconds(pids), self._last.cpu), files)
        return self._last

    @staticmethod
    def _has_ended(handle: int) -> bool:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(0))

    def _mapped(self, pid: int) -> int:
        """Return the memory in the page tables of a process, and the memory that the kernel needs for it."""
        status = _text(f"/proc/{pid}/status")
        numbers = status.partition("\nNSpid:")[2].partition("\n")[0].split()
        if len(numbers) > 1:  # bubblewrap itself has one
            self._newest = max(self._newest, int(numbers[-1]))
        return TASK_BYTES + 1024 * sum(map(int, _MAPPED.findall(status)))

    def _shared(self, pids: list[int], unshared: int) -> int:
        """Return the memory of processes, pages that they share in proportion, as far as time allows."""
        memory, seconds = 0, SHARING_SECONDS + unshared / SHARING_RATE
        cpu_end, end = time.thread_time() + seconds, time.monotonic() + 5 * seconds
        for pid in pids:
            is_late = time.thread_time() > cpu_end or time.monotonic() > end
            memory += self._mapped(pid) if is_late else self._proportional(pid)
        return memory

    def _proportional(self, pid: int) -> int:
        """Return the memory of a process, pages that it shares after a fork in proportion."""
        try:
            rollup = _text(f"/proc/{pid}/smaps_rollup")
        except PermissionError:
            return self._mapped(pid)
        own = _SHARE.findall(rollup) + _PAGE_TABLES.findall(_text(f"/proc/{pid}/status"))
        return TASK_BYTES + 1024 * sum(map(int, own))

    def _cpu_seconds(self, pids: list[int]) -> float:
        """Return a lower bound of the CPU time of all processes, ended ones included.

        It is exact if parents wait for their children. Otherwise it contains what the samples have seen.
        """
        waited = 0.0
        for pid in pids:
            words = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if words:
                own, children = (sum(map(int, words[at : at + 2])) / _TICKS for at in (11, 13))
                waited += own + children
                self._seen[pid] = max(own, self._seen.get(pid, 0.0))
        unseen = max(0, self._newest - len(self._seen)) * UNSEEN_SECONDS
        return max(waited, sum(self._seen.values()) + unseen)

    def _sockets(self, pids: list[int]) -> int:
        """Return the number of sockets in the network of the sandbox."""
        for pid in pids[1:]:
            words = _text(f"/proc/{pid}/net/sockstat").split()
            if words[:2] == ["sockets:", "used"]:
                return int(words[2])
        return 0

    def _scratch_use(self, pids: list[int]) -> tuple[int, int]:
        """Return the bytes and files of the scratch folder; zeros until the sandbox has it."""
        if self._scratch is None:
            for pid in pids[1:2]:
                with suppress(FileNotFoundError, ProcessLookupError):
                    self._scratch = os.open(f"/proc/{pid}/root/tmp", os.O_PATH | os.O_DIRECTORY)
        if self._scratch is None:
            return 0, 0
        state = os.fstatvfs(self._scratch)
        if state.f_blocks * state.f_frsize != self._scratch_bytes:  # still that of the machine
            os.close(self._scratch)
            self._scratch = None
            return 0, 0
        return (state.f_blocks - state.f_bfree) * state.f_frsize, state.f_files - state.f_ffree


class TreeWatch:
    """Watch of the sandboxes of a test run, in a thread of its own until `end`.

    It kills all processes if a bound is exceeded, or if it cannot watch them.

    Attributes:
        excess: The bound that was exceeded; None if none was.
        failure: The error that ended the watch; None if it works.
    """

    def __init__(
        self, roots: dict[Role, int], cpu_seconds: float, scratch_bytes: int, group: Group | None
    ) -> None:
        self.excess: Excess | None = None
        self.failure: Exception | None = None
        self._trees = {role: _Tree(pid, scratch_bytes) for role, pid in roots.items()}
        self._cpu_seconds = cpu_seconds
        self._group = group
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="sandbox-watch", daemon=True).start()

    def end(self) -> None:
        """End the watch."""
        self._ended.set()

    def _run(self) -> None:
        rate = len(os.sched_getaffinity(0)) * FILL_RATE
        interval = 0.0
        try:
            while self.excess is None and not self._ended.wait(interval):
                left = self._sample()
                interval = min(max(left / rate, MIN_INTERVAL), MAX_INTERVAL)
        except Exception as error:  # noqa: BLE001 - reported by the test run
            self.failure = error
        for tree in self._trees.values():
            if self.excess or self.failure:
                tree.kill()
            tree.close()

    def _sample(self) -> int:
        """Set `excess` if a bound is exceeded, and return the bytes of memory that are left."""
        use = {role: tree.use() for role, tree in self._trees.items()}
        memory = sum(each.memory for each in use.values())
        cpu = sum(each.cpu for each in use.values())
        if self._group is not None:
            cpu = max(cpu, self._group.cpu_seconds() or 0.0)
        if memory > MEMORY_BYTES or (self._group and self._group.is_out_of_memory()):
            role = max(use, key=lambda role: use[role].memory)
            why = f"used more than {MEMORY_BYTES >> 20} MiB of memory"
            self.excess = Excess("memory", role, why)
        elif cpu > self._cpu_seconds:
            role = max(use, key=lambda role: use[role].cpu)
            why = f"used more than {self._cpu_seconds:g} s of CPU time in all processes"
            self.excess = Excess("cpu", role, why)
        for role, each in use.items():
            if each.files > MAX_FILES and self.excess is None:
                self.excess = Excess("files", role, f"created more than {MAX_FILES} files")
        return MEMORY_BYTES - memory


def _socket_bytes() -> int:
    """Return the memory of a full local socket, with the kernel's own data. Code cannot enlarge it."""
    found = _text("/proc/sys/net/core/wmem_default")
    return 2 * (int(found) if found else DEFAULT_BUFFER_BYTES)


def _tree(root: int) -> Iterator[int]:
    """Yield a process and its descendants, parents first.

    Orphans are children of the sandbox's first process.
    """
    pids = [root]
    while pids:
        pid = pids.pop(0)
        yield pid
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - faster
                pids += map(int, _text(f"/proc/{pid}/task/{thread}/children").split())


def _text(path: str) -> str:
    """Return a file of /proc; empty if its process has ended."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - faster, and read often
            return file.read().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""

"""Bounds of all processes of a test run together, against code that evades those of one process."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from secondpass.service.sandbox import cgroups, runner, tree_limits
from secondpass.service.sandbox.cgroups import Group, new_group
from secondpass.service.sandbox.runner import SandboxResult, SandboxUnavailable, run_python
from secondpass.service.sandbox.tree_limits import MAX_FILES, PROMISED_BYTES, TreeWatch
from tests.polling import wait_until
from tests.sandbox.sandboxes import sandboxes
from tools.process_tree import descendants

pytestmark = pytest.mark.anyio

ADD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(2, 3) == 5"
FORKS = (
    "import os, time\n"
    "def forked(count, work):\n"
    "    for _ in range(count):\n"
    "        if os.fork() == 0:\n"
    "            try:\n"
    "                work()\n"
    "            finally:\n"
    "                os._exit(0)\n"
)
KEEP = "def keep(size=400):\n    data = bytearray(size * 2**20)\n    time.sleep(20)\n"


@pytest.fixture(params=["control group", "watch alone"])
def bound(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with a control group, where this machine has one to offer, and without."""
    if request.param == "watch alone":
        monkeypatch.setattr(runner, "new_group", lambda *_: None)
    elif not cgroups._parents():
        pytest.skip("no control group is delegated on this machine")
    return str(request.param)


class Peak:
    """Largest memory of all descendants of this process, from their proportional shares."""

    def __init__(self) -> None:
        self.memory = 0
        self.ended = threading.Event()

    def sample(self) -> None:
        """Sample until `ended`."""
        while not self.ended.wait(0.005):
            total = 0
            for pid in descendants(os.getpid()):
                try:
                    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                except OSError:
                    continue
                total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))  # fmt: skip
            self.memory = max(self.memory, total * 1024)


@contextmanager
def peak() -> Iterator[Peak]:
    found = Peak()
    thread = threading.Thread(target=found.sample)
    thread.start()
    try:
        yield found
    finally:
        found.ended.set()
        thread.join()


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Assert that the block leaves no process and no control group."""
    yield
    wait_until(lambda: not sandboxes())
    for parent in set(cgroups._parents().values()):
        assert not [*parent.glob(f"{cgroups.PREFIX}{os.getpid()}-*")]


MEMORY = {
    "many processes": f"{FORKS}{KEEP}forked(5, keep)\ntime.sleep(20)\n",
    "processes that exit and return": (
        f"{FORKS}{KEEP}def again():\n    forked(3, keep)\n    time.sleep(20)\nforked(2, again)\ntime.sleep(20)\n"
    ),
    "orphans": f"{FORKS}{KEEP}def parent():\n    forked(5, keep)\nforked(1, parent)\ntime.sleep(20)\n",
    "page tables": (
        f"{FORKS}import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]\n"
        "def scatter():\n"
        "    for number in range(1, 60_000):\n"
        "        found = libc.mmap(number << 31, 4096, 3, 0x22, -1, 0)\n"
        "        ctypes.memset(found, 1, 1)\n"
        "    time.sleep(20)\n"
        "forked(4, scatter)\ntime.sleep(20)\n"
    ),
    "local sockets": (
        f"{FORKS}{KEEP}import socket\n"
        "def fill():\n"
        "    kept = []\n"
        "    for _ in range(28):\n"
        "        pair = socket.socketpair()\n"
        "        for each in pair:\n"
        "            each.setblocking(False)\n"
        "            try:\n"
        "                while True:\n"
        "                    each.send(bytes(2**16))\n"
        "            except BlockingIOError:\n"
        "                pass\n"
        "        kept.append(pair)\n"
        "    time.sleep(20)\n"
        "forked(12, fill)\nforked(1, lambda: keep(300))\nkeep(300)\n"
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("code", MEMORY.values(), ids=MEMORY.keys())
@pytest.mark.usefixtures("bound")
async def test_memory_of_all_processes_is_bounded(code: str) -> None:
    async with nothing_left():
        with peak() as found:
            result = await run_python(code + ADD, TESTS, wall_seconds=15)
    assert result.status == "failed"
    assert "the code used more than 768 MiB of memory" in result.output
    assert found.memory < PROMISED_BYTES


async def test_processes_of_the_code_do_not_count_as_processes_of_the_tests() -> None:
    code = f"{FORKS}forked(14, lambda: time.sleep(20))\n" + ADD
    result = await run_python(code, TESTS)
    assert result.status == "passed", result


REFUSED_MEMORY = {
    "SysV": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.shmat.restype = ctypes.c_void_p\n"
        "ids = [libc.shmget(0, ctypes.c_size_t(400 * 2**20), 0o1600) for _ in range(8)]\n"
        "assert max(ids) >= 0\n"
    ),
    "memfd": "import os\nfor _ in range(8):\n    os.write(os.memfd_create('x'), bytes(400 * 2**20))\n",
    "shared anonymous": "import mmap\nkept = [mmap.mmap(-1, 100 * 2**20) for _ in range(8)]\n",
    "more than the address space": "kept = [bytearray(100 * 2**20) for _ in range(8)]\n",
    "the scratch folder": "open('/tmp/x', 'wb').write(bytes(8 * 2**20))\nopen('/tmp/y', 'wb').write(bytes(9 * 2**20))\n",
    "shared memory files": "open('/dev/shm/x', 'wb')\n",
}


@pytest.mark.parametrize("code", REFUSED_MEMORY.values(), ids=REFUSED_MEMORY.keys())
async def test_memory_without_a_process_is_refused(code: str) -> None:
    async with nothing_left():
        with peak() as found:
            result = await run_python(code + ADD, TESTS)
    assert result.status == "failed"
    assert any(word in result.output for word in ("Error", "assert")), result
    assert found.memory < 600 * 2**20


async def test_files_are_counted() -> None:
    code = f"for i in range({MAX_FILES + 1}):\n    open(f'/tmp/{{i}}', 'w').close()\nimport time\ntime.sleep(5)\n"
    result = await run_python(code + ADD, TESTS)
    assert result.status == "failed"
    assert f"the code created more than {MAX_FILES} files" in result.output


@pytest.mark.faults
async def test_a_flood_of_files_ends_early() -> None:
    code = "i = 0\nwhile True:\n    open(f'/tmp/{i}', 'w').close()\n    i += 1\n"
    start = time.monotonic()
    result = await run_python(code + ADD, TESTS)
    assert "files" in result.output
    assert time.monotonic() - start < 5


CPU = {
    "processes that are awaited": "while True:\n    forked(1, lambda: burn(SECONDS))\n    os.wait()\n",
    "processes that nobody awaits": (
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n    try:\n"
        "        forked(1, lambda: burn(SECONDS))\n    except BlockingIOError:\n        pass\n    time.sleep(SECONDS)\n"
    ),
    "processes at once": "forked(10, lambda: burn(60))\nwhile True:\n    time.sleep(1)\n",
}
BURN = (
    "def burn(seconds):\n    end = time.process_time() + seconds\n"
    "    while time.process_time() < end:\n        pass\n"
)


@pytest.mark.faults
@pytest.mark.parametrize("seconds", ["0.03", "0.5"])
@pytest.mark.parametrize("code", CPU.values(), ids=CPU.keys())
@pytest.mark.usefixtures("bound")
async def test_cpu_time_of_all_processes_is_bounded(code: str, seconds: str) -> None:
    code = FORKS + BURN + code.replace("SECONDS", seconds) + ADD
    before = os.times()
    async with nothing_left():
        result = await run_python(code, TESTS, cpu_seconds=0.5, wall_seconds=60)
    assert result.status == "timeout"
    assert "1.5 s of CPU time in all processes" in result.output
    after = os.times()
    assert (
        after.children_user + after.children_system - before.children_user - before.children_system
        < 6
    )


@pytest.mark.faults
@pytest.mark.usefixtures("bound")
async def test_a_fork_bomb_ends_within_the_bounds() -> None:
    code = "import os\ndef add(a, b):\n    while True:\n        os.fork()\n        data = bytearray(2**24)\n"
    async with nothing_left():
        with peak() as found:
            result = await run_python(code, TESTS, wall_seconds=8)
    assert result.status in ("failed", "timeout")
    assert found.memory < PROMISED_BYTES


@pytest.mark.usefixtures("bound")
async def test_tests_that_use_the_memory_before_they_call_the_code_are_an_error() -> None:
    result = await run_python(
        ADD, f"{FORKS}{KEEP}forked(5, keep)\ntime.sleep(20)\nassert add(2, 3) == 5"
    )
    assert result == SandboxResult(
        "error", "the tests used more than 768 MiB of memory before they called the code"
    )


def test_memory_that_is_slow_to_read_counts_as_if_it_were_not_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow(tree: object, pid: int) -> int:
        end = time.thread_time() + 2 * tree_limits.SHARING_SECONDS
        while time.thread_time() < end:
            pass
        return 1

    monkeypatch.setattr(tree_limits._Tree, "_proportional", slow)
    monkeypatch.setattr(tree_limits._Tree, "_mapped", lambda *_: 10)
    tree = tree_limits._Tree(os.getpid(), 0)
    assert tree._shared([1] * 20, 0) == 1 + 19 * 10
    tree.close()


async def test_memory_that_processes_share_after_a_fork_counts_once() -> None:
    code = f"{FORKS}class Kept:\n    data = bytearray(150 * 2**20)\nforked(10, lambda: time.sleep(1))\ntime.sleep(1)\n{ADD}"
    result = await run_python(code, TESTS)
    assert result == SandboxResult("passed", "")


async def test_a_control_group_bounds_its_processes_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not cgroups._parents():
        pytest.skip("no control group is delegated on this machine")
    monkeypatch.setattr(tree_limits, "MEMORY_BYTES", 2**40)
    async with nothing_left():
        with peak() as found:
            result = await run_python(f"{FORKS}{KEEP}forked(5, keep)\ntime.sleep(20)\n{ADD}", TESTS)
    assert result.status == "failed"
    assert "MiB of memory" in result.output
    assert found.memory < PROMISED_BYTES


def test_groups_of_a_killed_service_are_removed_with_their_processes() -> None:
    if not cgroups._parents():
        pytest.skip("no control group is delegated on this machine")
    (folder, *_) = cgroups._parents().values()
    stale = folder / f"{cgroups.PREFIX}{2**22 + 1}-0"
    stale.mkdir()
    with subprocess.Popen(Group((stale,)).joined(["/bin/sleep", "60"])) as process:
        wait_until(lambda: bool((stale / "cgroup.procs").read_text()))
        cgroups._parents.cache_clear()
        assert cgroups._parents()
        assert process.wait(10) == -signal.SIGKILL
    cgroups._parents.cache_clear()
    group = new_group(2**30, 8)
    assert group is not None
    assert not stale.exists()
    anyio.run(group.remove)
    assert not any(each.exists() for each in group.folders)


async def test_processes_that_cannot_be_watched_do_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: TreeWatch) -> int:
        raise PermissionError(13, "no access")

    monkeypatch.setattr(TreeWatch, "_sample", refuse)
    async with nothing_left():
        with pytest.raises(SandboxUnavailable, match=r"cannot be watched: .*no access"):
            await run_python(ADD, TESTS)


async def test_a_group_that_cannot_be_created_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_parents", lambda: {"memory": tmp_path / "missing"})
    assert new_group(2**30, 8) is None
    assert Group(()).cpu_seconds() is None


def test_a_delegated_group_of_version_2_is_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path / "secondpass.service"
    (parent / "main").mkdir(parents=True)
    (parent / "cgroup.controllers").write_text("cpu memory pids\n")
    (parent / "cgroup.subtree_control").write_text("")
    (parent / "cgroup.procs").write_text("")
    monkeypatch.setattr(cgroups, "_own_groups", lambda: {"": "/secondpass.service/main"})
    monkeypatch.setattr(cgroups, "_mounts", lambda: {"": str(tmp_path)})
    if os.geteuid() == 0:
        assert cgroups._delegated_parent() == {}  # root could write to any group
        os.setxattr(parent, "user.delegate", b"1")
    assert cgroups._delegated_parent() == {"memory": parent, "pids": parent}
    assert {*(parent / "cgroup.subtree_control").read_text().split()} == {"+memory", "+pids"}
    (parent / "cgroup.controllers").write_text("cpu pids\n")
    assert cgroups._delegated_parent() == {}

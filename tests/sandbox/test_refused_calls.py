"""System calls that the seccomp filter refuses, called by code in the real sandbox."""

import ctypes
import errno
import json
import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from secondpass.service.common.concurrency import task_group
from secondpass.service.sandbox import runner
from secondpass.service.sandbox.inside import confinement
from secondpass.service.sandbox.runner import run_python
from secondpass.service.sandbox.seccomp import (
    LAST_KNOWN,
    number_of,
    refused_calls,
    seccomp_filter,
)
from secondpass.service.sandbox.unavailable import SandboxUnavailable
from tests.polling import wait_until

pytestmark = pytest.mark.anyio

KEYCTL_GET_KEYRING_ID, SESSION = 0, -3

CALL = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in arguments))
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "ok"

def calls(numbers):
    return {name: call(*arguments) for name, arguments in numbers.items()}
"""


def given(name: str, *arguments: int) -> list[int]:
    return [number_of(name), *arguments]


ARGUMENTS = {
    **{f"clone {flag:#x}": given("clone", flag | 17) for flag in (
        0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)},
    **{f"socket {family}": given("socket", family, 1, 0) for family in (
        2, 10, 15, 16, 17, 38, 40, 44)},  # IPv4, IPv6, key, netlink, packet, crypto, vsock, xdp
    "keyctl read": given("keyctl", KEYCTL_GET_KEYRING_ID, SESSION, 0),
    "keyctl join a named keyring": given("keyctl", 1, 2**40),
    "ioctl TIOCSTI": given("ioctl", 0, 0x5412, 0),
    "fcntl F_SETPIPE_SZ": given("fcntl", 0, 1031, 2**20),
    "setsockopt SO_SNDBUF": given("setsockopt", 0, 1, 7, 0, 0),
    "mmap shared anonymous": given("mmap", 0, 4096, 3, 0x21, -1, 0),
    "mmap huge": given("mmap", 0, 2**21, 3, 0x40022, -1, 0),
    "madvise huge pages": given("madvise", 0, 0, 14),
    "prctl huge pages": given("prctl", 41, 0, 0, 0, 0),
    "prctl huge pages where advised": given("prctl", 41, 1, 2, 0, 0),
}  # fmt: skip


async def errors_of(
    numbers: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Return the name of the error of each call, made by code in the sandbox."""
    monkeypatch.setattr(runner, "MAX_OUTPUT_CHARACTERS", 2**20)
    code = f"import json\n{CALL}\nprint('RESULT', json.dumps(calls({numbers!r})))\ndef zero():\n    return 0\n"
    result = await run_python(code, "assert zero() == 1")
    assert "RESULT" in result.output, result
    return dict(json.loads(result.output.partition("RESULT")[2]))


async def test_refused_calls_fail_whatever_their_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {name: [number, 0, 0, 0, 0, 0, 0] for name, number in refused_calls().items()}
    assert await errors_of(numbers, monkeypatch) == dict.fromkeys(numbers, "EPERM")


async def test_calls_are_refused_by_their_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await errors_of(ARGUMENTS, monkeypatch) == dict.fromkeys(ARGUMENTS, "EPERM")


async def test_clone3_and_unknown_calls_do_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"clone3": [435, 0, 0], "newer": [LAST_KNOWN + 1], "x32": [0x40000000 + 39]}
    assert await errors_of(numbers, monkeypatch) == dict.fromkeys(numbers, "ENOSYS")


async def test_threads_processes_and_local_sockets_work() -> None:
    code = (
        "import asyncio, socket, subprocess, sys, threading\n"
        "def add(a, b):\n"
        "    found = []\n"
        "    threads = [threading.Thread(target=found.append, args=(i,)) for i in range(4)]\n"
        "    [each.start() for each in threads], [each.join() for each in threads]\n"
        "    assert len(found) == 4\n"
        "    subprocess.run([sys.executable, '-I', '-S', '-c', 'print(1)'], check=True)\n"
        "    one, two = socket.socketpair()\n"
        "    one.send(b'x')\n"
        "    assert two.recv(1) == b'x'\n"
        "    asyncio.run(asyncio.sleep(0))\n"
        "    return a + b\n"
    )
    result = await run_python(code, "assert add(1, 2) == 3")
    assert result.status == "passed", result


def test_a_machine_without_a_table_has_no_sandbox() -> None:
    with pytest.raises(SandboxUnavailable, match="riscv64 cannot be filtered"):
        seccomp_filter("riscv64")


def result_of(filter_: bytes, machine: int, number: int, *arguments: int) -> int:
    """Return the result of a filter for a call, from an interpreter of its instructions."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, machine, 0, *(word % 2**64 for word in words))
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, k = struct.unpack_from("=HBBI", filter_, 8 * at)
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:
                accumulator &= k
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x25:
                at += if_true if accumulator > k else if_false
            case 0x06:
                return int(k)
            case _:
                raise AssertionError(code)


REFUSED, MISSING, ALLOWED, KILLED = (
    0x50000 | errno.EPERM,
    0x50000 | errno.ENOSYS,
    0x7FFF0000,
    1 << 31,
)


@pytest.mark.parametrize(("machine", "audit"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_filter_of_each_machine(machine: str, audit: int) -> None:
    filter_ = seccomp_filter(machine)
    refused = {*refused_calls(machine).values()}
    conditional = {number_of(name, machine) for name in ("clone", "socket", "socketpair", "keyctl", "mmap", "clone3")}  # fmt: skip
    assert not refused & conditional
    for number in range(LAST_KNOWN + 1):
        if number not in conditional:
            expected = REFUSED if number in refused else ALLOWED
            assert result_of(filter_, audit, number) == expected, number
    for number in (
        LAST_KNOWN + 1,
        0x40000000,
        0x40000001,
        0x7FFFFFFF,
        number_of("clone3", machine),
    ):
        assert result_of(filter_, audit, number) == MISSING
    for other in (0xC000003E, 0xC00000B7, 0x40000003):
        if other != audit:
            assert result_of(filter_, other, 1) == KILLED
    clone, keyctl = number_of("clone", machine), number_of("keyctl", machine)
    assert result_of(filter_, audit, clone, 0x3D0F00) == ALLOWED  # a thread
    assert result_of(filter_, audit, clone, 0x10000000 | 17) == REFUSED
    assert result_of(filter_, audit, keyctl, 1, 0) == ALLOWED
    assert result_of(filter_, audit, keyctl, 1, 1 << 32) == REFUSED


def keyring() -> int:
    """Return the serial number of the session keyring of this process."""
    return int(ctypes.CDLL(None).syscall(number_of("keyctl"), KEYCTL_GET_KEYRING_ID, SESSION, 0))


@pytest.mark.skipif(not Path("/proc/keys").exists(), reason="the kernel has no keyrings")
def test_a_confined_process_has_a_session_keyring_of_its_own() -> None:
    code = (
        f"import ctypes, runpy\nscope = runpy.run_path({confinement.__file__!r})\n"
        f"scope['restrict']({number_of('keyctl')})\n"
        f"print(ctypes.CDLL(None).syscall({number_of('keyctl')}, 0, -3, 0))"
    )
    command = [sys.executable, "-I", "-c", code]
    inner = [int(subprocess.run(command, capture_output=True, check=True).stdout) for _ in "12"]
    assert len({keyring(), *inner}) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes have users of their own only under root")
@pytest.mark.skipif(not Path("/proc/key-users").exists(), reason="the kernel has no keyrings")
async def test_each_sandbox_owns_a_new_session_keyring() -> None:
    def owners() -> set[int]:
        lines = Path("/proc/key-users").read_text().splitlines()
        return {int(line.split(":")[0]) for line in lines if int(line.split()[2].split("/")[0])}

    before = owners()
    async with task_group() as group:
        group.start_soon(run_python, "import time\ntime.sleep(9)", "assert 1")
        await anyio.to_thread.run_sync(
            lambda: wait_until(lambda: any(each > 61_000 for each in owners() - before))
        )
        group.cancel_scope.cancel()


def test_this_machine_is_known() -> None:
    assert platform.machine() in ("x86_64", "aarch64")

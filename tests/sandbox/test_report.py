"""Tests cannot write the report of their run: a known status and a bounded reason."""

import json
import time
from typing import get_args

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.sandbox.report import (
    MAX_REASON_CHARACTERS,
    REPORT_BYTES,
    Status,
    parsed_report,
    printable,
)
from secondpass.service.sandbox.runner import SandboxResult, run_python

pytestmark = pytest.mark.anyio

ADD = "def add(a, b):\n    return a + b\n"
RIGHT, WRONG = "assert add(1, 2) == 3\n", "assert add(1, 2) == 4\n"


def is_printable(text: str) -> bool:
    return all(each.isprintable() or each in "\n\t" or each > "\xa0" for each in text)


def writing(*messages: bytes) -> str:
    """Return tests that write messages to every descriptor except the stream to the code."""
    return (
        "import os, socket\nfor descriptor in range(64):\n"
        "    try:\n        kind = socket.socket(fileno=os.dup(descriptor)).getsockopt(1, socket.SO_TYPE)\n"
        "    except OSError:\n        kind = None\n"
        f"    for message in {list(messages)!r} if kind != socket.SOCK_STREAM else []:\n"
        "        try:\n            os.write(descriptor, message)\n"
        "        except OSError:\n            pass\n"
    )


FORGED = {
    "a result": b'{"status": "passed", "why": ""}\n',
    "an unknown status": b'{"status": "x\\ny", "why": ""}\n',
    "no text": b'{"status": "passed", "why": {}}\n',
    "a setup that failed": b"bwrap: no\n",
    "progress": b'{"called": true}\n{"loaded": true}\n',
    "no JSON": b"\xff[" * 10_000,
    "an unknown letter": b"xpassed",
}


@pytest.mark.parametrize("line", FORGED.values(), ids=FORGED.keys())
async def test_lines_that_tests_write_change_nothing(line: bytes) -> None:
    assert await run_python(ADD, writing(line) + RIGHT) == SandboxResult("passed", "")
    failed = await run_python(ADD, writing(line) + WRONG)
    assert (failed.status, "AssertionError" in failed.output) == ("failed", True)
    ended = await run_python(ADD, f"{writing(line)}os._exit(0)")
    assert ended == SandboxResult("error", "the tests ended their own process")


async def test_a_reason_that_tests_send_is_bounded_and_printable() -> None:
    reason = b"f\x1b[31m\x00\r\n\xff\xe2\x80\xae" + b"x" * 5_000
    result = await run_python(ADD, f"{writing(reason)}os._exit(0)")
    assert result.status == "failed"
    assert result.output.startswith("[31m\n")
    assert len(result.output) <= MAX_REASON_CHARACTERS
    assert is_printable(result.output)


async def test_a_long_reason_of_the_tests_is_bounded() -> None:
    result = await run_python(ADD, f"from {'m' * 10_000} import x\nassert add(1, 2) == 3")
    assert result.status == "error"
    assert len(result.output) <= MAX_REASON_CHARACTERS


NO_ACCESS = {
    "no pipe and no terminal": (
        "import os, stat\nfor descriptor in range(64):\n    try:\n        mode = os.fstat(descriptor).st_mode\n"
        "    except OSError:\n        continue\n    assert add(1, 2) == 3 and not stat.S_ISFIFO(mode)\n"
    ),
    "no descriptors of the supervisor": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\npid = libc.syscall(434, os.getppid(), 0)\n"
        "for descriptor in range(64):\n    assert add(1, 2) == 3 and libc.syscall(438, pid, descriptor, 0) < 0\n"
    ),
    "no tracing": (
        "import ctypes, os\nassert add(1, 2) == 3 and ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) < 0\n"
    ),
    "no memory": (
        "import ctypes, os\nmine = (ctypes.c_char * 8)()\nclass Part(ctypes.Structure):\n"
        "    _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]\n"
        "part = Part(ctypes.addressof(mine), 8)\n"
        "moved = ctypes.CDLL(None).process_vm_readv(os.getppid(), ctypes.byref(part), 1, ctypes.byref(part), 1, 0)\n"
        "assert add(1, 2) == 3 and moved < 0\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("tests", NO_ACCESS.values(), ids=NO_ACCESS.keys())
async def test_tests_have_no_access_to_the_report(tests: str) -> None:
    assert await run_python(ADD, tests) == SandboxResult("passed", "")


OPEN = """
import os, stat
def streams():
    modes = []
    for descriptor in range(3, 1024):
        try:
            modes.append(os.fstat(descriptor).st_mode)
        except OSError:
            pass
    return [stat.S_ISSOCK(mode) for mode in modes]
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_no_other_descriptor_of_the_service_is_open_in_a_sandbox(loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    of_code = f"{OPEN}\ndef opened():\n    return streams()"
    of_tests = (
        "assert opened() == [True]\nassert add() == 0 or streams() == [True, True], streams()"
    )
    added = f"{of_code}\ndef add():\n    return 1"
    result = anyio.run(
        run_python, added, OPEN + of_tests, backend_options={"use_uvloop": loop == "uvloop"}
    )
    assert result == SandboxResult("passed", "")


ENDED = {
    "exits beside a process that lives on": "import os, time\nif not os.fork():\n    time.sleep(60)\nos._exit(0)",
    "kills its supervisor": "import os\nadd(1, 2)\nos.kill(os.getppid(), 9)",
    "kills itself": "import os\nadd(1, 2)\nos.kill(os.getpid(), 9)",
    "closes all descriptors": "import os\nadd(1, 2)\nos.closerange(0, 64)",
}


@pytest.mark.parametrize("tests", ENDED.values(), ids=ENDED.keys())
async def test_tests_that_end_a_process_are_an_error_at_once(tests: str) -> None:
    start = time.monotonic()
    assert (await run_python(ADD, tests)).status == "error"
    assert time.monotonic() - start < 20


async def test_a_signal_of_the_cpu_limit_before_the_code_is_called_is_an_error() -> None:
    tests = "import os, signal\n{}os.kill(os.getpid(), signal.SIGXCPU)"
    assert (await run_python(ADD, tests.format(""))).status == "error"
    assert (await run_python(ADD, tests.format("add(1, 2)\n"))).status == "timeout"


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["status", "why", "started"]) | st.text(), inner)
    ),
)
RESULTS = st.fixed_dictionaries({
    "status": st.sampled_from([*get_args(Status), "none", "", None, ["passed"]]),
    "why": st.text(st.characters(), max_size=3_000) | st.none(),
})  # fmt: skip
LINES = st.binary() | (DOCUMENTS | RESULTS).map(lambda document: json.dumps(document).encode())


@given(st.lists(LINES))
def test_a_report_always_has_a_known_status_and_a_bounded_printable_reason(
    lines: list[bytes],
) -> None:
    report = parsed_report(b"\n".join([*lines, b""]))
    assert report.status in get_args(Status)
    assert len(report.why) <= MAX_REASON_CHARACTERS
    assert is_printable(report.why)
    report.why.encode()


@given(st.sampled_from(get_args(Status)), st.text(max_size=MAX_REASON_CHARACTERS))
def test_the_result_of_the_supervisor_is_always_read(status: Status, why: str) -> None:
    lines = [b'{"started": true}', json.dumps({"status": status, "why": why}).encode(), b""]
    report = parsed_report(b"\n".join(lines))
    assert (report.status, report.why) == (status, printable(why))
    assert max(map(len, lines)) < REPORT_BYTES

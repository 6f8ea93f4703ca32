"""Sandboxed test runs of right, wrong, forged and harmful code, in the real sandbox."""

import json
import math
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.sandbox import runner
from secondpass.service.sandbox.inside.wire import decoded, encoded
from secondpass.service.sandbox.runner import (
    SandboxResult,
    SandboxUnavailable,
    run_python,
)
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.polling import wait_until
from tests.sandbox.sandboxes import sandboxes

pytestmark = pytest.mark.anyio

ADD = "def add(a, b):\n    return a + b\n"
CHECK = "def check(candidate):\n    assert candidate(2, 3) == 5\n    assert candidate(-1, 1) == 0\n"


async def run(
    code: str, tests: str = CHECK, entry: str | None = "add", **limits: Any
) -> SandboxResult:
    return await run_python(code, tests, entry_point=entry, **limits)


async def test_right_code_passes_and_wrong_code_fails_with_the_failing_line() -> None:
    assert await run(ADD) == SandboxResult("passed", "")
    wrong = await run(ADD.replace("+", "-"))
    assert wrong.status == "failed"
    assert "line 2 of the tests: assert candidate(2, 3) == 5" in wrong.output


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def add(a, b) return", "SyntaxError"),
        ("def sub(a, b):\n    return 0", "does not define add"),
        ("add = 5", "does not define add"),
        ("def add(a, b):\n    raise ValueError('no idea')", "no idea"),
        ("1 / 0", "ZeroDivisionError"),
        (
            "print('thinking')\ndef add(a, b):\n    print('adding')\n    return 1",
            "thinking\nadding",
        ),
        ("\0", "null"),
    ],
)
async def test_invalid_code_fails_with_a_reason(code: str, reason: str) -> None:
    verdict = await run(code)
    assert verdict.status == "failed"
    assert reason in verdict.output


FORGERIES = {
    "exits before the tests": "import sys\nsys.exit(0)",
    "kills its process before the tests": "import os\nos._exit(0)",
    "kills its process in a test": "import os\ndef add(a, b):\n    os._exit(0)",
    "exits in a test": "import sys\ndef add(a, b):\n    sys.exit(0)",
    "raises KeyboardInterrupt": "def add(a, b):\n    raise KeyboardInterrupt",
    "equals everything": (
        "class Yes:\n    def __eq__(self, other):\n        return True\n"
        "    def __ne__(self, other):\n        return False\n    __hash__ = None\n"
        "def add(a, b):\n    return Yes()"
    ),
    "is an int that equals everything": (
        "class Yes(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n"
        "def add(a, b):\n    return Yes(7)"
    ),
    "replaces AssertionError": (
        "import builtins\nclass Quiet(Exception):\n    pass\nbuiltins.AssertionError = Quiet\n"
        "def check(candidate):\n    pass\ndef add(a, b):\n    return 0"
    ),
    "claims to have passed": (
        "import sys\n"
        'print(\'{"started": true}\\n{"status": "passed", "why": ""}\', flush=True)\n'
        "print('1 passed')\ndef add(a, b):\n    return 0"
    ),
    "writes the result itself": (
        "import os\nfor descriptor in range(3, 20):\n    try:\n"
        '        os.write(descriptor, b\'{"status": "passed", "why": ""}\\n\' * 9)\n'
        "    except OSError:\n        pass\ndef add(a, b):\n    return 0"
    ),
    "patches the calling frames": (
        "import sys\nframe = sys._getframe()\nwhile frame:\n"
        "    frame.f_globals['run_tests'] = lambda *_: ('passed', '')\n    frame = frame.f_back\n"
        "def add(a, b):\n    return 0"
    ),
    "writes garbage": "import os\nfor d in range(3, 9):\n    try:\n        os.write(d, b'[' * 10**6 + b'\\n')\n    except OSError:\n        pass",
}


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES.keys())
async def test_forged_results_fail(code: str) -> None:
    assert (await run(code)).status == "failed"


async def test_patched_modules_do_not_affect_the_tests() -> None:
    code = "import math\nmath.isclose = lambda *a, **k: True\ndef root(x):\n    return 0.0"
    verdict = await run(code, "assert math.isclose(root(4), 2)", "root")
    assert verdict.status == "failed"
    assert (await run(code.replace("0.0", "math.sqrt(x)"), "assert math.isclose(root(4), 2)", "root")).status == "passed"  # fmt: skip


async def test_tests_can_use_objects_exceptions_iterators_and_mutated_arguments() -> None:
    code = (
        "class Stack:\n    def __init__(self):\n        self.items = []\n"
        "    def push(self, x):\n        self.items.append(x)\n        return self\n"
        "    def __len__(self):\n        return len(self.items)\n"
        "class Empty(ValueError):\n    pass\n"
        "def pop(stack):\n    if not stack.items:\n        raise Empty('nothing there')\n    return stack.items.pop()\n"
        "def count(n):\n    yield from range(n)\n"
        "def order(xs):\n    xs.sort()\n"
        "LIMIT = 10\n"
    )
    tests = (
        "s = Stack()\nassert not s\nassert len(s.push(1).push((2, {'a': {3}}))) == 2 and s\n"
        "assert pop(s) == (2, {'a': {3}}) and pop(s) == 1\n"
        "try:\n    pop(s)\nexcept ValueError as error:\n    assert 'nothing there' in str(error)\nelse:\n    assert False\n"
        "assert list(count(3)) == [0, 1, 2] and LIMIT == 10\n"
        "xs = [3, 1, 2]\norder(xs)\nassert xs == [1, 2, 3]\n"
        "def test_more():\n    assert sum(count(4)) == 6\n"
    )
    assert await run(code, tests, None) == SandboxResult("passed", "")


async def test_tests_that_cannot_run_are_an_error() -> None:
    assert (await run(ADD, "def check(:")).status == "error"
    unsendable = await run(ADD, "add(lambda: 1, 2)")
    assert unsendable.status == "error"
    assert "plain data" in unsendable.output


async def test_tests_nested_too_deeply_are_an_error() -> None:
    assert (await run(ADD, f"assert {'(' * 100_000}")).status == "error"
    assert (await run(ADD, f"assert {'-' * 100_000}1")).status == "error"


async def test_surrogates_in_a_reason_are_replaced() -> None:
    result = await run("def add(a, b):\n    raise ValueError('odd \\ud800')")
    assert result.status == "failed"
    assert "odd ?" in result.output
    result.output.encode()


REPORT_LINES = st.one_of(
    st.binary(),
    st.text().map(str.encode),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["status", "why", "started"]) | st.text(), inner)
        ),
    ).map(lambda document: json.dumps(document).encode()),
    st.builds(
        lambda status, why: json.dumps({"status": status, "why": why}).encode(),
        st.sampled_from(["passed", "failed", "error", "timeout", "none", "", None, ["passed"]]),
        st.text(st.characters(categories=["Cs", "L", "Zl"])) | st.none(),
    ),
)


@settings(deadline=None)
@given(st.lists(REPORT_LINES))
def test_arbitrary_reports_are_parsed(report: list[bytes]) -> None:
    lines = b"\n".join([b'{"started": true}', *report, b""])
    ended = SimpleNamespace(returncode=0)
    run = runner._Run(ended, ended, bytearray(b"\xff printed"), bytearray(lines))  # type: ignore[arg-type]
    result = runner._result(run, is_late=False)
    assert result.status in ("passed", "failed", "timeout", "error")
    assert len(result.output) < 2 * runner.MAX_OUTPUT_CHARACTERS
    assert all(each.isprintable() or each in "\n\t" or each > "~" for each in result.output)
    result.output.encode()


async def test_an_uncalled_check_is_an_error_unless_the_code_has_one_function() -> None:
    assert await run(ADD, CHECK, None) == SandboxResult("passed", "")
    uncalled = await run(f"{ADD}\ndef two():\n    return 2", CHECK, None)
    assert uncalled.status == "error"
    assert "end them with check(NAME)" in uncalled.output
    assert await run(ADD, f"{CHECK}check(add)\n", None) == SandboxResult("passed", "")


async def test_an_endless_loop_exceeds_its_cpu_time() -> None:
    start = time.monotonic()
    verdict = await run("while True:\n    pass", cpu_seconds=1)
    assert verdict.status == "timeout"
    assert "CPU" in verdict.output
    assert time.monotonic() - start < 20


async def test_sleeping_code_exceeds_the_wall_time() -> None:
    verdict = await run("import time\ntime.sleep(60)", wall_seconds=1.0)
    assert verdict == SandboxResult("timeout", "the wall time ran out")


async def test_endless_tests_count_against_the_code_only_if_they_call_it() -> None:
    endless = "while True:\n    pass"
    unused = await run(ADD, endless, cpu_seconds=1)
    assert unused == SandboxResult(
        "error", "the tests ran out of CPU time before they called the code"
    )
    assert (await run(ADD, f"add(1, 2)\n{endless}", cpu_seconds=1)).status == "timeout"


async def test_tests_that_sleep_before_they_call_the_code_are_an_error() -> None:
    unused = await run(ADD, "import time\ntime.sleep(60)\nadd(1, 2)", wall_seconds=1.5)
    assert unused.status == "error"
    assert "wall time" in unused.output


async def test_memory_is_limited() -> None:
    verdict = await run("def add(a, b):\n    return len(bytearray(2 * 10**9))")
    assert verdict.status == "failed"
    assert "MemoryError" in verdict.output


async def test_a_fork_bomb_is_contained() -> None:
    code = "import os\ndef add(a, b):\n    while True:\n        os.fork()\n"
    verdict = await run(code, wall_seconds=5.0)
    assert verdict.status in ("failed", "timeout")
    wait_until(lambda: not sandboxes())


async def test_background_processes_end_with_the_run() -> None:
    code = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(300)\n    os._exit(0)\n"
        + ADD
    )
    assert (await run(code)).status == "passed"
    wait_until(lambda: not sandboxes())


async def test_excessive_output_is_stopped_and_truncated() -> None:
    verdict = await run("while True:\n    print('flood' * 1000)")
    assert verdict.status == "failed"
    assert "printed more" in verdict.output
    assert len(verdict.output) < 2 * runner.MAX_OUTPUT_CHARACTERS


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


async def test_there_is_no_network(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    code = f"import socket\ndef add(a, b):\n    socket.create_connection(('127.0.0.1', {port}), 2)\n    return a + b"
    assert (await run(code)).status == "failed"
    with pytest.raises(TimeoutError):
        listener.accept()


ISOLATION = {
    "no environment": "import os\nassert not {*os.environ} - {'PWD', 'LC_CTYPE'}, os.environ",
    "no users": "import os\nassert not os.path.exists('/etc')",
    "no home, no other processes": (
        "import os\nassert not os.path.exists('/home') and not os.path.exists('/proc') and os.getpid() < 5"
    ),
    "no root": "import os\nassert os.getuid() != 0 and os.geteuid() != 0",
    "no way back to root": (
        "import os\ntry:\n    os.setuid(0)\nexcept OSError:\n    pass\nelse:\n    raise AssertionError"
    ),
    "no way to raise a limit": (
        "import resource\ntry:\n    resource.setrlimit(resource.RLIMIT_CPU, (999, 999))\n"
        "except (ValueError, OSError):\n    pass\nelse:\n    raise AssertionError"
    ),
    "no writable folder except its own": (
        "import sys, os\nfor place in ('/', '/usr', '/usr/lib', '/dev', sys.prefix):\n    try:\n"
        "        open(os.path.join(place, 'x'), 'w')\n    except OSError:\n        pass\n    else:\n        raise AssertionError(place)\n"
        "open('/tmp/x', 'w').write('mine')"
    ),
    "limited space in its own": (
        "try:\n    for i in range(64):\n        open(f'/tmp/{i}', 'wb').write(bytes(2**20))\n"
        "except OSError:\n    pass\nelse:\n    raise AssertionError"
    ),
}


@pytest.mark.parametrize("code", ISOLATION.values(), ids=ISOLATION.keys())
async def test_the_sandbox_is_isolated(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hush")
    secret = tmp_path / "secret"
    secret.write_text("hush")
    hidden = f"import os\nassert not os.path.exists({str(secret)!r})\n"
    assert await run(hidden + code + "\n" + ADD) == SandboxResult("passed", "")


@ON_BOTH_BACKENDS
async def test_a_cancelled_run_leaves_no_processes() -> None:
    with anyio.move_on_after(0.7) as scope:
        await run("import time\ntime.sleep(60)")
    assert scope.cancelled_caught
    wait_until(lambda: not sandboxes())


@ON_BOTH_BACKENDS
async def test_runs_can_be_concurrent() -> None:
    verdicts: list[SandboxResult] = []

    async def run_once() -> None:
        verdicts.append(await run(ADD))

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(run_once)
    assert verdicts == [SandboxResult("passed", "")] * 6


async def test_missing_bubblewrap_is_reported_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        await run(ADD)


async def test_a_failed_sandbox_setup_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: no permission to make a namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxUnavailable, match="no permission"):
        await run(ADD)


DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.fractions() | st.complex_numbers(allow_nan=False) | st.dates() | st.datetimes() | st.times()
    | st.timedeltas() | st.uuids() | st.builds(range, st.integers(), st.integers(), st.integers(1)),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
    | st.sets(st.integers()) | st.frozensets(st.text()),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(DATA)
def test_plain_data_round_trips(value: object) -> None:
    def never(*_: object) -> object:
        raise AssertionError

    copy = decoded(encoded(value, never), never)
    assert copy == value
    assert type(copy) is type(value)
    if isinstance(value, float) and isinstance(copy, float):
        assert math.copysign(1, copy) == math.copysign(1, value)

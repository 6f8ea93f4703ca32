"""Measuring tests by mutants: what kills, what survives, and that nothing is left of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.demo import Signals
from tools.mutants import Workspace, nearest_first

CHECKOUT = Path(__file__).resolve().parents[2]
LIMIT = """
def is_within(n):
    return n < ten()

def ten():
    return 10.0
"""
WEAK = """
from linked.limit import is_within

def test_a_number_far_from_the_limit():
    assert is_within(3)
"""
STRONG = WEAK + "    assert not is_within(10)\n"
COUNTDOWN = """
def count(n):
    while n > 0.5:
        n -= 1.0
    return n
"""
# The test leaves a process behind, as a server that a test started would be.
HANGING = """
import subprocess, sys
from linked.limit import count

def test_count():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {mark!r}])
    assert count(2.0) == 0.0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one module, which is imported by way of a link, as in ours."""
    folder = tmp_path / "project"
    for name in ("sources", "tests"):
        (folder / name).mkdir(parents=True)
    (folder / "linked").symlink_to("sources")
    (folder / "sources/limit.py").write_text(LIMIT)
    return folder


def started(project: Path, *arguments: str) -> "subprocess.Popen[str]":
    """The tool, run on the project; it keeps its copies beside it."""
    command = [sys.executable, "-m", "tools.mutants", "--source", "sources", "--tests", "tests"]
    return subprocess.Popen(
        [*command, "--seed", "7", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(project.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def measured(project: Path, *arguments: str) -> tuple[int, str]:
    """The tool's exit status and what it printed."""
    process = started(project, *arguments)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def are_running(mark: str) -> bool:
    """Whether a process has `mark` among its arguments; a zombie has none."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


def test_a_weak_test_leaves_a_survivor_which_is_printed(project: Path) -> None:
    (project / "tests/test_limit.py").write_text(WEAK)

    status, output = measured(project, "--require", "90")

    assert status == 1
    assert output.startswith("seed 7: 1 of 1 mutants of 1 modules\n")
    assert "[1/1] sources/limit.py:3: comparison: survived, " in output
    assert "\n-    return n < ten()\n+    return n <= ten()\n" in output
    assert "killed 0 of 1 (0.0%), 0 of them timed out; seed 7\n" in output
    assert output.endswith("0.0% is below 90%\n")


def test_a_strong_test_kills_it_and_the_checkout_is_as_before(project: Path) -> None:
    (project / "tests/test_limit.py").write_text(STRONG)

    status, output = measured(project, "--require", "100")

    assert status == 0
    assert output.endswith("killed 1 of 1 (100.0%), 0 of them timed out; seed 7\n")
    files = [path for path in project.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["limit.py", "test_limit.py"]
    assert (project / "sources/limit.py").read_text() == LIMIT
    assert list(project.parent.iterdir()) == [project]


def test_each_mutant_is_tested_as_itself(project: Path) -> None:
    (project / "sources/limit.py").write_text("def f():\n    return 1, 1, 1, 1\n")
    (project / "tests/test_limit.py").write_text(
        "from linked.limit import f\n\ndef test_f():\n    assert f()[:2] == (1, 1)\n"
    )

    _, output = measured(project)

    assert output.count(": killed, ") == output.count(": survived, ") == 2


def test_no_two_mutants_share_the_time_that_tells_whether_bytecode_is_stale(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    workspace = Workspace(project.parent / "job", 7, Signals.__new__(Signals))
    module = project.parent / "job/checkout/sources/limit.py"
    seconds = set()

    for _ in range(5):
        workspace._write(module, LIMIT)
        seconds.add(int(module.stat().st_mtime))

    assert len(seconds) == 5


def test_an_endless_loop_is_killed_by_the_limit_with_all_that_it_started(project: Path) -> None:
    mark = str(project.parent)
    (project / "sources/limit.py").write_text(COUNTDOWN)
    (project / "tests/test_limit.py").write_text(HANGING.format(mark=mark))

    status, output = measured(project, "--jobs", "2", "--timeout", "4")

    assert status == 0
    assert "sources/limit.py:4: dropped statement: timed out, 4.0 s" in output
    assert output.endswith("killed 1 of 2 (50.0%), 1 of them timed out; seed 7\n")
    assert not are_running(mark)


def test_a_signal_ends_the_measuring_and_the_tests(project: Path) -> None:
    mark = str(project.parent)
    (project / "sources/limit.py").write_text(COUNTDOWN)
    (project / "tests/test_limit.py").write_text(HANGING.format(mark=mark))
    process = started(project, "--timeout", "600")
    assert process.stdout is not None
    while "a mutant has" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.5)

    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 128 + signal.SIGTERM
    assert output.endswith("ended by SIGTERM; nothing is left running\n")
    assert not are_running(mark)


@pytest.mark.parametrize(
    ("test", "arguments", "message"),
    [
        (STRONG.replace("not", ""), [], "the tests fail without a mutant"),
        (WEAK, ["--source", "linked/none"], "linked/none has no modules"),
        (WEAK, ["--tests", "tests/test_none.py"], "tests/test_none.py does not exist"),
        (WEAK, ["--count", "0"], "nothing to mutate"),
    ],
)
def test_what_cannot_be_measured_is_a_failure(
    project: Path, test: str, arguments: list[str], message: str
) -> None:
    (project / "tests/test_limit.py").write_text(test)

    status, output = measured(project, *arguments)

    assert status == 1
    assert f"tools.mutants: {message}" in output


def test_the_nearest_tests_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("far", ""), ("naming", "import a.runs.limit"), ("limit", "")):
        Path(f"test_{name}.py").write_text(text)
    tests = ["test_far.py", "test_naming.py::test_it", "test_limit.py"]

    assert nearest_first("a/runs/limit.py", tests) == [tests[2], tests[1], tests[0]]

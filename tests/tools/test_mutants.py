"""Mutation score: outcomes, errors and cleanup."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tools.demo import Signals
from tools.mutants import Outcome, Result, Workspace, nearest_first, results
from tools.mutation import Mutant, mutants

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
# The test leaves processes running, as a test with servers may, and has a fixture with a teardown.
HANGING = """
import pathlib, pytest, subprocess, sys
from linked.limit import count

@pytest.fixture
def cleans_up():
    yield
    with pathlib.Path({mark!r}, "cleaned up").open("a") as log:
        log.write("as it should\\n")

def test_count(cleans_up):
    sleep = [sys.executable, "-c", "import time; time.sleep(600)", {mark!r}]
    subprocess.Popen(sleep)
    subprocess.Popen(sleep, start_new_session=True)
    subprocess.run(["setsid", "--fork", *sleep], env={{}})
    assert count(2.0) == 0.0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one module that is imported through a symbolic link, as in this repository."""
    folder = tmp_path / "project"
    for name in ("sources", "tests"):
        (folder / name).mkdir(parents=True)
    (folder / "linked").symlink_to("sources")
    (folder / "sources/limit.py").write_text(LIMIT)
    return folder


def started(project: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the tool on the project, with its temporary copies next to the project."""
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
    """Run the tool and return its exit status and output."""
    process = started(project, *arguments)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def are_running(mark: str) -> bool:
    """Return whether a process has `mark` among its arguments; a zombie has no arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


def test_survivors_are_printed_as_diffs(project: Path) -> None:
    (project / "tests/test_limit.py").write_text(WEAK)

    status, output = measured(project, "--require", "90")

    assert status == 1
    assert output.startswith("seed 7: 1 of 1 mutants of 1 modules\n")
    assert "[1/1] sources/limit.py:3: comparison: survived, " in output
    assert "\n-    return n < ten()\n+    return n <= ten()\n" in output
    assert "killed 0 of 1 (0.0%), 0 of them timed out; seed 7\n" in output
    assert output.endswith("0.0% is below 90%\n")


def test_a_strong_test_kills_the_mutant_and_the_checkout_is_unchanged(project: Path) -> None:
    (project / "tests/test_limit.py").write_text(STRONG)

    status, output = measured(project, "--require", "100")

    assert status == 0
    assert output.endswith("killed 1 of 1 (100.0%), 0 of them timed out; seed 7\n")
    files = [path for path in project.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["limit.py", "test_limit.py"]
    assert (project / "sources/limit.py").read_text() == LIMIT
    assert list(project.parent.iterdir()) == [project]


def test_stale_bytecode_is_never_used(project: Path) -> None:
    (project / "sources/limit.py").write_text("def f():\n    return 1, 1, 1, 1\n")
    (project / "tests/test_limit.py").write_text(
        "from linked.limit import f\n\ndef test_f():\n    assert f()[:2] == (1, 1)\n"
    )

    _, output = measured(project)

    assert output.count(": killed, ") == output.count(": survived, ") == 2


def test_each_write_of_a_module_has_a_unique_mtime(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    workspace = Workspace(project.parent / "job", 7, Signals.__new__(Signals))
    module = project.parent / "job/checkout/sources/limit.py"
    seconds = set()

    for _ in range(5):
        workspace._write(module, LIMIT.encode())
        seconds.add(int(module.stat().st_mtime))

    assert len(seconds) == 5


def test_time_limit_kills_an_endless_loop_and_its_processes(project: Path) -> None:
    mark = str(project.parent)
    (project / "sources/limit.py").write_text(COUNTDOWN)
    (project / "tests/test_limit.py").write_text(HANGING.format(mark=mark))

    status, output = measured(project, "--jobs", "2", "--timeout", "10")

    assert status == 0, output
    assert "sources/limit.py:4: dropped statement: timed out, 10.0 s" in output
    assert output.endswith("killed 1 of 2 (50.0%), 1 of them timed out; seed 7\n")
    assert not are_running(mark)
    cleaned_up = (project.parent / "cleaned up").read_text()
    assert cleaned_up.count("\n") == 4  # twice without a mutant, once per mutant


class CountingWorkspace(Workspace):
    """A fake workspace that counts the tested mutants."""

    def __init__(self) -> None:
        self.tested = 0

    def test(self, mutant: Mutant, tests: Sequence[str], limit: float) -> Result:
        self.tested += 1
        time.sleep(0.1)
        return Result(Outcome.SURVIVED, 0.1)


def test_closing_the_results_starts_no_further_mutants() -> None:
    workspace = CountingWorkspace()
    every = list(mutants("limit.py", LIMIT))
    with closing(results(every * 20, [workspace], [], 1)) as tested:
        next(tested)
    assert workspace.tested <= 3


def test_a_signal_ends_the_measurement_and_the_tests(project: Path) -> None:
    mark = str(project.parent)
    (project / "sources/limit.py").write_text(COUNTDOWN)
    (project / "tests/test_limit.py").write_text(HANGING.format(mark=mark))
    process = started(project, "--timeout", "600")
    assert process.stdout is not None
    while "the limit per mutant is" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.5)

    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 128 + signal.SIGTERM
    assert output.endswith("stopped by SIGTERM; processes left running: none\n")
    assert not are_running(mark)


@pytest.mark.parametrize(
    ("test", "arguments", "message"),
    [
        (STRONG.replace("not", ""), [], "the tests fail without a mutant"),
        ("", [], "the tests fail without a mutant:\npytest's exit status is 5:"),
        (WEAK, ["--source", "sources/empty.py"], "the source contains nothing to mutate"),
    ],
)
def test_measurement_failures_exit_with_1(
    project: Path, test: str, arguments: list[str], message: str
) -> None:
    (project / "sources/empty.py").touch()
    (project / "tests/test_limit.py").write_text(test)

    status, output = measured(project, *arguments)

    assert status == 1
    assert f"tools.mutants: {message}" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count: must be an integer of at least 1, not 0"),
        (["--jobs", "-1"], "--jobs: must be an integer of at least 1, not -1"),
        (["--jobs", "1.5"], "--jobs: must be an integer of at least 1, not 1.5"),
        (["--timeout", "0"], "--timeout: must be a number of seconds above 0, not 0"),
        (["--timeout", "nan"], "--timeout: must be a number of seconds above 0, not nan"),
        (["--require", "101"], "--require: must be a number from 0 to 100, not 101"),
        (["--require", "-0.1"], "--require: must be a number from 0 to 100, not -0.1"),
        (["--source", "linked/none"], "--source: linked/none does not exist"),
        (["--source", ".."], "--source: .. is outside of the checkout"),
        (["--source", "/usr/lib"], "--source: /usr/lib is outside of the checkout"),
        (["--source", "out"], "--source: out is outside of the checkout"),
        (["--source", "leak"], "--source: leak/module.py is outside of the checkout"),
        (["--source", "tests/none"], "--source: tests/none has no modules"),
        (["--source", ".hidden"], "--source: .hidden has no modules"),
        (["--source", "data.txt"], "--source: data.txt has no modules"),
        (["--source", "broken.py"], "--source: broken.py is not Python: "),
        (["--source", "null.py"], "--source: null.py is not Python: "),
        (["--source", "latin.py"], "--source: latin.py is not UTF-8: "),
        (["--tests", "tests/test_none.py"], "--tests: tests/test_none.py does not exist"),
        (["--tests", "/usr/lib"], "--tests: /usr/lib is outside of the checkout"),
        (["--tests", "tests/none"], "--tests: tests/none has no test_*.py"),
    ],
)
def test_invalid_options_are_named_with_the_allowed_values(
    project: Path, arguments: list[str], message: str
) -> None:
    (project / "tests/test_limit.py").write_text(WEAK)
    for folder in ("tests/none", ".hidden", "leak"):
        (project / folder).mkdir()
    (project.parent / "outside.py").write_text(LIMIT)
    (project / "leak/module.py").symlink_to(project.parent / "outside.py")
    (project / "out").symlink_to("/usr/lib")
    (project / ".hidden/module.py").write_text(LIMIT)
    (project / "data.txt").touch()
    (project / "broken.py").write_text("def f(:")
    (project / "null.py").write_text("x = 1\0")
    (project / "latin.py").write_text("x = 'é'", encoding="latin-1")

    status, output = measured(project, *arguments)

    assert status == 2
    assert f"error: argument {message}" in output


def test_a_timeout_below_the_duration_of_the_tests_is_rejected(project: Path) -> None:
    (project / "tests/test_limit.py").write_text(WEAK)

    status, output = measured(project, "--timeout", "0.01")

    assert status == 2
    assert "argument --timeout: must be at least the " in output
    assert " s that the tests take without a mutant, not 0.01 s\n" in output


@pytest.mark.parametrize("link", ["", "linked"])
def test_an_absolute_path_is_mutated_in_the_copy(project: Path, link: str) -> None:
    module = project / "sources/limit.py"
    (project / "tests/test_limit.py").write_text(
        STRONG + f"    assert open({str(module)!r}).read() == {LIMIT!r}\n"
    )
    source = str(project / (link or "sources") / "limit.py")

    _, output = measured(project, "--source", source, "--tests", str(project / "tests"))

    assert "[1/1] sources/limit.py:3: comparison: killed, " in output
    assert module.read_text() == LIMIT
    test = project / "tests/test_limit.py"
    test.write_text(test.read_text().replace(STRONG, WEAK))
    assert ": survived, " in measured(project, "--source", source)[1]


def test_byte_order_mark_and_line_endings_are_preserved(project: Path) -> None:
    text = b"\xef\xbb\xbf" + LIMIT.replace("\n", "\r\n").encode()
    (project / "sources/limit.py").write_bytes(text)
    (project / "sources/other.py").write_text("def f(a, b):\n    return a < b\n")
    (project / "tests/test_limit.py").write_text(
        WEAK + "    import linked.limit, linked.other\n"
        "    assert open(linked.limit.__file__, 'rb').read(3) == b'\\xef\\xbb\\xbf'\n"
        "    if '<=' in open(linked.other.__file__).read():\n"
        f"        assert open(linked.limit.__file__, 'rb').read() != {text!r}\n"
    )

    _, output = measured(project, "--jobs", "1")

    assert "sources/limit.py:3: comparison: survived" in output
    assert "sources/other.py:2: comparison: killed" in output


CONFTEST = """
from linked.limit import is_within

if not is_within(9.9) or is_within(10):
    {action}
"""


@pytest.mark.parametrize(
    ("file", "action"),
    [
        ("tests/conftest.py", "raise ValueError"),
        ("conftest.py", "pytest_plugins = ['none']"),
        ("conftest.py", "pytest_plugins = ['linked.broken']"),
        ("tests/test_limit.py", "raise ValueError"),
        ("tests/test_limit.py", "import os; os.abort()"),
    ],
)
def test_a_mutant_that_prevents_collection_is_killed(project: Path, file: str, action: str) -> None:
    (project / "sources/broken.py").write_text("raise ValueError")
    (project / "tests/test_limit.py").write_text(WEAK)
    with (project / file).open("a") as opened:
        opened.write(CONFTEST.format(action=action))

    status, output = measured(project)

    assert status == 0
    assert output.endswith("killed 1 of 1 (100.0%), 0 of them timed out; seed 7\n")


@pytest.mark.parametrize(
    ("action", "number"),
    [
        ("def pytest_collection_modifyitems(items): items.clear()", 5),
        ("def pytest_collection_modifyitems(): 1 / 0", 3),
        ("def pytest_collection_modifyitems(): import pytest; raise pytest.UsageError", 4),
        ("import os; os._exit(17)", 17),
    ],
)
def test_a_mutant_that_pytest_cannot_test_is_an_error(
    project: Path, action: str, number: int
) -> None:
    (project / "tests/test_limit.py").write_text(WEAK)
    (project / "tests/conftest.py").write_text(CONFTEST.format(action=action))

    status, output = measured(project)

    assert status == 1
    assert "[1/1] sources/limit.py:3: comparison: not tested, " in output
    assert "\n-    return n < ten()\n+    return n <= ten()\n" in output
    assert f"pytest's exit status is {number}:\n" in output
    assert "killed 0 of 0" in output
    assert output.endswith("tools.mutants: pytest could not test 1 of 1 mutants\n")


def test_tests_of_the_mutated_module_run_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("far", ""), ("naming", "import a.runs.limit"), ("limit", "")):
        Path(f"test_{name}.py").write_text(text)
    tests = ["test_far.py", "test_naming.py::test_it", "test_limit.py"]

    assert nearest_first("a/runs/limit.py", tests) == [tests[2], tests[1], tests[0]]

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.cli.running import ROOT
from tests.leftovers import MARK, Starts, leftovers, marked_processes

LEAVES = """
import subprocess, time

def test_leaves():
    subprocess.run(["setsid", "--fork", "sleep", "60"], env={}, check=True)
    time.sleep(0.1)

def test_later():
    pass
"""


def test_a_running_process_is_found_with_the_test_that_started_it() -> None:
    mark = uuid.uuid4().hex
    command = ["/bin/sh", "-c", "sleep 600 & echo; wait"]
    with subprocess.Popen(
        command, env={MARK: mark, "PYTEST_CURRENT_TEST": "a test"}, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        found = leftovers(mark, Starts(), grace=0.1)
        assert shell.pid in found
        assert found[shell.pid].endswith("sleep 600 & echo; wait (a test)")
        shell.kill()
        shell.wait()
        (orphan,) = marked_processes(mark)
        subprocess.run(["kill", "-9", str(orphan)], check=True)
    assert leftovers(mark, Starts()) == {}


def test_child_processes_inherit_the_session_mark() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        found = marked_processes(os.environ[MARK])
        process.kill()
    assert "test_child_processes_inherit" in found[process.pid]


def test_an_orphan_in_another_session_and_environment_is_found() -> None:
    starts = Starts()
    starts.add("a test")
    subprocess.run(["setsid", "--fork", "sleep", "600"], env={}, check=True)
    time.sleep(0.1)
    starts.add("a later test")

    found = leftovers("no mark", starts, grace=0.1)

    (orphan,) = (pid for pid, at in found.items() if at == "sleep 600 (a test)")
    os.kill(orphan, signal.SIGKILL)
    assert leftovers("no mark", starts) == {}


@pytest.mark.filterwarnings("ignore:.*fork")  # from Python 3.12 on, in a process with threads
def test_a_fork_is_found_until_it_exits() -> None:
    if (child := os.fork()) == 0:
        try:
            signal.pause()
        finally:
            os._exit(0)
    assert child in leftovers("no mark", Starts(), grace=0.1)
    os.kill(child, signal.SIGKILL)
    assert leftovers("no mark", Starts()) == {}
    os.waitpid(child, 0)


@pytest.mark.faults
def test_a_session_that_leaves_a_process_running_fails_and_names_the_test(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LEAVES)
    command = [*(sys.executable, "-m", "pytest", "-q"), *("-p", "tests.conftest")]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    run = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    left = re.search(r"left running: (\d+): sleep 60 \((.*)\)", run.stdout)
    assert left, run.stdout + run.stderr
    os.kill(int(left[1]), signal.SIGKILL)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "test_it.py::test_leaves" in left[2]

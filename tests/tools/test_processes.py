"""Child processes never outlive the process that started them, on every exit path."""

import os
import sys
import time
from pathlib import Path

import pytest

from tools.process_tree import is_running
from tools.processes import (
    KILL_SECONDS,
    Child,
    ServerDidNotStart,
    free_port,
    is_free,
    serving,
    wait_until_ready,
)

pytestmark = pytest.mark.faults

# A parent whose child ignores SIGTERM and writes its process id to a file, like vLLM and its engine core.
FAMILY = """
import signal, subprocess, sys, time
deaf = (
    "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "open(sys.argv[1] + '.new', 'w').write(str(os.getpid()));"
    "os.rename(sys.argv[1] + '.new', sys.argv[1]); time.sleep(600)"
)
subprocess.Popen([sys.executable, "-c", deaf, sys.argv[1]])
time.sleep(float(sys.argv[2]))
"""
SERVER = """
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2]))
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def wait_for_pid(path: Path) -> int:
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)
    return int(path.read_text())


def test_stop_ends_a_grandchild_that_ignores_sigterm(tmp_path: Path) -> None:
    child = Child.start("family", python(FAMILY, tmp_path / "pid", 600), tmp_path / "log")
    grandchild = wait_for_pid(tmp_path / "pid")

    child.stop(grace=0.2)

    assert child.exit_status() == -15
    assert not is_running(grandchild)


# A parent that needs its child to drain, as the service needs vLLM's engine core.
DRAINING = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def drain(*_):
    time.sleep(0.3)
    print("child", "running" if child.poll() is None else "dead", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
open(sys.argv[1], "w").write("1")
time.sleep(600)
"""


def test_stop_lets_a_child_drain_before_it_ends_its_grandchildren(tmp_path: Path) -> None:
    child = Child.start("draining", python(DRAINING, tmp_path / "pid"), tmp_path / "log")
    wait_for_pid(tmp_path / "pid")
    child.stop(grace=10)
    assert child.exit_status() == 0
    assert child.tail() == "child running"


def test_stop_ends_the_orphans_of_a_dead_child(tmp_path: Path) -> None:
    child = Child.start("family", python(FAMILY, tmp_path / "pid", 0.5), tmp_path / "log")
    grandchild = wait_for_pid(tmp_path / "pid")
    assert child.process.wait() == 0
    assert is_running(grandchild)
    start = time.monotonic()

    child.stop(grace=0.2)

    assert not is_running(grandchild)
    assert time.monotonic() - start < KILL_SECONDS  # stop does not wait for a zombie


def test_stop_can_be_called_twice(tmp_path: Path) -> None:
    child = Child.start("short", python("pass"), tmp_path / "log")
    child.stop()
    child.stop()


def test_stop_returns_as_soon_as_the_child_exits(tmp_path: Path) -> None:
    child = Child.start("obedient", python("import time; time.sleep(600)"), tmp_path / "log")
    start = time.monotonic()

    child.stop(grace=30)

    assert time.monotonic() - start < 5


def test_a_child_is_in_another_process_group(tmp_path: Path) -> None:
    child = Child.start("own group", python("import time; time.sleep(600)"), tmp_path / "log")
    try:
        assert os.getpgid(child.process.pid) == child.process.pid != os.getpgrp()
    finally:
        child.stop()


def test_tail_contains_the_end_of_both_streams(tmp_path: Path) -> None:
    code = "import sys; [print(i) for i in range(100)]; sys.stdout.flush(); sys.exit('the end')"
    child = Child.start("chatty", python(code), tmp_path / "log")
    child.process.wait()

    assert child.tail(lines=3) == "98\n99\nthe end"
    child.stop()


def test_env_extends_the_parent_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHERITED", "kept")
    code = "import os; print(os.environ['INHERITED'], os.environ['ADDED'])"
    child = Child.start("environment", python(code), tmp_path / "log", {"ADDED": "added"})
    child.process.wait()

    assert child.tail() == "kept added"
    child.stop()


def test_a_server_is_ready_in_the_block_and_stopped_after_it(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/ready"
    command = python(SERVER, port, 200)

    with serving("server", command, url, tmp_path / "log", timeout=30) as child:
        assert child.exit_status() is None
        assert not is_free(port)

    assert child.exit_status() == -15
    assert is_free(port)


def test_server_exit_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = python("raise SystemExit('no such model')")
    url = f"http://127.0.0.1:{free_port()}/ready"

    with (
        pytest.raises(
            ServerDidNotStart, match=r"server exited with status 1; .*log:\nno such model"
        ),
        serving("server", command, url, tmp_path / "log", timeout=30),
    ):
        pytest.fail("the block was entered")


def test_a_server_that_never_becomes_ready_times_out(tmp_path: Path) -> None:
    port = free_port()
    child = Child.start("server", python(SERVER, port, 503), tmp_path / "log")
    try:
        with pytest.raises(ServerDidNotStart, match="not ready after 1 s"):
            wait_until_ready(child, f"http://127.0.0.1:{port}/ready", timeout=1)
    finally:
        child.stop()


def test_an_interrupted_wait_ends_the_server(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def interrupt() -> None:
        if pid_file.exists():
            raise KeyboardInterrupt

    command = python(FAMILY, pid_file, 600)
    url = f"http://127.0.0.1:{free_port()}/ready"
    with (
        pytest.raises(KeyboardInterrupt),
        serving(
            "family", command, url, tmp_path / "log", timeout=30, interrupt=interrupt, grace=0.2
        ),
    ):
        pytest.fail("the block was entered")

    assert not is_running(int(pid_file.read_text()))

"""`--embedded`: an answer without a running server, and no process left afterwards."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from secondpass.service.cli.main import main
from tests.cli.running import COMMAND, ROOT, at_terminal, piped, surroundings
from tests.engines.in_process import model_folder
from tests.http.serving import Served
from tests.polling import wait_until
from tools.local_vllm import vllm_environment, vllm_flags
from tools.process_tree import is_running

SOLVE = ["solve", "What is 6 times 7?", "--embedded"]


def children_of(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):  # a thread or the process may end during the read
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            children += map(int, task.read_text().split())
    return children


@pytest.fixture
def slow(tmp_path: Path) -> str:
    config = tmp_path / "slow.toml"
    config.write_text('[engines.fake]\nkind = "scripted"\nper_token = 1\n')
    return str(config)


def test_a_question_is_answered_and_no_process_remains() -> None:
    with subprocess.Popen(
        [*COMMAND, *SOLVE, "--", "--engine", "scripted", "--model", "scripted"],
        cwd=ROOT,
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as popen:
        workers: set[int] = set()
        while popen.poll() is None:
            workers.update(children_of(popen.pid))
            time.sleep(0.01)
        out, err = popen.communicate()
    assert (popen.returncode, out, err) == (0, b"42\n", b"")
    assert not [pid for pid in workers if is_running(pid)]


def test_an_http_engine_can_be_used(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--engine", "http", "--engine-url", f"{served.url}/v1", "--model", "scripted"]
    assert main([*SOLVE, "--json", "--", *flags]) == 0
    assert '"answer":"42"' in capsys.readouterr().out


@pytest.mark.vllm
def test_vllm_in_this_process_does_not_log_to_stdout() -> None:
    model = model_folder()
    first = str(min(os.sched_getaffinity(0)))  # a server of other tests uses the remaining cores
    service = ["--engine", "vllm", "--model", model, "--", *vllm_flags("small")]
    ended = subprocess.run(
        [*COMMAND, *SOLVE, "--max-tokens", "256", "--temperature", "0", "--json", "--", *service],
        cwd=ROOT,
        env=surroundings() | {**vllm_environment(model), "VLLM_CPU_OMP_THREADS_BIND": first},
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(ended.stdout)
    assert answer["models"]["actor"] == "small"
    has_answer = answer["finish_reason"] == "stop" or answer["answer"] is not None
    # A small model may not find an answer.
    assert ended.returncode == (0 if has_answer else 3), ended.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no engine is configured"),
        (["--engin", "scripted"], "--engine"),
        (["--engine", "http", "--engine-url", "http://127.0.0.1:1/v1"], "model is missing"),
        (["--engine", "scripted", "--api-keys-file", "/nowhere"], "/nowhere"),
    ],
)
def test_invalid_settings_are_named(
    capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main([*SOLVE, "--", *flags]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err


def test_waiting_for_an_unreachable_engine_is_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--engine", "http", "--engine-url", "http://127.0.0.1:1/v1", "--model", "m"]
    assert main([*SOLVE, "--wait", "2.5", "--", *flags]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "waiting for actor" in lines[0]
    assert "not ready after 2.5 s" in lines[-1]


def test_no_answer_within_the_deadline_exits_with_3(slow: str) -> None:
    ended = piped(*SOLVE, "--deadline", "0.2", "--", "--config", slow)
    assert ended.returncode == 3
    assert ended.stderr.count(b"\n") == 1


@pytest.mark.faults
def test_ctrl_c_ends_all_processes(slow: str) -> None:
    with at_terminal(*SOLVE, "--", "--config", slow) as terminal:
        terminal.read_until("actor solve 1")
        workers = children_of(terminal.popen.pid)
        terminal.type(b"\x03")
        assert terminal.end() == 130
    assert workers
    wait_until(lambda: not any(is_running(pid) for pid in workers))
    assert "Traceback" not in terminal.text


@contextmanager
def solving(config: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the command, in a separate session, once it has started its workers."""
    with subprocess.Popen(
        [*COMMAND, *SOLVE, "--", "--config", config],
        cwd=ROOT,
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as popen:
        wait_until(lambda: bool(children_of(popen.pid)), 30)
        yield popen


@pytest.mark.faults
def test_sigint_to_the_process_group_ends_all_processes(slow: str) -> None:
    with solving(slow) as popen:
        os.killpg(popen.pid, signal.SIGINT)
        out, err = popen.communicate(timeout=30)
    assert (popen.returncode, out) == (130, b"")
    assert b"Traceback" not in err


@pytest.mark.faults
def test_sigterm_to_the_command_ends_its_workers(slow: str) -> None:
    with solving(slow) as popen:
        workers = children_of(popen.pid)
        popen.terminate()
        out, err = popen.communicate(timeout=30)
    assert (popen.returncode, out) == (130, b"")
    assert b"interrupted" in err
    assert b"Traceback" not in err
    wait_until(lambda: not any(is_running(pid) for pid in workers))

"""`make run` prints one line per step and an example request, and leaves no process running."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.leftovers import marked_processes
from tools.demo import example
from tools.processes import free_port, is_free

CHECKOUT = Path(__file__).resolve().parents[2]
FAKE_DEMO = Path(__file__).with_name("stand_in_demo.py")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the demo with a fake service; its descendants inherit TOOLS_CACHE."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        paths = {"PYTHONPATH": str(CHECKOUT), "TOOLS_CACHE": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, str(FAKE_DEMO), *arguments, "--model", "stand-in"],
            env={**os.environ, **paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()  # SIGKILL would prevent it from ending its service
        process.communicate(timeout=30)


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    assert process.stdout is not None
    output = ""
    while text not in output:
        line = process.stdout.readline()
        assert line, f"ended before {text!r}:\n{output}"
        output += line
    return output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.faults
def test_a_signal_ends_every_started_process(
    number: signal.Signals, start: Start, tmp_path: Path
) -> None:
    port = free_port()
    demo = start("deaf", "--port", str(port))
    read_until(demo, "curl")
    assert len(marked_processes(str(tmp_path))) == 3

    demo.send_signal(number)

    output, _ = demo.communicate(timeout=30)
    assert f"stopped by {number.name}" in output
    assert demo.returncode == 128 + number
    assert marked_processes(str(tmp_path)) == {}
    assert is_free(port)


@pytest.mark.faults
def test_a_signal_during_startup_ends_the_demo(start: Start, tmp_path: Path) -> None:
    demo = start("hang", "--port", str(free_port()))
    read_until(demo, "starting")

    demo.send_signal(signal.SIGINT)

    demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert marked_processes(str(tmp_path)) == {}


@pytest.mark.parametrize(
    ("behaviour", "log_end"), [("die", "died of a test"), ("fall", "fell in a test")]
)
@pytest.mark.faults
def test_service_failure_is_reported_with_the_end_of_its_log(
    behaviour: str, log_end: str, start: Start, tmp_path: Path
) -> None:
    demo = start(behaviour, "--port", str(free_port()))

    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "make run: secondpass exited" in output
    assert log_end in output
    assert marked_processes(str(tmp_path)) == {}


def test_a_port_in_use_is_reported_before_startup(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        output, _ = (demo := start("serve", "--port", str(taken))).communicate(timeout=30)

    assert demo.returncode == 1
    assert f"port {taken} is in use" in output
    assert "set PORT" in output
    assert "starting" not in output


def test_each_step_is_one_line_with_its_time(start: Start) -> None:
    demo = start("serve", "--port", str(free_port()))
    steps = read_until(demo, "Try it").splitlines()[:-2]

    assert [line.partition("] ")[2].split(" ")[0] for line in steps] == ["starting", "secondpass"]
    assert all(line.startswith("[") and " s] " in line for line in steps)


def test_example_is_one_shell_command_with_a_json_body() -> None:
    words = shlex.split(example(8123).replace("\\\n", ""))

    assert words[0] == "curl"
    assert "http://127.0.0.1:8123/solve" in words
    body = json.loads(words[words.index("-d") + 1])
    assert body["strategy"]["name"] == "self_consistency"
    assert body["strategy"]["params"]["n"] == 5
    assert body["task"] == {"kind": "math"}
    assert body["budget"]


@pytest.mark.vllm
def test_example_command_works_with_a_real_engine(tmp_path: Path) -> None:
    log = (tmp_path / "demo.log").open("w+")
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "tools.demo", "--port", str(free_port())],
        cwd=CHECKOUT,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        while not (output := Path(log.name).read_text()).endswith("}'\n\n"):
            assert demo.poll() is None, output
            time.sleep(0.5)
        command = output[output.index("curl") :]
        answer = json.loads(subprocess.check_output(["sh", "-c", command], text=True))
    finally:
        demo.send_signal(signal.SIGINT)
        status = demo.wait(timeout=60)
        log.close()

    assert answer["strategy"] == "self_consistency"
    assert 0 < answer["confidence"] <= 1
    assert answer["stop_reason"] in {"finished", "consensus"}
    assert answer["usage"]["actor"]["completion"] > 0
    assert status == 130

"""Shutdown of a real process by a signal: runs return their best answers, then the process exits."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from secondpass.service.config.sources import PREFIX
from tests.http.serving import QUESTION, Json, events_of
from tests.polling import wait_until

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
SLOW_VOTE: Json = QUESTION | {
    "strategy": {"name": "self_consistency", "params": {"n": 64, "width": 1, "stop": "lead"}}
}
EXIT_SECONDS = 60
"""Time limit for the exit of a process, in seconds, on a busy machine."""
READY = re.compile(r"listening on (http://\S+)")


@dataclass
class Process:
    popen: "subprocess.Popen[str]"
    url: str = ""

    def end(self, sent: signal.Signals) -> int:
        self.popen.send_signal(sent)
        return self.popen.wait(EXIT_SECONDS)


@contextmanager
def started(folder: Path, *flags: str, per_token: float = 0.01) -> Iterator[Process]:
    config = folder / "secondpass.toml"
    config.write_text(f'[engines.fake]\nkind = "scripted"\nper_token = {per_token}\n')
    command = [sys.executable, "-m", "secondpass.service", "serve", "--config", str(config)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    with subprocess.Popen(
        [*command, "--port", "0", *flags],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        process = Process(popen)
        try:
            assert popen.stderr
            for line in popen.stderr:
                if found := READY.search(line):
                    process.url = found.group(1)
                    break
            threading.Thread(target=popen.stderr.read, daemon=True).start()
            yield process
        finally:
            popen.kill()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_stream_with_its_best_answer(tmp_path: Path, sent: signal.Signals) -> None:
    with (
        started(tmp_path, "--shutdown-grace-seconds", "0") as process,
        httpx.Client(timeout=20, trust_env=False) as client,
        client.stream("POST", f"{process.url}/solve", json=SLOW_VOTE | {"stream": True}) as reply,
    ):
        text, is_signalled = "", False
        for chunk in reply.iter_text():
            text += chunk
            if "event: candidate" in text and not is_signalled:
                process.popen.send_signal(sent)
                is_signalled = True
        assert process.popen.wait(EXIT_SECONDS) == 0
    name, _, answer = events_of(text)[-1]
    assert name == "run.finished"
    assert answer["stop_reason"] == "draining"
    assert answer["answer"] == "42"


def test_a_draining_service_refuses_requests_until_its_runs_finish(tmp_path: Path) -> None:
    with (
        started(tmp_path, "--shutdown-grace-seconds", "1.5") as process,
        httpx.Client(base_url=process.url, timeout=20, trust_env=False) as client,
        client.stream("POST", "/solve", json=SLOW_VOTE | {"stream": True}) as reply,
    ):
        chunks = reply.iter_text()
        next(chunks)
        process.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: client.get("/readyz").status_code == 503)
        refused = client.post("/solve", json=QUESTION)
        answer = events_of("".join(chunks))[-1][2]
        assert process.popen.wait(EXIT_SECONDS) == 0
    assert refused.status_code == 503
    assert "shutting down" in refused.json()["detail"]
    assert "retry-after" in refused.headers
    assert answer["stop_reason"] == "draining"


def test_a_run_within_the_grace_period_is_not_interrupted(tmp_path: Path) -> None:
    with started(tmp_path) as process, httpx.Client(timeout=20, trust_env=False) as client:
        with client.stream(
            "POST", f"{process.url}/solve", json=QUESTION | {"stream": True}
        ) as reply:
            chunks = reply.iter_text()
            next(chunks)
            process.popen.send_signal(signal.SIGTERM)
            answer = events_of("".join(chunks))[-1][2]
        assert process.popen.wait(EXIT_SECONDS) == 0
    assert answer["stop_reason"] == "finished"


def test_a_run_without_an_answer_at_shutdown_is_a_503(tmp_path: Path) -> None:
    with (
        started(tmp_path, "--shutdown-grace-seconds", "0.3", per_token=1) as process,
        httpx.Client(timeout=20, trust_env=False) as client,
    ):

        def end_once_it_runs() -> None:
            with httpx.Client(base_url=process.url, trust_env=False) as watcher:
                wait_until(lambda: "runs_in_flight 1.0" in watcher.get("/metrics").text)
            process.popen.send_signal(signal.SIGTERM)

        ending = threading.Thread(target=end_once_it_runs)
        ending.start()
        body = QUESTION | {"strategy": "self_consistency"}
        reply = client.post(f"{process.url}/solve", json=body)
        ending.join()
        assert process.popen.wait(EXIT_SECONDS) == 0
    assert reply.status_code == 503
    assert reply.json()["code"] == "draining"


def test_an_idle_connection_does_not_delay_shutdown(tmp_path: Path) -> None:
    with started(tmp_path) as process, httpx.Client(trust_env=False) as client:
        assert client.get(f"{process.url}/livez").status_code == 200
        assert process.end(signal.SIGTERM) == 0


def test_bad_settings_print_one_line_and_exit_with_2(tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text("prot = 1\n")
    command = [sys.executable, "-m", "secondpass.service", "serve", "--config", str(config)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "'prot'" in ended.stderr
    assert "port" in ended.stderr

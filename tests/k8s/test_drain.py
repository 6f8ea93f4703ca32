"""Termination of a pod of the overlay `split`: preStop, SIGTERM and exit of a real process."""

import os
import re
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from secondpass.service.config.sources import PREFIX
from tests.http.serving import Json, events_of
from tests.k8s.pod import LOG, Manifest, Pod, running_pod, write_settings
from tests.k8s.slow_upstream import ANSWER, SLOWLY, WORDS
from tests.polling import wait_at_most, wait_until
from tools.process_tree import descendants, is_running
from tools.processes import free_port, serving

pytestmark = pytest.mark.compat

AFTER_SIGTERM = 10.0
"""Approximate seconds that the running requests still need when SIGTERM arrives."""
AT_ONCE = 5.0
READY_SECONDS = 30.0
EXIT_SECONDS = 30.0
QUICK: Json = {"question": "Reply.", "strategy": "single"}
SLOW: Json = QUICK | {"question": f"Reply {SLOWLY}."}


@dataclass
class Drain:
    """Observations while a pod drains."""

    manifest: Manifest
    during_pre_stop: list[int] = field(default_factory=list)
    ready_while_draining: httpx.Response | None = None
    live_while_draining: int | None = None
    refused: list[httpx.Response] = field(default_factory=list)
    solve: Json = field(default_factory=dict)
    solve_events: list[tuple[str, int, Json]] = field(default_factory=list)
    chat_text: str = ""
    exit_status: int | None = None
    seconds_after_signal: float = 0.0
    left_running: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.render("split")


@pytest.fixture(scope="module", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        yield


def model_of(manifest: Manifest) -> str:
    ((table),) = tomllib.loads(manifest.settings)["engines"].values()
    return str(table["model"])


@contextmanager
def upstream(folder: Path, model: str, port: int, pause: float = 0.0) -> Iterator[str]:
    """Run an engine for the duration of the block and yield its URL."""
    command = [sys.executable, "-m", "tests.k8s.slow_upstream"]
    flags = ["--port", str(port), "--model", model, "--pause", str(pause)]
    url = f"http://127.0.0.1:{port}/v1"
    log = folder / "upstream.log"
    with serving("upstream", [*command, *flags], f"{url}/models", log, timeout=READY_SECONDS):
        yield url


@pytest.fixture(scope="module")
def drain(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Drain:
    """Run the whole sequence once: preStop, SIGTERM, exit."""
    folder = tmp_path_factory.mktemp("drain")
    seen = Drain(manifest)
    pause = (manifest.pre_stop_seconds + AFTER_SIGTERM) / len(WORDS)
    with (
        upstream(folder, model_of(manifest), free_port(), pause) as url,
        running_pod(manifest, write_settings(manifest, folder, url)) as pod,
    ):
        pod.wait_until_started()
        pod.wait_for(manifest.readiness, READY_SECONDS)
        running = [
            threading.Thread(target=ask, args=(pod, seen)) for ask in (_solve, _stream, _chat)
        ]
        for thread in running:
            thread.start()
        wait_until(lambda: _in_flight(pod) == len(running))
        processes = [pod.child.process.pid, *descendants(pod.child.process.pid)]
        _pre_stop(pod, seen)
        assert all(thread.is_alive() for thread in running)
        began = time.monotonic()
        os.kill(pod.child.process.pid, signal.SIGTERM)
        _observe_drain(pod, seen)
        for thread in running:
            thread.join(EXIT_SECONDS)
        seen.exit_status = pod.child.process.wait(EXIT_SECONDS)
        seen.seconds_after_signal = time.monotonic() - began
        seen.left_running = [pid for pid in processes if is_running(pid)]
    return seen


def _in_flight(pod: Pod) -> int:
    with pod.client() as client:
        text = client.get("/metrics").text
    gauges = r"(?m)^secondpass_(?:runs|plain_requests)_in_flight (\S+)$"
    return round(sum(map(float, re.findall(gauges, text))))


def _solve(pod: Pod, seen: Drain) -> None:
    with pod.client() as client:
        seen.solve = client.post("/solve", json=SLOW).json()


def _stream(pod: Pod, seen: Drain) -> None:
    with pod.client() as client:
        seen.solve_events = events_of(client.post("/solve", json=SLOW | {"stream": True}).text)


def _chat(pod: Pod, seen: Drain) -> None:
    messages = [{"role": "user", "content": SLOW["question"]}]
    body = {"model": model_of(seen.manifest), "messages": messages, "stream": True}
    with pod.client() as client:
        seen.chat_text = client.post("/v1/chat/completions", json=body).text


def _pre_stop(pod: Pod, seen: Drain) -> None:
    """Send a request each second during preStop, as proxies do that still list the pod."""
    end = time.monotonic() + pod.manifest.pre_stop_seconds
    while (left := end - time.monotonic()) > 0:
        with pod.client() as client:  # a new connection for each request
            seen.during_pre_stop.append(client.post("/solve", json=QUICK).status_code)
        time.sleep(min(1.0, left))


def _observe_drain(pod: Pod, seen: Drain) -> None:
    with pod.client() as client:

        def is_unready() -> bool:
            seen.ready_while_draining = client.get("/readyz")
            return seen.ready_while_draining.status_code == 503

        wait_at_most(AT_ONCE, is_unready)
        seen.live_while_draining = pod.probe(pod.manifest.liveness)
        chat = {"model": model_of(seen.manifest), "messages": [{"role": "user", "content": "Hi"}]}
        seen.refused = [
            client.post("/solve", json=QUICK),
            client.post("/v1/chat/completions", json=chat),
        ]


def test_requests_that_arrive_during_pre_stop_are_served(drain: Drain) -> None:
    assert len(drain.during_pre_stop) > drain.manifest.pre_stop_seconds / 2
    assert set(drain.during_pre_stop) == {200}


def test_draining_pod_is_live_but_not_ready(drain: Drain) -> None:
    assert drain.live_while_draining == 200
    assert drain.ready_while_draining is not None
    assert drain.ready_while_draining.json() == {"ready": False, "reasons": ["draining"]}


def test_new_requests_get_503_with_retry_after(drain: Drain) -> None:
    assert [reply.status_code for reply in drain.refused] == [503, 503]
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in drain.refused)


def test_running_requests_complete(drain: Drain) -> None:
    assert drain.solve["text"] == ANSWER
    assert drain.solve["stop_reason"] == "finished"
    name, _, answer = drain.solve_events[-1]
    assert name == "run.finished"
    assert answer["text"] == ANSWER
    assert all(word in drain.chat_text for word in WORDS)
    assert drain.chat_text.endswith("data: [DONE]\n\n")


def test_process_exits_0_within_the_grace_period_without_orphans(drain: Drain) -> None:
    assert drain.exit_status == 0
    assert 1.0 < drain.seconds_after_signal < AFTER_SIGTERM + EXIT_SECONDS
    assert (
        drain.manifest.pre_stop_seconds + drain.seconds_after_signal < drain.manifest.grace_seconds
    )
    assert drain.left_running == []


def test_pod_starts_without_its_engine_and_becomes_ready_with_it(
    manifest: Manifest, tmp_path: Path
) -> None:
    port = free_port()
    settings = write_settings(manifest, tmp_path, f"http://127.0.0.1:{port}/v1")
    with running_pod(manifest, settings) as pod:
        pod.wait_until_started()
        assert pod.probe(manifest.liveness) == 200
        with pod.client() as client:
            reply = client.get("/readyz")
        assert reply.status_code == 503
        causes = reply.json()["reasons"]  # for a client with an API key
        assert {cause.partition(": engine ")[0] for cause in causes} == {"actor", "critic", "judge"}
        with upstream(tmp_path, model_of(manifest), port):
            pod.wait_for(manifest.readiness, READY_SECONDS)
            with pod.client() as client:
                assert client.post("/solve", json=QUICK).json()["text"] == ANSWER


def without_keys(manifest: Manifest, folder: Path) -> Path:
    settings = write_settings(manifest, folder, "http://127.0.0.1:9/v1")
    (folder / "api-keys").unlink()
    return settings


def without_engine_key(manifest: Manifest, folder: Path) -> Path:
    return write_settings(manifest, folder, "http://127.0.0.1:9/v1", more='key_env = "ENGINE_KEY"')


@pytest.mark.parametrize(
    ("settings_of", "named"),
    [
        (without_keys, ("api_keys_file", "api-keys", "No such file")),
        (without_engine_key, ("key_env", "ENGINE_KEY")),
    ],
)
def test_missing_secret_exits_2_with_its_name(
    settings_of: Callable[[Manifest, Path], Path],
    named: tuple[str, ...],
    manifest: Manifest,
    tmp_path: Path,
) -> None:
    with running_pod(manifest, settings_of(manifest, tmp_path)) as pod:
        assert pod.child.process.wait(EXIT_SECONDS) == 2
    log = (tmp_path / LOG).read_text()
    assert all(part in log for part in named)
    assert "Traceback" not in log

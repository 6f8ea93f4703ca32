"""End to end: a client, the service as a separate process, and a real vLLM with a real model."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.engines.in_process import model_folder
from tests.polling import wait_at_most, wait_until
from tools.cache import log_folder
from tools.local_vllm import VllmServer, vllm_command, vllm_environment, vllm_flags
from tools.processes import Child, free_port, serving

pytestmark = pytest.mark.vllm

Json = dict[str, Any]
# At this temperature a small model does not stop: every draft runs until its limit or cancellation.
WORDY = {
    "question": "Write a long story about a lighthouse keeper, with every detail.",
    "strategy": "single",
    "sampling": {"max_tokens": 1500, "temperature": 2, "seed": 1},
}


@dataclass(frozen=True)
class Deployment:
    """The service as a separate process, in one of the arrangements with vLLM."""

    client: httpx.Client
    model: str
    vllm: str
    """Base URL of vLLM without /v1."""
    process: Child


SMALL = ("--dtype", "float32")
ONE_PROCESS = ("inside", "plug-in")


@pytest.fixture(scope="module", params=["beside", *ONE_PROCESS])
def service(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """vLLM as a separate server, in the process of the service, and with the service as its plug-in."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    if request.param == "beside":
        server: VllmServer = request.getfixturevalue("vllm_server")
        model, vllm = server.model_name, server.root_url
        command = serve(port, "--engine", "http", "--engine-url", server.base_url, "--model", model)
        environment = {}
    else:
        folder = model_folder()
        model, vllm = Path(folder).name, url
        # The server of other tests is bound to all cores except the first.
        first = str(min(os.sched_getaffinity(0)))
        environment = {**vllm_environment(folder), "VLLM_CPU_OMP_THREADS_BIND": first}
        if request.param == "inside":
            command = serve(port, "--engine", "vllm", "--model", folder)
            command += ["--", *vllm_flags(model), *SMALL]
        else:
            command = vllm_command(folder, model, port, SMALL)
            environment["VLLM_PLUGINS"] = "secondpass"
    log = log_folder() / f"service-{port}.log"
    with (
        serving("secondpass", command, f"{url}/readyz", log, timeout=180, env=environment) as child,
        httpx.Client(base_url=url, timeout=120, trust_env=False) as client,
    ):
        yield Deployment(client, model, vllm, child)


def serve(port: int, *engine: str) -> list[str]:
    return [sys.executable, "-m", "secondpass.service", "serve", "--port", str(port), *engine]


def engine_metric(service: Deployment, name: str) -> float:
    """Return a metric that the engine reports."""
    text = httpx.get(f"{service.vllm}/metrics", trust_env=False).text
    found = re.findall(rf"^vllm:{name}(?:_total)?{{[^}}]*}} (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def wait_until_idle(service: Deployment, seconds: float) -> float:
    """Return the seconds until the engine has no request. Fails after `seconds`."""
    return wait_at_most(
        seconds,
        lambda: (
            not (
                engine_metric(service, "num_requests_running")
                or engine_metric(service, "num_requests_waiting")
            )
        ),
        "the engine still has requests",
        every=0.01,
    )


def wait_until_busy(service: Deployment) -> None:
    wait_until(
        lambda: engine_metric(service, "num_requests_running") > 0,
        20,
        "the engine received no request",
        every=0.01,
    )


def test_usage_of_a_vote_equals_the_token_counters_of_the_engine(service: Deployment) -> None:
    wait_until_idle(service, 20)
    before = engine_metric(service, "generation_tokens")
    prompts = engine_metric(service, "prompt_tokens")
    reply = service.client.post(
        "/solve",
        json={
            "question": "Anna has 3 apples and buys 4 more. How many apples does she have?",
            "strategy": {"name": "self_consistency", "params": {"n": 5, "stop": "none"}},
            "task": {"kind": "math"},
            "sampling": {"max_tokens": 120, "seed": 1},
        },
    ).json()
    assert reply["stop_reason"] == "finished", reply
    assert reply["text"].strip()
    assert reply["confidence"] is None or 0 < reply["confidence"] <= 1
    wait_until_idle(service, 5)
    usage = reply["usage"]["actor"]
    assert usage["completion"] == engine_metric(service, "generation_tokens") - before
    assert usage["prompt"] <= engine_metric(service, "prompt_tokens") - prompts
    assert (usage["wasted"], usage["estimated"]) == (0, False)


def test_usage_of_cancelled_drafts_is_exact_to_two_tokens_per_draft(service: Deployment) -> None:
    wait_until_idle(service, 20)
    before = engine_metric(service, "generation_tokens")
    reply = service.client.post(
        "/solve",
        json=WORDY
        | {
            "strategy": {"name": "self_consistency", "params": {"n": 4, "stop": "lead"}},
            "budget": {"deadline_ms": 2500, "partial": False},
        },
    )
    wait_until_idle(service, 5)
    spent = engine_metric(service, "generation_tokens") - before
    usage = reply.json()["usage"]["actor"]
    assert reply.status_code == 504
    assert 0 <= spent - usage["completion"] <= 2 * 4
    assert usage["wasted"] == usage["completion"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_client_disconnect_frees_the_engine_within_a_second(
    service: Deployment, *, stream: bool
) -> None:
    wait_until_idle(service, 20)
    body = json.dumps(
        WORDY | {"strategy": {"name": "self_consistency", "params": {"n": 4}}, "stream": stream}
    ).encode()
    head = (
        "POST /solve HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    address = (service.client.base_url.host, service.client.base_url.port or 80)
    with socket.create_connection(address) as client:
        client.sendall(head.encode() + body)
        wait_until_busy(service)
    wait_until_idle(service, 1.0)
    made = engine_metric(service, "request_success")
    time.sleep(0.3)
    assert engine_metric(service, "request_success") == made
    metrics = service.client.get("/metrics").text.splitlines()
    assert "secondpass_runs_in_flight 0.0" in metrics
    assert 'secondpass_engine_calls_in_flight{role="actor"} 0.0' in metrics


@pytest.mark.parametrize("strategy", ["single", "self_consistency"])
def test_a_deadline_of_2_seconds_is_met_within_100_ms(service: Deployment, strategy: str) -> None:
    wait_until_idle(service, 20)
    body = WORDY | {"strategy": strategy, "budget": {"deadline_ms": 2000, "partial": False}}
    seconds = []
    for _ in range(3):  # a busy machine may delay one reply, but not all
        reply = service.client.post("/solve", json=body)
        assert reply.status_code == 504
        assert reply.headers["x-should-retry"] == "false"
        seconds.append(reply.elapsed.total_seconds())
        wait_until_idle(service, 1.0)
        if seconds[-1] <= 2.1:
            break
    assert 2.0 <= min(seconds) <= 2.1


def test_at_the_deadline_the_streamed_text_is_the_answer(service: Deployment) -> None:
    wait_until_idle(service, 20)
    reply = service.client.post(
        "/solve", json=WORDY | {"budget": {"deadline_ms": 2000}, "stream": True}
    )
    *_, last = re.findall(
        r"^event: run.finished\n(?:id: .*\n)?data: (.*)$", reply.text, re.MULTILINE
    )
    answer = json.loads(last)
    assert answer["stop_reason"] == "deadline"
    assert answer["finish_reason"] == "length"
    assert answer["text"]
    assert 2000 <= answer["timing"]["total"] <= 2500
    wait_until_idle(service, 1.0)


@pytest.mark.parametrize("service", ["beside"], indirect=True)
def test_plain_chat_is_forwarded_unchanged(service: Deployment) -> None:
    body = {
        "model": service.model,
        "messages": [{"role": "user", "content": "Say hi."}],
        "max_tokens": 12,
        "temperature": 0,
        "top_k": 5,  # an extension of vLLM
    }
    forwarded = service.client.post("/v1/chat/completions", json=body).json()
    direct = httpx.post(
        f"{service.vllm}/v1/chat/completions", json=body, trust_env=False, timeout=60
    ).json()
    for reply in (forwarded, direct):
        for changing in ("id", "created", "metrics"):
            reply.pop(changing, None)
        reply["usage"].pop(
            "prompt_tokens_details", None
        )  # the prompt of the second request is cached
    assert forwarded == direct


def test_openai_client_streams_the_answer_of_a_strategy(service: Deployment) -> None:
    client = openai.OpenAI(base_url=f"{service.client.base_url}/v1", api_key="none", max_retries=0)
    with client:
        stream = client.chat.completions.create(
            model=f"{service.model}@self_consistency",
            messages=[{"role": "user", "content": "What is 2 + 3? End with the number."}],
            max_tokens=200,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.strip()
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens


def test_a_prompt_that_the_engine_rejects_is_a_422(service: Deployment) -> None:
    reply = service.client.post("/solve", json={"question": "word " * 4000, "strategy": "single"})
    assert reply.status_code == 422, reply.text
    assert "2048" in reply.json()["detail"]


@pytest.mark.parametrize("service", ONE_PROCESS, indirect=True)
def test_other_paths_are_handled_by_vllm(service: Deployment) -> None:
    body = {"model": service.model, "prompt": "One, two,", "max_tokens": 3, "temperature": 0}
    assert service.client.post("/v1/completions", json=body).json()["choices"][0]["text"].strip()
    assert service.client.get("/no-such-path").status_code == 404
    page = service.client.get("/strategies", headers={"origin": "https://page.example"})
    assert page.status_code == 403
    assert service.client.get("/strategies", headers={"host": "evil.example"}).status_code == 421
    metrics = service.client.get("/metrics").text
    assert "\nvllm:num_requests_running{" in metrics
    assert "\nsecondpass_runs_in_flight 0.0" in metrics


@pytest.mark.parametrize("service", ONE_PROCESS, indirect=True)
def test_a_dead_engine_core_fails_its_runs_and_ends_the_process(service: Deployment) -> None:
    """Must be the last test of a deployment, which it ends."""
    wait_until_idle(service, 20)
    replies: list[httpx.Response] = []
    client = threading.Thread(
        target=lambda: replies.append(service.client.post("/solve", json=WORDY))
    )
    client.start()
    wait_until_busy(service)
    os.kill(core_of(service), signal.SIGKILL)
    died = time.monotonic()
    client.join(timeout=10)
    assert [reply.status_code for reply in replies] == [502]
    assert replies[0].json()["role"] == "actor"
    while service.process.exit_status() is None:
        assert time.monotonic() - died < 10, "the process is still running without its engine"
        with suppress(httpx.HTTPError):
            assert service.client.get("/readyz").status_code == 503
        time.sleep(0.1)


def core_of(service: Deployment) -> int:
    """Return the process id of the engine core, a child of the server."""
    server = service.process.process.pid
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == server and b"EngineCore" in (entry / "cmdline").read_bytes():
                return int(entry.name)
    raise AssertionError("the server has no child process EngineCore")


@pytest.mark.slow
def test_self_refine_returns_a_truncated_draft_that_repeats(service: Deployment) -> None:
    wait_until_idle(service, 20)
    # A negative penalty makes the most frequent token ever more probable.
    body = {
        "question": "Write a long story about a lighthouse keeper.",
        "strategy": {"name": "self_refine", "params": {"temperature": 0}},
        "sampling": {"frequency_penalty": -2},
        "budget": {"deadline_ms": 100_000},
        "trace": "summary",
    }
    answer = service.client.post("/solve", json=body).json()
    assert answer["finish_reason"] == "length"
    assert answer["stop_reason"] == "finished"
    assert answer["text"].strip()
    assert answer["answer"] is None
    draft = next(each for each in answer["trace"] if each["purpose"] == "solve")
    assert draft["finish_reasons"] == ["repetition"]
    assert draft["usage"]["completion"] < 1_900

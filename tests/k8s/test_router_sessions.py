"""Sessions through a real vllm-router: the header keeps a run with one worker, and forwarded clients keep theirs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.engines.upstream import Body, Upstream
from tests.http.serving import QUESTION, Json, Served
from tests.http.serving import serving as service
from tests.http.upstreams import disagrees, drafts, generations, running
from tests.k8s.tools import router_environment
from tests.polling import wait_until
from tools.processes import free_port
from tools.processes import serving as process

pytestmark = pytest.mark.compat

PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Routed:
    """A service before a router with two workers."""

    served: Served
    workers: tuple[Upstream, Upstream]

    def shares(self) -> list[int]:
        """Completions of each worker since the last look, the larger number first."""
        counts = sorted((drafts(worker) for worker in self.workers), reverse=True)
        for worker in self.workers:
            worker.requests.clear()
        return counts


async def _alive(_: web.Request, __: Body) -> web.StreamResponse:
    return web.json_response({})


@contextmanager
def routed(log: Path, policy: str = "consistent_hash", **settings: Any) -> Iterator[Routed]:
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(running(Upstream(chat=disagrees, routes={"/health": _alive})))
            for _ in range(2)
        )
        port, metrics = str(free_port()), str(free_port())
        command = [
            *(str(router_environment() / "bin/vllm-router"), "--worker-urls"),
            *(worker.url.removesuffix("/v1") for worker in (first, second)),
            *(
                "--policy",
                policy,
                "--disable-retries",
                "--port",
                port,
                "--prometheus-port",
                metrics,
            ),
        ]
        root = f"http://127.0.0.1:{port}"
        stack.enter_context(process("router", command, f"{root}/health", log, timeout=60))
        engine = {"kind": "http", "url": f"{root}/v1", "model": "model"}
        served = stack.enter_context(service(engine=None, engines={"big": engine}, **settings))
        wait_until(lambda: served.get("/readyz").status_code == 200)
        found = Routed(served, (first, second))
        found.shares()
        yield found


def vote(n: int, width: int | None = None) -> Json:
    """A vote whose drafts are drawn together, or `width` at a time."""
    params = {"n": n, "stop": "none"} | ({} if width is None else {"width": width})
    return QUESTION | {
        "strategy": {"name": "self_consistency", "params": params},
        "task": {"kind": "math"},
        "sampling": {"max_tokens": 64},
    }


def test_the_calls_of_a_run_reach_one_worker_and_runs_are_spread(tmp_path: Path) -> None:
    with routed(tmp_path / "log") as before:
        taken = []
        for _ in range(12):
            assert before.served.post("/solve", vote(8, width=1)).status_code == 200
            taken.append([len(generations(worker)) for worker in before.workers])
            assert before.shares() == [8, 0]
    assert {tuple(counts) for counts in taken} == {(8, 0), (0, 8)}


@pytest.mark.parametrize(
    ("policy", "setting", "width", "is_spread"),
    [
        ("consistent_hash", "split", None, True),
        ("consistent_hash", "split", 1, True),
        # Without a header this policy gives everything to one worker.
        ("consistent_hash", "none", 1, False),
        ("power_of_two", "none", 1, True),
    ],
)
def test_the_drafts_of_a_large_vote_are_spread_by_the_setting_that_fits_the_router(
    tmp_path: Path, policy: str, setting: str, width: int | None, is_spread: bool
) -> None:
    with routed(tmp_path / "log", policy, session_of_large_votes=setting, max_n=64) as before:
        for _ in range(4):
            assert before.served.post("/solve", vote(48, width)).status_code == 200
        most, least = before.shares()
    assert most + least == 4 * 48
    assert (least > 0) == is_spread


@pytest.mark.parametrize(
    "named",
    [
        {"headers": {"x-session-id": "agent"}},
        {"headers": {"x-claude-code-session-id": "agent"}},
        {"headers": {"x-session-affinity": "agent", "x-request-id": "of-the-client"}},
        {"body": {"prompt_cache_key": "agent"}},
        {"body": {"user": "agent"}},
    ],
)
def test_forwarded_requests_of_a_session_reach_one_worker(
    tmp_path: Path, named: dict[str, Json]
) -> None:
    with routed(tmp_path / "log") as before:
        for turn in range(8):
            messages = [{"role": "user", "content": f"turn {turn}"}]
            body = {"model": "model", "messages": messages} | named.get("body", {})
            reply = before.served.post(PATH, body, headers=named.get("headers"))
            assert reply.status_code == 200, reply.text
        sent = [headers for worker in before.workers for headers, _ in generations(worker)]
        assert before.shares() == [8, 0]
    assert all(headers["x-session-id"] == "agent" for headers in sent)
    for name, value in named.get("headers", {}).items():
        assert all(headers[name] == value for headers in sent)


def conversation(number: int, turns: int) -> Json:
    """The request of a conversation after so many turns of the user."""
    messages = [{"role": "system", "content": "Be brief."}]
    for turn in range(turns):
        asked = {"role": "user", "content": f"question {turn} of conversation {number}"}
        messages += [asked, {"role": "assistant", "content": "Yes."}]
    return {"model": "model", "messages": messages[:-1]}


def test_forwarded_conversations_without_a_session_are_spread_and_each_keeps_its_worker(
    tmp_path: Path,
) -> None:
    with routed(tmp_path / "log", session_of_forwards="opening") as before:
        workers = []
        for number in range(24):
            for turns in (1, 2, 3):
                assert before.served.post(PATH, conversation(number, turns)).is_success
            taken = [len(generations(worker)) for worker in before.workers]
            assert before.shares() == [3, 0]
            workers.append(taken.index(3))
    assert set(workers) == {0, 1}


def test_without_any_session_this_router_gives_everything_to_one_worker(tmp_path: Path) -> None:
    """The reason for `session_of_forwards`: vllm-router 0.1.17 hashes neither the prompt nor `session_id` of the body."""
    with routed(tmp_path / "log") as before:
        for number in range(24):
            body = conversation(number, 1) | {"session_id": f"s{number}"}
            assert before.served.post(PATH, body).is_success
        sent = [headers for worker in before.workers for headers, _ in generations(worker)]
        assert before.shares() == [24, 0]
    assert all("x-request-id" not in headers and "x-session-id" not in headers for headers in sent)

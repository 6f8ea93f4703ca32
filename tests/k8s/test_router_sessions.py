"""Sessions with a real vllm-router: the session header keeps each run and client on one worker."""

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
    """A service in front of a router with two workers."""

    served: Served
    workers: tuple[Upstream, Upstream]

    def shares(self) -> list[int]:
        """Completions of each worker since the previous call, in descending order."""
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
        deployed = Routed(served, (first, second))
        deployed.shares()
        yield deployed


def vote(n: int, width: int | None = None) -> Json:
    """A vote that draws all drafts at once, or `width` at a time."""
    params = {"n": n, "stop": "none"} | ({} if width is None else {"width": width})
    return QUESTION | {
        "strategy": {"name": "self_consistency", "params": params},
        "task": {"kind": "math"},
        "sampling": {"max_tokens": 64},
    }


def test_each_run_uses_one_worker_and_runs_are_spread(tmp_path: Path) -> None:
    with routed(tmp_path / "log") as setup:
        taken = []
        for _ in range(12):
            assert setup.served.post("/solve", vote(8, width=1)).status_code == 200
            taken.append([len(generations(worker)) for worker in setup.workers])
            assert setup.shares() == [8, 0]
    assert {tuple(counts) for counts in taken} == {(8, 0), (0, 8)}


@pytest.mark.parametrize(
    ("policy", "setting", "width", "is_spread"),
    [
        ("consistent_hash", "split", None, True),
        ("consistent_hash", "split", 1, True),
        # Without a header this policy sends all calls to one worker.
        ("consistent_hash", "none", 1, False),
        ("power_of_two", "none", 1, True),
    ],
)
def test_large_votes_are_spread_if_the_setting_fits_the_policy(
    tmp_path: Path, policy: str, setting: str, width: int | None, is_spread: bool
) -> None:
    with routed(tmp_path / "log", policy, session_of_large_votes=setting, max_n=64) as setup:
        for _ in range(4):
            assert setup.served.post("/solve", vote(48, width)).status_code == 200
        most, least = setup.shares()
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
    with routed(tmp_path / "log") as setup:
        for turn in range(8):
            messages = [{"role": "user", "content": f"turn {turn}"}]
            body = {"model": "model", "messages": messages} | named.get("body", {})
            reply = setup.served.post(PATH, body, headers=named.get("headers"))
            assert reply.status_code == 200, reply.text
        sent = [headers for worker in setup.workers for headers, _ in generations(worker)]
        assert setup.shares() == [8, 0]
    assert all(headers["x-session-id"] == "agent" for headers in sent)
    for name, value in named.get("headers", {}).items():
        assert all(headers[name] == value for headers in sent)


def conversation(number: int, turns: int) -> Json:
    """Request of a conversation with the given number of user turns."""
    messages = [{"role": "system", "content": "Be brief."}]
    for turn in range(turns):
        asked = {"role": "user", "content": f"question {turn} of conversation {number}"}
        messages += [asked, {"role": "assistant", "content": "Yes."}]
    return {"model": "model", "messages": messages[:-1]}


def test_opening_sessions_spread_conversations_and_keep_each_on_one_worker(
    tmp_path: Path,
) -> None:
    with routed(tmp_path / "log", session_of_forwards="opening") as setup:
        workers = []
        for number in range(24):
            for turns in (1, 2, 3):
                assert setup.served.post(PATH, conversation(number, turns)).is_success
            taken = [len(generations(worker)) for worker in setup.workers]
            assert setup.shares() == [3, 0]
            workers.append(taken.index(3))
    assert set(workers) == {0, 1}


def test_calls_without_a_session_all_reach_one_worker(tmp_path: Path) -> None:
    """vllm-router 0.1.17 hashes neither the prompt nor `session_id` of the body.

    This is the reason for `session_of_forwards`.
    """
    with routed(tmp_path / "log") as setup:
        for number in range(24):
            body = conversation(number, 1) | {"session_id": f"s{number}"}
            assert setup.served.post(PATH, body).is_success
        sent = [headers for worker in setup.workers for headers, _ in generations(worker)]
        assert setup.shares() == [24, 0]
    assert all("x-request-id" not in headers and "x-session-id" not in headers for headers in sent)

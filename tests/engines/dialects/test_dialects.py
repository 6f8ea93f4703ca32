"""Each dialect of an upstream is read, or rejected with an error that names the reason."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from secondpass.service.calls import retry
from secondpass.service.engines.openai.remote import NOT_PROBED
from tests.engines.dialects.server import DialectServer
from tests.engines.dialects.speech import CACHED_TOKENS, TEXT, Speech
from tests.engines.dialects.table import PAGE, SPEECHES, page
from tests.http.serving import Served, events_of, serving
from tests.polling import wait_until

VOTE = {"name": "self_consistency", "params": {"n": 3, "stop": "none"}}
RUNNING = {
    "running_usage",
    "running_usage_of_reply",
    "running_then_final",
    "running_then_larger_final",
    "message_and_delta",
}
PENDING = (NOT_PROBED, "no response yet")
CACHED = ("usage_cached", "deepseek")


@dataclass(frozen=True)
class Bench:
    """The service in front of one engine for each dialect."""

    served: Served
    upstream: DialectServer

    def solve(self, speech: Speech, **fields: Any) -> httpx.Response:
        self.upstream.used[speech.name].clear()
        budget = {"max_tokens": 10**6}  # failed attempts are charged an estimate
        return self.served.solve(models={"actor": speech.name}, budget=budget, **fields)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    upstream = DialectServer(SPEECHES)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(upstream.serving()),
    ):
        engines = {
            name: {"kind": "http", "url": f"{upstream.url}/{name}/v1", "model": name}
            for name in SPEECHES
        }
        roles = {"actor": "openai"}
        with (
            patch.object(retry, "wait_random_exponential", lambda **_: lambda _: 0.0),
            serving(engine=None, engines=engines, roles=roles) as served,
        ):
            engines_served = served.service.nodes.values()
            wait_until(
                lambda: all(each.why_not_ready not in PENDING for each in engines_served), 60
            )
            yield Bench(served, upstream)


@pytest.mark.parametrize("name", SPEECHES)
def test_each_dialect_is_read_or_rejected_by_name(name: str, bench: Bench) -> None:
    speech = SPEECHES[name]
    for strategy, refused in (
        ("single", speech.refused),
        (VOTE, speech.refused or speech.vote_refused),
    ):
        reply = bench.solve(speech, strategy=strategy)
        if refused is not None:
            assert reply.status_code in (422, 502, 503), reply.text
            assert refused in reply.json()["detail"]
            continue
        assert reply.status_code == 200, reply.text
        document = reply.json()
        assert document["answer"] == speech.answer
        _check_usage(speech, document["usage"]["actor"], bench)
        requests = 1 if strategy == "single" else speech.n_requests
        assert len(bench.upstream.used[name]) == requests


def _check_usage(speech: Speech, usage: dict[str, Any], bench: Bench) -> None:
    used = bench.upstream.used[speech.name]
    prompt, completion = (sum(counts) for counts in zip(*used, strict=True))
    is_exact = {
        "exact": (True, True),
        "estimated": (False, False),
        "prompt exact, completion estimated": (True, False),
        "completion exact, prompt estimated": (False, True),
    }[speech.usage]
    assert usage["prompt"] == prompt or not is_exact[0]
    assert usage["completion"] == completion or not is_exact[1]
    assert usage["estimated"] is (is_exact != (True, True))
    assert usage["cached"] == (CACHED_TOKENS * len(used) if speech.name in CACHED else 0)


@pytest.mark.parametrize("name", SPEECHES)
def test_each_dialect_is_streamed_or_rejected_by_name(name: str, bench: Bench) -> None:
    speech = SPEECHES[name]
    reply = bench.solve(speech, strategy="single", stream=True)
    if reply.status_code != 200:
        assert speech.refused is not None
        assert speech.refused in reply.json()["detail"]
        return
    events = events_of(reply.text)
    kind, _, last = events[-1]
    if speech.refused is not None:
        assert kind == "error"
        assert speech.refused in json.dumps(last, ensure_ascii=False)
        return
    assert kind == "run.finished"
    text = "".join(event["text"] for each, _, event in events if each == "answer.delta")
    if speech.answer is not None:
        assert text.startswith(TEXT)
    else:
        assert text


def test_only_servers_that_showed_them_have_running_counts_and_n(bench: Bench) -> None:
    capabilities = {
        name: node.engine.capabilities for name, node in bench.served.service.nodes.items()
    }
    counting = {name for name, each in capabilities.items() if "token_counts" in each}
    assert counting == RUNNING
    several = {name for name, each in capabilities.items() if "n" in each}
    answering = [each for each in SPEECHES.values() if each.refused is None]
    assert several >= {each.name for each in answering if each.n_requests == 1}
    assert not several & {each.name for each in answering if each.n_requests > 1}


def test_the_page_of_dialects_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.engines.dialects.table`"

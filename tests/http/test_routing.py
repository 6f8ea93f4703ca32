"""Headers by which routers place a request: every call carries its session, and a client's own reach the engine."""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.common.routing_headers import (
    is_value,
    opening_of,
    session_of,
)
from tests.engines.upstream import Upstream
from tests.http.serving import QUESTION, Json, Served, serving
from tests.http.upstreams import disagrees, generations, running
from tests.polling import wait_until

PATH = "/v1/chat/completions"
PLAIN: Json = {"model": "model", "messages": [{"role": "user", "content": "hi"}]}
KEYS = {"alice": "key-a", "bob": "key-b"}
IN_ORDER = (
    "x-session-id",
    "x-session-affinity",
    "session-id",
    "x-claude-code-session-id",
    "prompt_cache_key",
    "user",
)
"""What names a client's session, the first of them that is there."""

PLACES = (
    *IN_ORDER[:4],
    "session_id",
    "x-session-token",
    "x-aibrix-session-key",
    "x-smg-routing-key",
    "x-dynamo-session-id",
    "x-dynamo-parent-session-id",
    "x-litellm-session-id",
)
TRUSTED = (
    "x-llm-d-inference-fairness-id",
    "x-gateway-inference-fairness-id",
    "x-llm-d-inference-objective",
    "x-gateway-inference-objective",
    "x-llm-d-slo-ttft-ms",
    "x-llm-d-slo-tpot-ms",
    "x-slo-ttft-ms",
    "x-slo-tpot-ms",
    "x-vllm-priority",
    "x-user-id",
    "x-tenant-id",
)
POWERS = {
    "x-llm-d-inference-fairness-id": "batch",
    "x-llm-d-inference-objective": "urgent",
    "x-vllm-priority": "-5",
}


def vote(n: int) -> Json:
    return QUESTION | {
        "strategy": {"name": "self_consistency", "params": {"n": n, "stop": "none", "width": 1}},
        "task": {"kind": "math"},
        "sampling": {"max_tokens": 64},  # the upstream counts no tokens: the cap is what is billed
    }


@contextmanager
def front(engine: Json | None = None, **settings: Any) -> Iterator[tuple[Served, Upstream]]:
    """A service before an upstream that records what it gets; `engine` adds to the engine's table."""
    with ExitStack() as stack:
        upstream = stack.enter_context(running(Upstream(chat=disagrees)))
        table = {"kind": "http", "url": upstream.url, "model": "model", **(engine or {})}
        served = stack.enter_context(serving(engine=None, engines={"big": table}, **settings))
        wait_until(lambda: served.get("/readyz").status_code == 200)
        upstream.requests.clear()
        yield served, upstream


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys"
    digests = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}
    file.write_text("".join(f"{name}:{digest}\n" for name, digest in digests.items()))
    return file


def _header(name: str) -> str:
    """A header by the name of a parameter."""
    return name if name == "session_id" else name.replace("_", "-")


def sent_by(
    served: Served, upstream: Upstream, path: str, body: Json, **headers: str
) -> list[dict[str, str]]:
    """The headers of the completions that one request asks for."""
    upstream.requests.clear()
    named = {_header(name): value for name, value in headers.items()}
    reply = served.post(path, body, headers=named)
    assert reply.status_code == 200, reply.text
    return [each for each, _ in generations(upstream)]


def test_every_call_of_a_run_carries_the_runs_id_as_its_session() -> None:
    with front() as (served, upstream):
        document = served.post("/solve", vote(8)).json()
        sent = [headers for headers, _ in generations(upstream)]
    assert len(sent) == 8
    assert {headers["x-session-id"] for headers in sent} == {document["id"]}
    assert all("x-request-id" not in headers for headers in sent)


def test_a_judge_has_the_session_of_the_run_too() -> None:
    with front() as (served, upstream):
        asked = QUESTION | {"strategy": "self_refine", "task": {"kind": "open"}}
        sent = sent_by(served, upstream, "/solve", asked)
    assert len(sent) > 1
    assert len({headers["x-session-id"] for headers in sent}) == 1


@pytest.mark.parametrize(
    ("setting", "sessions"), [("none", [None] * 17), ("split", [0] * 8 + [1] * 8 + [2])]
)
def test_the_drafts_of_a_large_vote_do_not_share_one_session(
    setting: str, sessions: list[int | None]
) -> None:
    with front(session_of_large_votes=setting) as (served, upstream):
        sent = sent_by(served, upstream, "/solve", vote(17), x_session_id="mine")
        bodies = [body for _, body in generations(upstream)]
    names = {None: None, 0: "mine", 1: "mine-1", 2: "mine-2"}
    assert sorted(str(each.get("x-session-id")) for each in sent) == sorted(
        str(names[session]) for session in sessions
    )
    assert all("session_id" not in body for body in bodies)  # it is a field of vLLM's


def test_the_session_of_a_group_fits_a_header_too() -> None:
    with front(session_of_large_votes="split") as (served, upstream):
        sent = sent_by(served, upstream, "/solve", vote(17), x_session_id="s" * 256)
    sessions = {each["x-session-id"] for each in sent}
    assert len(sessions) == 3
    assert all(is_value(session) for session in sessions)


def test_the_largest_vote_with_one_session_is_the_operators_choice() -> None:
    with front(session_max_n=2) as (served, upstream):
        small = sent_by(served, upstream, "/solve", vote(2))
        large = sent_by(served, upstream, "/solve", vote(3))
    assert all("x-session-id" in each for each in small)
    assert all("x-session-id" not in each for each in large)


@pytest.mark.parametrize("route", ["/solve", PATH])
@pytest.mark.parametrize("name", IN_ORDER[:4])
def test_a_clients_session_becomes_that_of_its_run(route: str, name: str) -> None:
    body = QUESTION if route == "/solve" else PLAIN | {"model": "model@single"}
    with front() as (served, upstream):
        sent = sent_by(served, upstream, route, body, **{name: "mine"})
    assert [each["x-session-id"] for each in sent] == ["mine"]


@pytest.mark.parametrize("field", IN_ORDER[4:])
@pytest.mark.parametrize("model", ["model", "model@single"])
def test_a_field_of_a_chat_names_the_session_where_no_header_does(field: str, model: str) -> None:
    body = PLAIN | {"model": model, field: "mine"}
    with front() as (served, upstream):
        (alone,) = sent_by(served, upstream, PATH, body)
        (beside,) = sent_by(served, upstream, PATH, body, x_session_affinity="theirs")
    assert (alone["x-session-id"], beside["x-session-id"]) == ("mine", "theirs")


@given(st.dictionaries(st.sampled_from(IN_ORDER), st.text(min_size=1)))
def test_the_first_source_wins_and_a_session_always_fits_a_header(named: dict[str, str]) -> None:
    headers = {name: value for name, value in named.items() if name in IN_ORDER[:4]}
    body = {name: value for name, value in named.items() if name in IN_ORDER[4:]}
    found = session_of(headers, body)
    order = [named[name] for name in IN_ORDER if named.get(name, "").strip()]
    assert (found is None) == (not order)
    if found is not None:
        assert is_value(found)
        assert found == session_of({"x-session-id": order[0]}, {})


def test_the_opening_of_a_conversation_is_its_session_where_the_operator_wants_one() -> None:
    first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    later = [*first, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Bye"}]
    other = [first[0], {"role": "user", "content": "Hello"}]
    with front(session_of_forwards="opening") as (served, upstream):
        sessions = [
            sent_by(served, upstream, PATH, PLAIN | {"messages": messages})[0]["x-session-id"]
            for messages in (first, later, other)
        ]
        (named,) = sent_by(served, upstream, PATH, PLAIN | {"user": "mine"})
        for odd in ("none", [], ["x", None], [{"role": "system"}]):
            assert sent_by(served, upstream, PATH, PLAIN | {"messages": odd})
    assert sessions[0] == sessions[1] != sessions[2]
    assert named["x-session-id"] == "mine"


def test_a_session_that_no_header_can_hold_is_replaced_by_its_digest() -> None:
    body = PLAIN | {"user": "Zoë\r\nauthorization: Bearer stolen"}
    with front() as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, body)
    assert sent["x-session-id"] == hashlib.sha256(body["user"].encode()).hexdigest()
    assert "authorization" not in sent


def test_the_headers_of_a_session_are_named_by_the_engines_table() -> None:
    engine = {"session_headers": ["x-aibrix-session-key", "X-SMG-Routing-Key"]}
    with front(engine) as (served, upstream):
        (sent,) = sent_by(served, upstream, "/solve", QUESTION, x_session_id="mine")
        (plain,) = sent_by(served, upstream, PATH, PLAIN, x_session_id="mine")
    for each in (sent, plain):
        assert (each["x-aibrix-session-key"], each["x-smg-routing-key"]) == ("mine", "mine")
    assert "x-session-id" not in sent
    with front({"session_headers": []}) as (served, upstream):
        (none,) = sent_by(served, upstream, "/solve", QUESTION, x_session_id="mine")
    assert "mine" not in none.values()


def test_a_forwarded_client_keeps_its_affinity_headers_and_its_request_id() -> None:
    own = {"x-session-id": "s", "x-claude-code-session-id": "c", "x-smg-routing-key": "r"}
    with front() as (served, upstream):
        (kept,) = sent_by(served, upstream, PATH, PLAIN, **own, x_request_id="q", x_odd="o")
        (agent,) = sent_by(served, upstream, PATH, PLAIN, x_claude_code_session_id="c")
        (bare,) = sent_by(served, upstream, PATH, PLAIN)
    assert own.items() <= kept.items()
    assert kept["x-request-id"] == "q"
    assert "x-odd" not in kept
    assert (agent["x-session-id"], agent["x-claude-code-session-id"]) == ("c", "c")
    assert {"x-session-id", "x-request-id"}.isdisjoint(bare)


@pytest.mark.parametrize("path", ["/solve", PATH])
def test_our_request_id_travels_in_the_trace_context(path: str) -> None:
    body = QUESTION if path == "/solve" else PLAIN
    theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with front() as (served, upstream):
        reply = served.post(path, body)
        named = served.post(path, body, headers={"x-request-id": "q"})
        traced = served.post(path, body, headers={"traceparent": theirs})
        sent = [headers["traceparent"] for headers, _ in generations(upstream)]
    assert {reply.status_code, named.status_code, traced.status_code} == {200}
    made = reply.headers["x-request-id"].removeprefix("req_")
    of_name = hashlib.sha256(b"q").hexdigest()[:32]
    assert re.fullmatch(rf"00-{made}-[0-9a-f]{{16}}-01", sent[0])
    assert re.fullmatch(rf"00-{of_name}-[0-9a-f]{{16}}-01", sent[1])
    assert sent[2] == theirs


@pytest.mark.parametrize(("trusted", "names"), [((), PLACES), (("*",), (*PLACES, *TRUSTED))])
def test_these_headers_of_a_client_are_forwarded_and_no_others(
    trusted: tuple[str, ...], names: tuple[str, ...]
) -> None:
    others = ("x-forwarded-for", "origin", "openai-organization", "x-llm-d-model-name-rewrite")
    given = {name: f"of {name}" for name in (*PLACES, *TRUSTED, *others)}
    with front(trusted_tenants=trusted) as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, PLAIN, **given)
    assert {name for name in given if name in sent} == set(names)
    assert all(sent[name] == given[name] for name in names)


@pytest.mark.parametrize("header", ["x-smg-routing-key", "x-session-token", "x-request-id"])
def test_a_client_that_asks_for_a_replica_gets_no_session_of_ours(header: str) -> None:
    with front(session_of_forwards="opening") as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, PLAIN, **{header: "mine"})
    assert sent[header] == "mine"
    assert "x-session-id" not in sent


@pytest.mark.parametrize("depth", range(940, 1000, 7))
def test_an_opening_of_any_shape_is_no_defect(depth: int) -> None:
    """JSON that is nested nearly as deep as is read at all."""
    content = "[" * depth + "]" * depth
    raw = f'{{"model": "model", "messages": [{{"role": "user", "content": {content}}}]}}'
    with front(session_of_forwards="opening") as (served, _), served.client() as client:
        reply = client.post(PATH, content=raw, headers={"content-type": "application/json"})
    assert reply.status_code in (200, 400)


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda of: st.lists(of) | st.dictionaries(st.sampled_from(("role", "content", "text")), of),
    )
)
def test_an_opening_is_a_session_or_nothing(messages: Any) -> None:
    found = opening_of({"model": "m", "messages": messages})
    assert (found is not None) == isinstance(messages, list)
    assert found is None or is_value(found)


def test_an_opening_reads_no_more_of_a_large_body_than_of_a_small_one() -> None:
    keys = {f"k{i}": i for i in range(300_000)}
    body = {"messages": [{"role": "system", "content": "x" * 4_000_000, **keys}, {"role": "user"}]}
    began = time.perf_counter()
    for _ in range(100):
        opening_of(body)
    assert time.perf_counter() - began < 1.0


def test_a_header_that_steers_an_engine_is_not_forwarded_to_any() -> None:
    names = ("x-data-parallel-rank", "x-llm-d-model-name-rewrite", "x-gateway-destination-endpoint")
    with front(trusted_tenants=["*"]) as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, PLAIN, **dict.fromkeys(names, "1"))
    assert set(names).isdisjoint(sent)


def test_the_operator_may_ignore_what_clients_say_of_sessions() -> None:
    with front(ignore_client_sessions=True) as (served, upstream):
        (run,) = sent_by(served, upstream, "/solve", QUESTION, x_session_id="mine")
        body = PLAIN | {"user": "mine"}
        (plain,) = sent_by(served, upstream, PATH, body, x_session_id="mine", x_request_id="mine")
    assert run["x-session-id"].startswith("run_")
    assert "mine" not in plain.values()


@pytest.mark.parametrize(
    ("trusted", "passes"),
    [((), set()), (("alice",), {"alice"}), (("*",), {"alice", "bob"})],
)
@pytest.mark.parametrize("path", ["/solve", PATH])
def test_priority_and_fairness_headers_pass_for_trusted_tenants_alone(
    keys: Path, trusted: tuple[str, ...], passes: set[str], path: str
) -> None:
    body = QUESTION if path == "/solve" else PLAIN
    with front(api_keys_file=keys, trusted_tenants=trusted) as (served, upstream):
        sent = {
            tenant: sent_by(served, upstream, path, body, authorization=f"Bearer {key}", **POWERS)
            for tenant, key in KEYS.items()
        }
    for tenant, (headers,) in sent.items():
        found = {name: headers[name] for name in POWERS if name in headers}
        assert found == (POWERS if tenant in passes else {})


@pytest.mark.parametrize("path", ["/solve", PATH])
def test_an_engines_table_sends_tenant_objective_and_priority(keys: Path, path: str) -> None:
    body = QUESTION if path == "/solve" else PLAIN | {"priority": -100}
    engine = {
        "tenant_headers": ["x-llm-d-inference-fairness-id"],
        "objective": "interactive",
        "priority": 3,
    }
    with front(engine, api_keys_file=keys, trusted_tenants=["bob"]) as (served, upstream):
        (alice,) = sent_by(served, upstream, path, body, authorization="Bearer key-a", **POWERS)
        (bob,) = sent_by(served, upstream, path, body, authorization="Bearer key-b", **POWERS)
    assert {name: alice[name] for name in POWERS} == {
        "x-llm-d-inference-fairness-id": "alice",
        "x-llm-d-inference-objective": "interactive",
        "x-vllm-priority": "3",  # vLLM takes it before the body's
    }
    assert POWERS.items() <= bob.items()


def test_a_trusted_clients_priority_in_the_body_is_not_overridden() -> None:
    with front({"priority": 3}, trusted_tenants=["*"]) as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, PLAIN | {"priority": -100})
        (odd,) = sent_by(served, upstream, PATH, PLAIN | {"priority": True})
    assert (sent["x-vllm-priority"], odd["x-vllm-priority"]) == ("-100", "3")

"""Routing headers: every call has a session, and a client's own headers reach the engine."""

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
SESSION_SOURCES = (
    "x-session-id",
    "x-session-affinity",
    "session-id",
    "x-claude-code-session-id",
    "prompt_cache_key",
    "user",
)
"""Sources of a client's session, in order of precedence."""

AFFINITY_HEADERS = (
    *SESSION_SOURCES[:4],
    "session_id",
    "x-session-token",
    "x-aibrix-session-key",
    "x-smg-routing-key",
    "x-dynamo-session-id",
    "x-dynamo-parent-session-id",
    "x-litellm-session-id",
)
TRUSTED_HEADERS = (
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
PRIORITY_HEADERS = {
    "x-llm-d-inference-fairness-id": "batch",
    "x-llm-d-inference-objective": "urgent",
    "x-vllm-priority": "-5",
}


def vote(n: int) -> Json:
    return QUESTION | {
        "strategy": {"name": "self_consistency", "params": {"n": n, "stop": "none", "width": 1}},
        "task": {"kind": "math"},
        # The upstream reports no tokens, so each call is charged its cap.
        "sampling": {"max_tokens": 64},
    }


@contextmanager
def front(engine: Json | None = None, **settings: Any) -> Iterator[tuple[Served, Upstream]]:
    """A service in front of a recording upstream; `engine` adds to the engine's table."""
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
    """Convert the name of a parameter to that of a header."""
    return name if name == "session_id" else name.replace("_", "-")


def sent_by(
    served: Served, upstream: Upstream, path: str, body: Json, **headers: str
) -> list[dict[str, str]]:
    """Send one request and return the headers of its completion requests."""
    upstream.requests.clear()
    named = {_header(name): value for name, value in headers.items()}
    reply = served.post(path, body, headers=named)
    assert reply.status_code == 200, reply.text
    return [each for each, _ in generations(upstream)]


def test_every_call_has_the_run_id_as_its_session() -> None:
    with front() as (served, upstream):
        document = served.post("/solve", vote(8)).json()
        sent = [headers for headers, _ in generations(upstream)]
    assert len(sent) == 8
    assert {headers["x-session-id"] for headers in sent} == {document["id"]}
    assert all("x-request-id" not in headers for headers in sent)


def test_judge_calls_have_the_session_of_the_run() -> None:
    with front() as (served, upstream):
        body = QUESTION | {"strategy": "self_refine", "task": {"kind": "open"}}
        sent = sent_by(served, upstream, "/solve", body)
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
    assert all("session_id" not in body for body in bodies)  # vLLM has a field of this name


def test_the_session_of_a_group_is_a_valid_header() -> None:
    with front(session_of_large_votes="split") as (served, upstream):
        sent = sent_by(served, upstream, "/solve", vote(17), x_session_id="s" * 256)
    sessions = {each["x-session-id"] for each in sent}
    assert len(sessions) == 3
    assert all(is_value(session) for session in sessions)


def test_session_max_n_sets_the_largest_vote_with_one_session() -> None:
    with front(session_max_n=2) as (served, upstream):
        small = sent_by(served, upstream, "/solve", vote(2))
        large = sent_by(served, upstream, "/solve", vote(3))
    assert all("x-session-id" in each for each in small)
    assert all("x-session-id" not in each for each in large)


@pytest.mark.parametrize("route", ["/solve", PATH])
@pytest.mark.parametrize("name", SESSION_SOURCES[:4])
def test_a_client_session_becomes_the_session_of_its_run(route: str, name: str) -> None:
    body = QUESTION if route == "/solve" else PLAIN | {"model": "model@single"}
    with front() as (served, upstream):
        sent = sent_by(served, upstream, route, body, **{name: "mine"})
    assert [each["x-session-id"] for each in sent] == ["mine"]


@pytest.mark.parametrize("field", SESSION_SOURCES[4:])
@pytest.mark.parametrize("model", ["model", "model@single"])
def test_a_field_of_a_chat_names_the_session_unless_a_header_does(field: str, model: str) -> None:
    body = PLAIN | {"model": model, field: "mine"}
    with front() as (served, upstream):
        (alone,) = sent_by(served, upstream, PATH, body)
        (with_header,) = sent_by(served, upstream, PATH, body, x_session_affinity="header")
    assert (alone["x-session-id"], with_header["x-session-id"]) == ("mine", "header")


@given(st.dictionaries(st.sampled_from(SESSION_SOURCES), st.text(min_size=1)))
def test_the_first_source_wins_and_a_session_is_always_a_valid_header(
    named: dict[str, str],
) -> None:
    headers = {name: value for name, value in named.items() if name in SESSION_SOURCES[:4]}
    body = {name: value for name, value in named.items() if name in SESSION_SOURCES[4:]}
    found = session_of(headers, body)
    order = [named[name] for name in SESSION_SOURCES if named.get(name, "").strip()]
    assert (found is None) == (not order)
    if found is not None:
        assert is_value(found)
        assert found == session_of({"x-session-id": order[0]}, {})


def test_the_opening_of_a_conversation_is_its_session_if_configured() -> None:
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


def test_a_session_that_is_not_a_valid_header_is_replaced_by_its_digest() -> None:
    body = PLAIN | {"user": "Zoë\r\nauthorization: Bearer stolen"}
    with front() as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, body)
    assert sent["x-session-id"] == hashlib.sha256(body["user"].encode()).hexdigest()
    assert "authorization" not in sent


def test_the_engines_table_names_the_session_headers() -> None:
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


def test_a_plain_request_keeps_its_affinity_headers_and_request_id() -> None:
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
def test_the_request_id_is_sent_in_the_trace_context(path: str) -> None:
    body = QUESTION if path == "/solve" else PLAIN
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with front() as (served, upstream):
        reply = served.post(path, body)
        named = served.post(path, body, headers={"x-request-id": "q"})
        traced = served.post(path, body, headers={"traceparent": parent})
        sent = [headers["traceparent"] for headers, _ in generations(upstream)]
    assert {reply.status_code, named.status_code, traced.status_code} == {200}
    made = reply.headers["x-request-id"].removeprefix("req_")
    of_name = hashlib.sha256(b"q").hexdigest()[:32]
    assert re.fullmatch(rf"00-{made}-[0-9a-f]{{16}}-01", sent[0])
    assert re.fullmatch(rf"00-{of_name}-[0-9a-f]{{16}}-01", sent[1])
    assert sent[2] == parent


@pytest.mark.parametrize(
    ("trusted", "names"), [((), AFFINITY_HEADERS), (("*",), (*AFFINITY_HEADERS, *TRUSTED_HEADERS))]
)
def test_only_the_listed_client_headers_are_forwarded(
    trusted: tuple[str, ...], names: tuple[str, ...]
) -> None:
    others = ("x-forwarded-for", "referer", "openai-organization", "x-llm-d-model-name-rewrite")
    given = {name: f"of {name}" for name in (*AFFINITY_HEADERS, *TRUSTED_HEADERS, *others)}
    with front(trusted_tenants=trusted) as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, PLAIN, **given)
    assert {name for name in given if name in sent} == set(names)
    assert all(sent[name] == given[name] for name in names)


@pytest.mark.parametrize("header", ["x-smg-routing-key", "x-session-token", "x-request-id"])
def test_a_request_with_an_affinity_header_gets_no_other_session(header: str) -> None:
    with front(session_of_forwards="opening") as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, PLAIN, **{header: "mine"})
    assert sent[header] == "mine"
    assert "x-session-id" not in sent


@pytest.mark.parametrize("depth", range(940, 1000, 7))
def test_an_opening_of_any_depth_is_not_an_internal_error(depth: int) -> None:
    """Nest JSON nearly as deeply as the parser allows."""
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
def test_an_opening_is_a_valid_session_or_none(messages: Any) -> None:
    found = opening_of({"model": "m", "messages": messages})
    assert (found is not None) == isinstance(messages, list)
    assert found is None or is_value(found)


def test_an_opening_reads_a_bounded_part_of_the_body() -> None:
    keys = {f"k{i}": i for i in range(300_000)}
    body = {"messages": [{"role": "system", "content": "x" * 4_000_000, **keys}, {"role": "user"}]}
    start = time.perf_counter()
    for _ in range(100):
        opening_of(body)
    assert time.perf_counter() - start < 1.0


def test_headers_that_control_an_engine_are_never_forwarded() -> None:
    names = ("x-data-parallel-rank", "x-llm-d-model-name-rewrite", "x-gateway-destination-endpoint")
    with front(trusted_tenants=["*"]) as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, PLAIN, **dict.fromkeys(names, "1"))
    assert set(names).isdisjoint(sent)


def test_the_operator_may_ignore_client_sessions() -> None:
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
def test_priority_and_fairness_headers_are_forwarded_only_for_trusted_tenants(
    keys: Path, trusted: tuple[str, ...], passes: set[str], path: str
) -> None:
    body = QUESTION if path == "/solve" else PLAIN
    with front(api_keys_file=keys, trusted_tenants=trusted) as (served, upstream):
        sent = {
            tenant: sent_by(
                served, upstream, path, body, authorization=f"Bearer {key}", **PRIORITY_HEADERS
            )
            for tenant, key in KEYS.items()
        }
    for tenant, (headers,) in sent.items():
        found = {name: headers[name] for name in PRIORITY_HEADERS if name in headers}
        assert found == (PRIORITY_HEADERS if tenant in passes else {})


@pytest.mark.parametrize("path", ["/solve", PATH])
def test_the_engines_table_sets_tenant_objective_and_priority(keys: Path, path: str) -> None:
    body = QUESTION if path == "/solve" else PLAIN | {"priority": -100}
    engine = {
        "tenant_headers": ["x-llm-d-inference-fairness-id"],
        "objective": "interactive",
        "priority": 3,
    }
    with front(engine, api_keys_file=keys, trusted_tenants=["bob"]) as (served, upstream):
        (alice,) = sent_by(
            served, upstream, path, body, authorization="Bearer key-a", **PRIORITY_HEADERS
        )
        (bob,) = sent_by(
            served, upstream, path, body, authorization="Bearer key-b", **PRIORITY_HEADERS
        )
    assert {name: alice[name] for name in PRIORITY_HEADERS} == {
        "x-llm-d-inference-fairness-id": "alice",
        "x-llm-d-inference-objective": "interactive",
        "x-vllm-priority": "3",  # vLLM prefers it to the priority in the body
    }
    assert PRIORITY_HEADERS.items() <= bob.items()


def test_a_trusted_clients_priority_in_the_body_is_not_overridden() -> None:
    with front({"priority": 3}, trusted_tenants=["*"]) as (served, upstream):
        (sent,) = sent_by(served, upstream, PATH, PLAIN | {"priority": -100})
        (odd,) = sent_by(served, upstream, PATH, PLAIN | {"priority": True})
    assert (sent["x-vllm-priority"], odd["x-vllm-priority"]) == ("-100", "3")

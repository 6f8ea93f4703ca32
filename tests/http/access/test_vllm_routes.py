"""Tenants reach vLLM's routes for inference and no others, and their requests are salted."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from secondpass.service.common.errors import HttpError
from secondpass.service.config.api_keys import Tenants
from secondpass.service.http.access.vllm_routes import ALLOWED, REFUSED, SALTED, check_route
from secondpass.service.server.app import InProcessEngines, create_app
from tests.http.serving import Json, settings_of
from tests.polling import wait_until

DIGESTS = {hashlib.sha256(name.encode()).hexdigest(): name for name in ("ali", "bea")}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class FakeVllm:
    """Records the requests that reach vLLM's application."""

    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self.requests.append((scope["path"], headers, body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@contextmanager
def inside(tenants: Tenants, **settings: Any) -> Iterator[tuple[httpx.Client, FakeVllm]]:
    """A service with a fake of vLLM's application in its process."""
    vllm = FakeVllm()
    chosen = settings_of(engine="scripted", **settings)
    app = create_app(chosen, InProcessEngines(server=vllm), tenants=tenants)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20
        ) as client:
            yield client, vllm
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[httpx.Client, FakeVllm]]:
    with inside(Tenants(DIGESTS)) as both:
        yield both


@pytest.fixture(scope="module")
def open_() -> Iterator[tuple[httpx.Client, FakeVllm]]:
    with inside(Tenants()) as both:
        yield both


def as_tenant(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


CONCRETE = sorted(re.sub(r"{\w+}", "resp_1", path) for path in REFUSED)
TRICKS = (
    *(
        "//v1/completions",
        "/v1/./completions",
        "/v1/../sleep",
        "/v1//completions",
        "/V1/completions",
    ),
    *("/v1/completions/", "/v1/completions/../../sleep", "/v1/completions;x", "/sleep/", "/SLEEP"),
    *(
        "/v1%2f..%2fsleep",
        "/%2e%2e/sleep",
        "/v1/completions%00",
        "/metrics/",
        "/static/x",
        "/x/sleep",
    ),
    *("/v1/responses/a/b", "/v1/responses/", "/v1/responses/resp_1/input_items", "/no-such"),
)


@pytest.mark.parametrize("path", CONCRETE)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_operator_routes_are_refused_with_keys_and_without(
    shared: tuple[httpx.Client, FakeVllm],
    open_: tuple[httpx.Client, FakeVllm],
    path: str,
    method: str,
) -> None:
    for client, vllm in (shared, open_):
        before = len(vllm.requests)
        reply = client.request(method, path, headers=as_tenant("ali"))
        assert reply.status_code == 403
        assert "route_not_allowed" in reply.text
        assert "operator" in reply.text
        assert len(vllm.requests) == before


@pytest.mark.parametrize("path", TRICKS)
def test_another_spelling_of_a_path_reaches_nothing(
    open_: tuple[httpx.Client, FakeVllm], path: str
) -> None:
    client, vllm = open_
    before = len(vllm.requests)
    # httpx would normalise the path.
    connection = HTTPConnection(client.base_url.host, client.base_url.port)
    connection.request("POST", path, b"{}", {"content-type": "application/json"})
    assert connection.getresponse().status in (403, 404)
    connection.close()
    assert len(vllm.requests) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [(m, p) for p, ms in sorted(ALLOWED.items()) for m in sorted(ms) if m in ("GET", "POST")],
)
def test_inference_routes_are_passed_on(
    open_: tuple[httpx.Client, FakeVllm], method: str, path: str
) -> None:
    client, vllm = open_
    body = b'{"prompt":  "hi", "n":1.0}'
    headers = {"content-type": "application/json"}
    assert client.request(method, path, content=body, headers=headers).status_code == 200
    if path != "/openapi.json":  # the service has its own
        assert vllm.requests[-1][::2] == (path, body)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/completions"), ("DELETE", "/health")])
def test_other_methods_are_refused(
    open_: tuple[httpx.Client, FakeVllm], method: str, path: str
) -> None:
    assert open_[0].request(method, path).status_code == 405


@given(
    st.one_of(
        st.text(),
        st.builds(
            "".join, st.lists(st.sampled_from(["/", "v1", ".", "..", "sleep", "%2f", "responses"]))
        ),
        st.sampled_from(sorted(REFUSED)),
    ),
    st.sampled_from(["GET", "POST", "PUT", "WEBSOCKET", "get", ""]),
)
@example("/v1/completions", "POST")
def test_only_an_exact_path_and_method_is_ever_allowed(path: str, method: str) -> None:
    try:
        check_route(path, method)
    except HttpError:
        assert method not in ALLOWED.get(path, ())
    else:
        assert method in ALLOWED[path]


def test_the_lists_are_disjoint() -> None:
    assert not REFUSED & ALLOWED.keys()
    assert ALLOWED.keys() >= SALTED


@pytest.mark.parametrize("path", sorted(SALTED))
def test_several_tenants_never_share_a_salt(
    shared: tuple[httpx.Client, FakeVllm], path: str
) -> None:
    client, vllm = shared
    salts = []
    for tenant in ("ali", "bea"):
        for own in ({}, {"cache_salt": "mine"}, {"cache_salt": None}):
            body = {"model": "m", "n": 1.0} | own
            assert client.post(path, json=body, headers=as_tenant(tenant)).status_code == 200
            _, headers, raw = vllm.requests[-1]
            sent = json.loads(raw)
            salts.append(sent.pop("cache_salt"))
            assert sent == {"model": "m", "n": 1.0}
            assert headers["content-length"] == str(len(raw))
    ali, bea = salts[:3], salts[3:]
    assert ali[0] == ali[2] != ali[1]
    assert not {*ali} & {*bea}
    assert "mine" not in salts


def test_a_single_tenants_body_is_unchanged() -> None:
    body = b'{"prompt":  "hi", "cache_salt" : "mine" }'
    one = dict([*DIGESTS.items()][:1])
    with inside(Tenants(one)) as (client, vllm):
        headers = {"content-type": "application/json"} | as_tenant("ali")
        assert client.post("/v1/completions", content=body, headers=headers).is_success
    assert vllm.requests[-1][2] == body


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"a": 1, "a": 2}', 400),
        (b'{"cache_salt": "a", "cache_salt": "b"}', 400),
        (b'{"cache_salt": 1}', 400),
        ("{}".encode("utf-16"), 400),
        (b"[]", 400),
        (b"[" * 60_000, 400),
        (b'{"p": "' + b"x" * 70_000 + b'"}', 413),
    ],
)
def test_a_body_that_cannot_be_salted_is_refused(raw: bytes, status: int) -> None:
    with inside(Tenants(DIGESTS), max_body_bytes=65536) as (client, vllm):
        headers = {"content-type": "application/json"} | as_tenant("ali")
        assert client.post("/v1/completions", content=raw, headers=headers).status_code == status
        assert not vllm.requests


@pytest.mark.parametrize("field", ["previous_response_id", "background"])
def test_stored_responses_are_refused_where_several_tenants_share_vllm(
    shared: tuple[httpx.Client, FakeVllm], field: str
) -> None:
    client, vllm = shared
    before = len(vllm.requests)
    reply = client.post("/v1/responses", json={field: "resp_1"}, headers=as_tenant("ali"))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)
    assert len(vllm.requests) == before


CONTROL: Json = {
    "x-vllm-priority": "-5",
    "x-data-parallel-rank": "1",
    "x-llm-d-inference-fairness-id": "vip",
    "origin": "https://page.example",
    "access-control-request-method": "POST",
    "cookie": "a=b",
}


def test_only_listed_headers_reach_vllm(shared: tuple[httpx.Client, FakeVllm]) -> None:
    client, vllm = shared
    named = {"x-session-id": "s", "x-request-id": "r", "traceparent": TRACE, "tracestate": "a=b"}
    headers = CONTROL | named | as_tenant("ali")
    assert client.post("/tokenize", json={}, headers=headers).is_success
    sent = vllm.requests[-1][1]
    assert named.items() <= sent.items()
    assert not {*CONTROL, "authorization"} & {*sent}
    odd = {"traceparent": TRACE.upper(), "tracestate": "a=b"}
    assert client.post("/tokenize", json={}, headers=odd | as_tenant("ali")).is_success
    assert not {*odd} & {*vllm.requests[-1][1]}


def test_a_trusted_tenant_sets_its_priority() -> None:
    with inside(Tenants(DIGESTS), trusted_tenants=("bea",)) as (client, vllm):
        for tenant in ("ali", "bea"):
            client.post("/tokenize", json={}, headers=CONTROL | as_tenant(tenant))
    ali, bea = (headers for _, headers, _ in vllm.requests)
    assert "x-vllm-priority" not in ali
    assert bea["x-vllm-priority"] == "-5"
    assert "x-data-parallel-rank" not in bea

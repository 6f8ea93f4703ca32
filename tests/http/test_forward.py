"""A service in front of an OpenAI-compatible upstream, which here is another instance of the service."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from aiohttp import web

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.testing.support import constant_reply
from tests.engines.upstream import Body, Upstream
from tests.http.serving import QUESTION, Json, Served, serving
from tests.http.upstreams import running
from tests.polling import wait_at_most, wait_until

PATH = "/v1/chat/completions"
PLAIN: Json = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Served]:
    with serving(ScriptedEngine(per_token=0.001)) as running:
        yield running


@pytest.fixture(scope="module")
def front(upstream: Served) -> Iterator[Served]:
    with serving(engine="http", engine_url=f"{upstream.url}/v1", model="scripted") as running:
        wait_until(lambda: running.get("/readyz").status_code == 200)
        yield running


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_plain_response_is_forwarded_byte_for_byte(
    front: Served, upstream: Served, is_stream: bool
) -> None:
    body = PLAIN | {"stream": is_stream}
    direct, through = upstream.post(PATH, body), front.post(PATH, body)
    assert through.status_code == direct.status_code == 200
    assert through.content == direct.content
    assert through.headers["content-type"] == direct.headers["content-type"]


def test_upstream_errors_are_forwarded(front: Served, upstream: Served) -> None:
    body = PLAIN | {"messages": "none"}
    direct, through = upstream.post(PATH, body), front.post(PATH, body)
    assert through.status_code == direct.status_code == 400
    assert through.content == direct.content


def test_a_strategy_runs_on_the_upstream(front: Served) -> None:
    strategy = {"name": "self_consistency", "params": {"n": 3}}
    document = front.solve(strategy=strategy).json()
    assert document["answer"] == "42"
    assert document["usage"]["actor"]["calls"] == 3


def test_a_forwarded_response_contains_the_request_id_once(front: Served) -> None:
    reply = front.post(PATH, PLAIN, headers={"x-request-id": "mine"})
    assert reply.headers.get_list("x-request-id") == ["mine"]


@pytest.mark.parametrize("name", ["accept", "traceparent", "tracestate", "content-type", "x-odd"])
def test_a_header_that_is_not_ascii_is_accepted(front: Served, name: str) -> None:
    value = b"application/json; \xe9\xff"
    with front.client() as client:
        plain = client.post(PATH, json=PLAIN, headers={name.encode(): value})
        solve = client.post("/solve", json=QUESTION, headers={name.encode(): value})
    assert plain.status_code == solve.status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, PLAIN),
        (PATH, PLAIN | {"stream": True}),
        (PATH, PLAIN | {"model": "scripted@single", "stream": True}),
        ("/solve", QUESTION),
    ],
)
def test_a_disconnect_frees_the_engine_behind_the_upstream(path: str, body: Json) -> None:
    with (
        serving(ScriptedEngine(constant_reply("word " * 2000), per_token=0.01)) as behind,
        serving(engine="http", engine_url=f"{behind.url}/v1", model="scripted") as front,
    ):
        wait_until(lambda: front.get("/readyz").status_code == 200)
        with front.open(path, body):
            wait_until(lambda: bool(behind.engine.running))
        wait_at_most(0.5, lambda: not behind.engine.running)


WAITING = 'secondpass_engine_calls_waiting{engine="default"} 1.0'


@pytest.mark.parametrize(("path", "body"), [(PATH, PLAIN), ("/solve", QUESTION)])
def test_a_forwarded_request_occupies_an_admission_slot_until_it_ends(
    path: str, body: Json
) -> None:
    engine = ScriptedEngine(constant_reply("word " * 2000), per_token=0.01)
    with serving(engine, max_concurrent_calls=1) as served:
        with served.open(PATH, PLAIN | {"stream": True}):
            wait_until(lambda: len(engine.running) == 1)
            with served.open(path, body):
                wait_until(lambda: WAITING in served.get("/metrics").text)
            wait_until(lambda: WAITING not in served.get("/metrics").text)  # it disconnected
            second = served.open(path, body)
            wait_until(lambda: WAITING in served.get("/metrics").text)
            assert len(engine.calls) == 1
        with second:
            wait_until(lambda: len(engine.calls) == 2)
            assert len(engine.running) <= 1


def test_an_unreachable_upstream_is_reported() -> None:
    with serving(engine="http", engine_url="http://127.0.0.1:9/v1", model="m") as front:
        wait_until(lambda: "not probed yet" not in str(front.service.not_ready()))
        ready = front.get("/readyz")
        solve = front.solve()
        plain = front.post(PATH, PLAIN | {"model": "m"})
        metrics = front.get("/metrics").text
    assert ready.status_code == solve.status_code == 503
    assert "is not ready" in solve.json()["detail"]
    assert plain.status_code == 502
    assert plain.json()["error"]["type"] == "server_error"
    assert 'secondpass_engine_ready{engine="default"} 0.0' in metrics


def test_a_stopped_upstream_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "secondpass.service.server.lifespan")
    with ExitStack() as front:
        with serving() as behind:
            served = front.enter_context(
                serving(
                    engine="http",
                    engine_url=f"{behind.url}/v1",
                    model="scripted",
                    health_check_seconds=0.05,
                )
            )
            wait_until(lambda: served.get("/readyz").status_code == 200)
        wait_until(lambda: served.get("/readyz").status_code == 503)
    logged = [
        record.getMessage() for record in caplog.records if "'default'" in record.getMessage()
    ]
    assert logged[0] == "engine 'default' is ready"
    assert logged[1].startswith("engine 'default' is not ready: ")
    assert len(logged) == len(set(logged))


def test_upstream_headers_are_forwarded_except_gateway_headers() -> None:
    async def reject(_: web.Request, __: Body) -> web.StreamResponse:
        reason = {"x-llm-d-request-dropped-reason": "\N{EURO SIGN}", "x-more": "m"}
        place = {"x-gateway-destination-endpoint-served": "10.0.0.9:8000"}
        return web.json_response({}, status=429, headers=reason | place)

    with (
        running(Upstream()) as upstream,
        serving(engine="http", engine_url=upstream.url, model="model") as front,
    ):
        wait_until(lambda: front.get("/readyz").status_code == 200)
        upstream.chat = reject
        reply = front.post(PATH, PLAIN | {"model": "model"})
    assert reply.status_code == 429
    assert reply.headers["x-more"] == "m"
    assert "x-llm-d-request-dropped-reason" in reply.headers
    assert "x-gateway-destination-endpoint-served" not in reply.headers

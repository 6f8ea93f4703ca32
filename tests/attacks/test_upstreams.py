"""No reply of an upstream harms the process, its token accounting or its clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from aiohttp import web

from secondpass.service.engines.openai.own_count import BYTES_PER_TOKEN, SLACK_BYTES
from tests.attacks.replies import answer_42, raw, with_usage, writes
from tests.attacks.victim import ENGINE_KEY, Json, Victim, attack, victim
from tests.engines.upstream import Body, Handler, chunk, endless, event, refuses, start_stream
from tests.polling import wait_until

pytestmark = pytest.mark.faults

KEY = "an-api-key-of-a-tenant"
QUESTION: Json = {
    "question": "What is 6 times 7?",
    "strategy": {"name": "self_consistency", "params": {"n": 3, "stop": "none"}},
}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("upstreams")
    with victim(folder, keys={"tenant": KEY}, health_check_seconds=0.2) as started:
        yield started


FIGURES = [
    "NaN",
    "Infinity",
    "-Infinity",
    "-1",
    "-1e300",
    "1e300",
    "1e9999",
    "1.5",
    '"7"',
    "true",
    "[1]",
    "{}",
    "9" * 400,
    "null",
]


@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens", "cached_tokens"])
def test_a_figure_of_the_usage(attacked: Victim, field: str) -> None:
    with attack(attacked):
        for figure in FIGURES:
            fields = {"prompt_tokens": "9", "completion_tokens": "12"} | {field: figure}
            if field == "cached_tokens":
                fields |= {"prompt_tokens_details": f'{{"cached_tokens": {fields.pop(field)}}}'}
            usage = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
            attacked.upstream.chat = with_usage(usage)
            reply = attacked.post("/solve", QUESTION)
            assert reply.status_code in (200, 502), (figure, reply.text)
            if reply.status_code == 200:
                bill = reply.json()["usage"]
                assert_finite(bill)
    with attacked.client() as client:
        assert "NaN" not in [line.split()[-1] for line in client.get("/metrics").text.splitlines()]


def assert_finite(value: object) -> None:
    match value:
        case dict():
            for each in value.values():
                assert_finite(each)
        case bool() | None | str():
            pass
        case int() | float():
            assert 0 <= value <= 4e9


DEEP = 200_000
PAYLOADS = {
    "nested lists": "[" * DEEP + "]" * DEEP,
    "nested objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "nested choices": '{"choices":' + "[" * DEEP + "]" * DEEP + "}",
    "digits": '{"choices": [], "created": ' + "9" * 100_000 + "}",
    "not an object": "42",
    "index": json.dumps({"choices": [{"index": 10**30, "delta": {"content": "a"}}]}),
    "logprobs": '{"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"token": "a", "logprob": NaN}]}}]}',
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=list(PAYLOADS))
def test_a_malformed_chunk(attacked: Victim, payload: str) -> None:
    with attack(attacked):
        attacked.upstream.chat = raw(payload, json.dumps(chunk("The answer is 42.", "stop")))
        reply = attacked.post("/solve", QUESTION)
        assert reply.status_code in (200, 502), reply.text


async def huge_object(request: web.Request, _: Body) -> web.StreamResponse:
    """Reply with a JSON object that never ends."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"message": {"content": "')
    while True:
        await response.write(b"a" * 2**20)


async def huge_event(request: web.Request, _: Body) -> web.StreamResponse:
    """Stream one event that never ends."""
    response = await start_stream(request)
    while True:
        await response.write(b"a" * 2**20)


@pytest.mark.parametrize("reply", [huge_object, huge_event])
def test_an_endless_reply(attacked: Victim, reply: Handler) -> None:
    before = attacked.peak()
    with attack(attacked):
        attacked.upstream.chat = reply
        response = attacked.post("/solve", {"question": "What is 6 times 7?", "strategy": "single"})
        assert response.status_code == 502, response.text
    wait_until(lambda: attacked.upstream.running == 0)
    assert attacked.peak() - before < 500 * 2**20


async def endless_letters(request: web.Request, _: Body) -> web.StreamResponse:
    """Stream a completion of single letters that ignores the cap."""
    response = await start_stream(request)
    while True:
        await response.write(event(chunk("a ")))
        await asyncio.sleep(0.001)


CAP = 50


@pytest.mark.parametrize("reply", [endless, endless_letters, writes("word " * 20_000)])
def test_an_engine_without_counts_stops_at_the_cap(attacked: Victim, reply: Handler) -> None:
    with attack(attacked):
        attacked.upstream.chat = reply
        body = QUESTION | {
            "strategy": "single",
            "sampling": {"max_tokens": CAP},
            "task": {"kind": "open"},
            "budget": {"partial": True, "deadline_ms": 20_000},
        }
        response = attacked.post("/solve", body)
        document = response.json()
        assert document["stop_reason"] == "finished", response.text
        assert len(document["text"]) <= BYTES_PER_TOKEN * CAP + SLACK_BYTES
    wait_until(lambda: attacked.upstream.running == 0)


def test_the_key_and_inner_addresses_stay_inside(attacked: Victim) -> None:
    where = attacked.upstream.url.removeprefix("http://").removesuffix("/v1")
    echo = f"Incorrect API key: {ENGINE_KEY} for Bearer {ENGINE_KEY} at http://{where}/v1 via 10.1.2.3:8000"
    with attack(attacked):
        for status in (400, 401, 404, 422, 429, 500, 503):
            attacked.upstream.chat = refuses(status, {"error": {"message": echo}})
            chat: Json = {"model": "model@single", "messages": [{"role": "user", "content": "a"}]}
            replies = [
                attacked.post("/solve", QUESTION | {"trace": "full"}),
                attacked.post("/solve", QUESTION | {"stream": True}),
                attacked.post("/v1/chat/completions", chat),
                attacked.post("/v1/chat/completions", chat | {"stream": True}),
                attacked.post("/v1/chat/completions", chat | {"model": "model"}),
            ]
            for reply in replies:
                assert ENGINE_KEY not in reply.text
            for reply in replies[:4]:
                assert where not in reply.text
                assert "10.1.2.3" not in reply.text
        attacked.upstream.chat = answer_42  # the health check also gets the replies above
    with attacked.client() as client:
        assert ENGINE_KEY not in client.get("/metrics").text
    assert ENGINE_KEY not in "".join(attacked.log)


def test_readiness_names_the_roles_only(attacked: Victim) -> None:
    with attack(attacked):
        attacked.upstream.routes["/v1/models"] = refuses(
            500, {"error": {"message": "secret cause"}}
        )
        try:
            with attacked.client() as client:
                wait_until(lambda: client.get("/readyz").status_code == 503)
                known = client.get("/readyz").text
                headers = {"authorization": "Bearer another-key"}
                texts = [client.get("/readyz", headers=headers).text]
            with attacked.client(headers={"authorization": ""}) as client:
                texts.append(client.get("/readyz").text)
            where = attacked.upstream.url.removeprefix("http://").removesuffix("/v1")
            for text in texts:
                assert "actor" in text
                assert "secret cause" not in text
                assert where not in text
            assert "secret cause" in known
        finally:
            del attacked.upstream.routes["/v1/models"]
            with attacked.client() as client:
                wait_until(lambda: client.get("/readyz").status_code == 200)


HEALTH = {
    "nested": "[" * DEEP + "]" * DEEP,
    "not a list": '{"data": 7}',
    "not objects": '{"data": [7, null, "a"]}',
    "ids": '{"data": [{"id": {"a": 1}}]}',
    "NaN": '{"data": [{"id": "model", "max_model_len": NaN}]}',
    "huge": '{"data": [' + ",".join(['{"id": "x"}'] * 200_000) + "]}",
}


@pytest.mark.parametrize("text", HEALTH.values(), ids=list(HEALTH))
def test_the_watcher_survives_a_malformed_list_of_models(attacked: Victim, text: str) -> None:
    async def listed(_: web.Request, __: Body) -> web.StreamResponse:
        return web.Response(text=text, content_type="application/json")

    attacked.upstream.chat = answer_42
    with attack(attacked):
        attacked.upstream.routes["/v1/models"] = refuses(500, {})
        try:
            with attacked.client() as client:
                wait_until(lambda: client.get("/readyz").status_code == 503)
                attacked.upstream.routes["/v1/models"] = listed
                count = len(attacked.upstream.requests)
                wait_until(lambda: len(attacked.upstream.requests) > count + 1)
                assert client.get("/livez").status_code == 200
        finally:
            del attacked.upstream.routes["/v1/models"]
            with attacked.client() as client:
                wait_until(lambda: client.get("/readyz").status_code == 200)

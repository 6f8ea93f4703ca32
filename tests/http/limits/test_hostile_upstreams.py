"""No reply of an engine ends later runs, and no text that leaves has its key or address."""

import gzip
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.engines.upstream import DONE, Body, Upstream, chunk, event, start_stream, streams
from tests.http.serving import Json, Served, serving
from tests.http.upstreams import running
from tests.polling import wait_until

KEY = "sk-inner/secret+1234567890"
VARIABLE = "INNER_KEY"
TEXT = "The answer is \\boxed{42}."
GOOD_USAGE = {"prompt_tokens": 9, "completion_tokens": 5}


async def good(request: web.Request, body: Body) -> web.StreamResponse:
    chunks = []
    for index in range(body.get("n") or 1):
        chunks += [event(chunk(TEXT, index=index)), event(chunk("", "stop", index))]
    usage = event({"choices": [], "usage": GOOD_USAGE})
    return await streams(*chunks, usage, DONE)(request, body)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running(Upstream(chat=good)) as served:
        yield served


@pytest.fixture(scope="module")
def front(upstream: Upstream) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(VARIABLE, KEY)
        table = {"kind": "http", "url": upstream.url, "model": "model", "key_env": VARIABLE}
        with serving(engine=None, engines={"big": table}, max_body_bytes=10**6) as served:
            wait_until(lambda: served.get("/readyz").status_code == 200)
            yield served


figures: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, 0, -1, 7, 7.0, 1e9, 10**9, 10**9 + 1, 10**400, True, "7", [7], {}, math.nan, math.inf,
        -math.inf, -0.0, 2**31, 2**63,
    ]
)  # fmt: skip
usages = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": figures,
        "completion_tokens": figures,
        "cached_tokens": figures,
        "prompt_tokens_details": st.fixed_dictionaries({"cached_tokens": figures}),
        "completion_tokens_details": st.fixed_dictionaries({"reasoning_tokens": figures}),
    },
)
replies = st.lists(
    st.fixed_dictionaries(
        {"choices": st.just([{"index": 0, "delta": {"content": "no "}}]) | st.just([])},
        optional={"usage": usages, "x_groq": st.fixed_dictionaries({"usage": usages})},
    ),
    max_size=3,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(replies, usages, st.sampled_from(["single", "self_consistency"]))
@example([], {"prompt_tokens": math.nan, "completion_tokens": math.nan}, "single")
@example([], {"prompt_tokens": 10**9, "completion_tokens": 10**9}, "self_consistency")
def test_a_run_after_any_usage_succeeds_with_the_right_usage(
    front: Served, upstream: Upstream, chunks: list[Any], usage: Any, strategy: str
) -> None:
    last = event({"choices": [], "usage": usage})
    upstream.chat = streams(*map(event, chunks), event(chunk("7", "stop")), last, DONE)
    hostile = front.solve(strategy=strategy)
    assert hostile.status_code in (200, 422)
    _assert_finite(hostile.text)
    upstream.chat = good
    reply = front.solve(strategy="single", budget={"max_prompt_tokens": 20_000})
    assert reply.status_code == 200, reply.text
    document = reply.json()
    assert document["text"] == TEXT
    actor = document["usage"]["actor"]
    assert (actor["prompt"], actor["completion"], actor["estimated"]) == (9, 5, False)


def test_the_metrics_remain_finite(front: Served) -> None:
    assert not re.search(r"(?i)\b(nan|-inf)\b", front.get("/metrics").text)


def _assert_finite(text: str) -> None:
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in {text}"))


NESTED = b"[" * 100_000 + b"]" * 100_000
BOMB = gzip.compress(bytes(200 * 2**20), 9)


def _sends(body: bytes, status: int = 200, /, **headers: str) -> Any:
    async def handle(request: web.Request, _: Body) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return handle


def _leaks(text: str) -> Any:
    return lambda status: _sends(json.dumps({"error": {"message": text}}).encode(), status)


HOSTILE = {
    "deep event": _sends(b"data: " + NESTED + b"\n\n", content_type="text/event-stream"),
    "deep body": _sends(b'{"choices":' + NESTED + b"}", content_type="application/json"),
    "deep error": _sends(b'{"error":' + NESTED + b"}", 500),
    "bomb": _sends(BOMB, content_encoding="gzip"),
    "bomb as an error": _sends(BOMB, 500, content_encoding="gzip"),
    "unknown encoding": _sends(b"x" * 100, content_encoding="br"),
    "broken gzip": _sends(b"x" * 100, content_encoding="gzip"),
    "status 999": _sends(b"{}", 999),
    "odd choices": _sends(event({"choices": [{"index": 1e400, "delta": {"content": "x"}}]})),
    "deep index": _sends(b'data: {"choices": [{"index": ' + b"[" * 500 + b"]" * 500 + b"}]}\n\n"),
    "token ids": _sends(event({"choices": [{"index": 0, "token_ids": ["a"], "delta": {}}]})),
    "no end": _sends(event(chunk("word"))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_reply_is_an_engine_error_and_the_next_run_succeeds(
    name: str, front: Served, upstream: Upstream
) -> None:
    upstream.chat = HOSTILE[name]
    failed = front.solve(strategy="single")
    assert (failed.status_code, failed.json()["code"]) == (502, "engine_failed"), failed.text
    assert len(failed.text) < 3_000
    upstream.chat = good
    assert front.solve().status_code == 200


LEAKS = [
    "invalid key {key} in Authorization: Bearer {key}",
    "AUTHORIZATION: BEARER {upper}",
    "GET /?key={quoted} failed",
    "connect to 10.0.3.7:8000 refused by http://{host}/v1",
    "upstream router.models.svc.cluster.local:8000 said no",
    "x" * 180 + "{key}",
]


@pytest.mark.parametrize("status", [400, 401, 500, 200])
@pytest.mark.parametrize("leak", LEAKS)
def test_no_text_that_leaves_has_the_key_or_an_inner_address(
    leak: str, status: int, front: Served, upstream: Upstream
) -> None:
    host = upstream.url.split("/")[2]
    quoted = KEY.replace("/", "%2F").replace("+", "%2b")
    text = leak.format(key=KEY, upper=KEY.upper(), quoted=quoted, host=host)
    upstream.chat = _leaks(text)(status)
    body: Json = {"messages": [{"role": "user", "content": "hi"}]}
    left = [
        front.solve(strategy="self_consistency", trace="full"),
        front.solve(stream=True, strategy="single"),
        front.post("/v1/chat/completions", body | {"model": "model@single"}),
        front.post("/v1/chat/completions", body | {"model": "model@single", "stream": True}),
        front.post("/v1/chat/completions", body | {"model": "model"}),
        front.get("/metrics"),
    ]
    for reply in left:
        is_forwarded = status == 200 and reply is left[-2]  # byte for byte, except for keys
        shown = f"{reply.headers}{reply.text}".lower()
        inner = () if is_forwarded else ("10.0.3.7", host, "router.models")
        found = [each for each in (KEY, quoted, *inner) if each.lower() in shown]
        assert not found, shown
    upstream.chat = good


def test_a_key_in_a_forwarded_reply_is_masked_and_its_headers_do_not_direct_a_browser(
    front: Served, upstream: Upstream
) -> None:
    async def echo(request: web.Request, _: Body) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "content-type": "text/event-stream",
                "access-control-allow-origin": "*",
                "set-cookie": "a=b",
                "location": "http://10.0.3.7/",
                "x-more": f"served by 10.0.3.7:80 for {KEY}",
            }
        )
        await response.prepare(request)
        whole = event(chunk(f"my key is {KEY}, yes", "stop"))
        for at in range(0, len(whole), 7):
            await response.write(whole[at : at + 7])
        await response.write(DONE)
        return response

    upstream.chat = echo
    body = {"model": "model", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    reply = front.post("/v1/chat/completions", body)
    upstream.chat = good
    assert reply.status_code == 200
    assert KEY not in reply.text
    assert f"my key is {'*' * len(KEY)}, yes" in reply.text
    assert reply.headers["x-more"] == "served by [address] for [key]"
    assert not {"set-cookie", "location", "access-control-allow-origin"} & set(reply.headers)


def test_an_engine_that_ignores_max_tokens_is_truncated_and_its_usage_is_estimated(
    front: Served, upstream: Upstream
) -> None:
    async def endless(request: web.Request, body: Body) -> web.StreamResponse:
        response = await start_stream(request)
        try:
            while True:
                await response.write(event(chunk("word ")))
        except ConnectionError:
            return response

    upstream.chat = endless
    reply = front.solve(sampling={"max_tokens": 50}, task={"kind": "open"}, strategy="single")
    upstream.chat = good
    assert reply.status_code == 200, reply.text
    document = reply.json()
    assert (document["text"], document["finish_reason"]) == ("word " * 50, "length")
    actor = document["usage"]["actor"]
    assert (actor["completion"], actor["estimated"]) == (50, True)

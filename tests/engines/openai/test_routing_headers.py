"""Routing headers of all requests of a call: completions, label reads and tokenization."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from secondpass.service.engines.openai.engine import HttpEngine, _Server
from secondpass.service.engines.openai.routing import RoutingHeaders
from secondpass.service.engines.openai.token_cache import Tokenizer
from secondpass.service.engines.openai.wire import Dialect
from secondpass.strategies.api.engine import Routing
from tests.engines.support import CALL, run
from tests.engines.upstream import DONE, Body, Upstream, chunk, event, start_stream

pytestmark = pytest.mark.anyio

DIALECT = Dialect(
    model="model",
    is_vllm=True,
    capabilities=frozenset(("prefix", "tokenize", "labels", "token_counts")),
    has_token_ids=True,
)
ROUTING = RoutingHeaders(
    session=("X-Session-ID", "X-SMG-Routing-Key"),
    tenant=("x-llm-d-inference-fairness-id",),
    objective="interactive",
    priority=-1,
)
ROUTED = replace(CALL, routing=Routing(session="run-1", tenant="alice"))


async def _tokenizes(_: web.Request, body: Body) -> web.StreamResponse:
    text = body.get("prompt") or json.dumps(body.get("messages"))
    return web.json_response({"tokens": [sum(text.encode())]})


async def _detokenizes(_: web.Request, __: Body) -> web.StreamResponse:
    return web.json_response({"prompt": "It is"})


async def _completes(request: web.Request, body: Body) -> web.StreamResponse:
    if not body.get("stream"):
        entry = {"token": f"token_id:{body['logprob_token_ids'][0]}", "logprob": -0.1}
        choice = {"logprobs": {"content": [{"top_logprobs": [entry]}]}}
        return web.json_response({"choices": [choice]})
    response = await start_stream(request)
    await response.write(event(chunk("42", "stop", token_ids=[7])) + DONE)
    return response


@pytest.fixture
async def routed(upstream: Upstream) -> AsyncIterator[HttpEngine]:
    """An engine for a server with vLLM's dialect."""
    upstream.routes |= {
        "/tokenize": _tokenizes,
        "/detokenize": _detokenizes,
        "/v1/completions": _completes,
        "/v1/chat/completions": _completes,
    }
    engine = HttpEngine("big", upstream.url, "model", routing=ROUTING)
    engine._server = _Server(DIALECT, Tokenizer(engine._connection, DIALECT, ROUTING))
    try:
        yield engine
    finally:
        await engine.aclose()


@pytest.mark.parametrize(
    ("call", "paths"),
    [
        (ROUTED, ["/v1/chat/completions"]),
        (
            replace(ROUTED, prefix=("So", 1, 2)),
            ["/detokenize", "/tokenize", "/tokenize", "/v1/completions"],
        ),
        (replace(ROUTED, labels=("yes", "no")), ["/tokenize"] * 4 + ["/v1/chat/completions"]),
    ],
)
async def test_every_request_of_a_call_has_its_routing_headers(
    upstream: Upstream, routed: HttpEngine, call: object, paths: list[str]
) -> None:
    upstream.requests.clear()
    await run(routed, call)  # type: ignore[arg-type] # parametrize has no types
    assert sorted(path for path, _, _ in upstream.requests) == paths
    for path, headers, _ in upstream.requests:
        assert headers["x-session-id"] == headers["x-smg-routing-key"] == "run-1", path
        assert headers["x-llm-d-inference-fairness-id"] == "alice", path
        assert headers["x-llm-d-inference-objective"] == "interactive", path
        assert headers["x-vllm-priority"] == "-1", path


async def test_a_call_without_a_session_has_no_session_header(
    upstream: Upstream, routed: HttpEngine
) -> None:
    upstream.requests.clear()
    await run(routed, CALL)
    ((_, headers, raw),) = upstream.requests
    assert {"x-session-id", "x-smg-routing-key"}.isdisjoint(headers)
    assert "session_id" not in json.loads(raw)


async def test_a_prompt_count_request_has_the_session_header(
    upstream: Upstream, routed: HttpEngine
) -> None:
    upstream.requests.clear()
    assert await routed.count_prompt(ROUTED) == 1
    ((path, headers, _),) = upstream.requests
    assert (path, headers["x-session-id"]) == ("/tokenize", "run-1")

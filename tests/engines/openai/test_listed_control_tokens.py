"""Control tokens that a vLLM server lists at /tokenizer_info, if it has this route."""

from __future__ import annotations

import pytest
from aiohttp import web

from tests.engines.support import is_ready, started
from tests.engines.upstream import Body, Handler, Upstream, refuses

pytestmark = pytest.mark.anyio


def replies(value: object) -> Handler:
    async def handle(_request: web.Request, _body: Body) -> web.StreamResponse:
        return web.json_response(value)

    return handle


def serving(handler: Handler | None, owner: str = "vllm") -> Upstream:
    upstream = Upstream(models=[{"id": "model", "owned_by": owner}])
    if handler is not None:
        upstream.routes["/tokenizer_info"] = handler
    return upstream


@pytest.mark.parametrize(
    ("handler", "tokens"),
    [
        (replies({"eos_token": "<@eos@>", "bos_token": "<s>"}), {"<@eos@>"}),
        (replies({"eos_token": ["<@eos@>"]}), set()),
        (replies(["<@eos@>"]), set()),
        (refuses(500, {"error": "x"}), set()),
        (None, set()),
    ],
)
async def test_the_tokens_that_the_server_lists_are_learned(
    handler: Handler | None, tokens: set[str]
) -> None:
    async with serving(handler).serving() as upstream, started(upstream) as engine:
        assert is_ready(engine)
        assert engine.control_tokens == tokens


async def test_only_a_vllm_server_is_asked() -> None:
    upstream = serving(replies({"eos_token": "<@eos@>"}), "someone")
    async with upstream.serving(), started(upstream) as engine:
        assert engine.control_tokens == frozenset()
    assert all(path != "/tokenizer_info" for path, *_ in upstream.requests)

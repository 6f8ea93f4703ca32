"""Our own count limits a server that ignores `max_tokens` and reports no counts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.service.engines.openai.own_count import BYTES_PER_TOKEN, SLACK_BYTES, OwnCount
from secondpass.strategies.api.values import Sampling
from tests.engines.support import CALL, run, started, text, until_idle
from tests.engines.upstream import DONE, Body, Upstream, chunk, event, start_stream

pytestmark = pytest.mark.anyio

LIMIT = 50
LONGEST = BYTES_PER_TOKEN * LIMIT + SLACK_BYTES
PROBE = 4


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def runs_on(piece: str, *, field: str = "content", honours_probe: bool = True) -> Any:
    """Return a handler that streams `piece` without end, also for the probe unless it `honours_probe`."""

    async def handle(request: web.Request, body: Body) -> web.StreamResponse:
        response = await start_stream(request)
        is_probe = honours_probe and body["max_tokens"] <= PROBE
        try:
            for _ in range(body["max_tokens"] if is_probe else 10**9):
                for index in range(body.get("n") or 1):
                    value = {"choices": [{"index": index, "delta": {field: piece}}]}
                    await response.write(event(value))
        except ConnectionError:
            return response
        for index in range(body.get("n") or 1):
            await response.write(event(chunk("", "length", index)))
        await response.write(DONE)
        return response

    return handle


@asynccontextmanager
async def engine_of(handler: Any) -> AsyncIterator[tuple[HttpEngine, Upstream]]:
    async with Upstream(chat=handler).serving() as upstream, started(upstream) as engine:
        assert engine.ready, engine.why_not_ready
        assert "token_counts" not in engine.capabilities
        yield engine, upstream


LIMITED = replace(CALL, sampling=Sampling(max_tokens=LIMIT))


@pytest.mark.parametrize(
    ("piece", "field", "honours_probe", "most"),
    [
        ("word ", "content", True, LIMIT * 5),
        ("a", "content", True, LIMIT),
        ("hm ", "reasoning", True, LIMIT * 3),
        ("x" * 100_000, "content", True, LONGEST),
        ("🦊" * 30_000, "reasoning_content", True, LONGEST),
        ("word ", "content", False, LONGEST),
        ("a", "content", False, LONGEST),
    ],
)
async def test_a_stream_that_ignores_the_limit_is_truncated_and_closed(
    piece: str, field: str, honours_probe: bool, most: int
) -> None:
    async with engine_of(runs_on(piece, field=field, honours_probe=honours_probe)) as (
        engine,
        upstream,
    ):
        deltas = await run(engine, LIMITED)
        found = text(deltas) + "".join(each.reasoning for each in deltas)
        assert 0 < len(found.encode()) <= most
        assert [each.finish_reason for each in deltas if each.finish_reason] == ["length"]
        await until_idle(upstream, 1)


async def test_each_completion_of_a_batch_is_truncated() -> None:
    async with engine_of(runs_on("word ")) as (engine, _):
        if "n" not in engine.capabilities:
            pytest.skip("the probe found no support of n")
        deltas = await run(engine, replace(LIMITED, n=2))
        for index in (0, 1):
            assert "".join(e.text for e in deltas if e.index == index) == "word " * LIMIT


@pytest.mark.parametrize("reported", [None, 5_000])
async def test_a_whole_reply_beyond_the_limit_is_truncated(reported: int | None) -> None:
    async def whole(_: web.Request, body: Body) -> web.StreamResponse:
        size = 4 if body["max_tokens"] <= PROBE else 20_000
        message = {"role": "assistant", "content": "word " * size}
        reply: Body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        if reported:
            reply["usage"] = {"prompt_tokens": 9, "completion_tokens": reported}
        return web.json_response(reply)

    async with engine_of(whole) as (engine, _):
        deltas = await run(engine, LIMITED)
    assert len(text(deltas)) <= LONGEST
    assert deltas[0].finish_reason == "length"
    counts = [each.usage.completion for each in deltas if each.usage]
    assert counts == ([reported] if reported else [])


@given(
    st.integers(1, 200),
    st.lists(st.text(min_size=1, max_size=5), max_size=200),
    st.booleans(),
)
def test_a_server_that_sends_a_delta_for_each_token_is_never_truncated(
    limit: int, tokens: list[str], splits: bool
) -> None:
    count = OwnCount(1, limit, splits_tokens=splits)
    honest = tokens[:limit]
    for position, each in enumerate(honest):
        assert count.admit(0, each, is_last=position == len(honest) - 1) is None
    if len(honest) == limit:
        assert count.admit(0, "delayed", is_last=True) is None


@given(
    st.integers(1, 20), st.lists(st.text(min_size=1, max_size=2_000), max_size=40), st.booleans()
)
def test_no_text_is_longer_than_the_limit_allows(
    limit: int, parts: list[str], splits: bool
) -> None:
    count, found = OwnCount(1, limit, splits_tokens=splits), []
    for each in parts:
        kept = count.admit(0, each, is_last=False)
        found.append(each if kept is None else kept)
        if kept is not None:
            break
    assert len("".join(found).encode("utf-8", "replace")) <= BYTES_PER_TOKEN * limit + SLACK_BYTES
    assert splits or len(found) <= limit + 1

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import pytest
from aiohttp import web

from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.strategies.api.errors import (
    CallRejected,
    EngineError,
    EngineUnavailable,
    StreamInterrupted,
)
from secondpass.strategies.api.values import SOLVE, ReportedUsage
from secondpass.testing import support
from tests.engines.support import CALL, run, started, text
from tests.engines.upstream import (
    DONE,
    Body,
    Handler,
    Upstream,
    breaking,
    chunk,
    counting,
    event,
    in_turn,
    plain,
    refuses,
    start_stream,
    streams,
)

pytestmark = pytest.mark.anyio


# -- valid streams --------------------------------------------------------------------------------------


async def test_the_text_of_a_stream_does_not_depend_on_its_chunk_boundaries(
    upstream: Upstream, engine: HttpEngine
) -> None:
    sample = "Füchse 🦊🎉 — “3 · 14 = 42” 漢字"
    body = b": hello\r\n\r\n" + event(chunk(sample)).replace(b"\n", b"\r\n")
    body += event(chunk(finish="stop")).replace(b"data: ", b"data:") + DONE
    upstream.chat = streams(*(bytes([byte]) for byte in body))
    assert text(await run(engine)) == sample


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_is_separated_from_text_under_both_field_names(
    field: str, upstream: Upstream, engine: HttpEngine
) -> None:
    reasoning = {"choices": [{"index": 0, "delta": {field: "hm"}}]}
    upstream.chat = streams(event(reasoning), event(chunk("42", "stop")), DONE)
    deltas = await run(engine)
    assert [(delta.reasoning, delta.text) for delta in deltas] == [("hm", ""), ("", "42")]


async def test_the_usage_of_the_last_chunk_covers_the_whole_call(
    upstream: Upstream, engine: HttpEngine
) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}}
    usage = {"prompt_tokens": 9, "completion_tokens": 2} | details
    upstream.chat = streams(
        event(chunk("42", "stop")), event({"choices": [], "usage": usage}), DONE
    )
    assert (await run(engine))[-1].usage == ReportedUsage(prompt=9, cached=4, completion=2)


@pytest.mark.parametrize("ending", [b"", b"data: [DONE]\n", b"data: [DONE]", DONE + b"data: x\n\n"])
async def test_a_reply_is_complete_when_every_completion_has_its_finish_reason(
    ending: bytes, upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = streams(event(chunk("42", "stop")), ending)
    assert text(await run(engine)) == "42"


async def test_a_connection_that_breaks_after_the_finish_reason_is_not_an_error(
    upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = breaking(event(chunk("42", "stop")))
    assert text(await run(engine)) == "42"


@pytest.mark.parametrize(
    "tokens", [-1, 2.5, 9.0, "9", True, float("nan"), [9], None, {}, 2**31, 10**30]
)
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens", "cached_tokens"])
@pytest.mark.parametrize("place", ["before the end", "at the end"])
async def test_an_invalid_token_count_is_not_reported(
    place: str, field: str, tokens: object, upstream: Upstream, engine: HttpEngine
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, field: tokens}
    usage["prompt_tokens_details"] = {"cached_tokens": usage.pop("cached_tokens", 4)}
    expected: dict[str, Any] = {"prompt": 9, "cached": 4, "completion": 2}
    name = field.removesuffix("_tokens")
    expected[name] = 0 if name == "cached" else None
    last = event({"choices": [], "usage": usage})
    end = event(chunk("", "stop"))
    parts = (last, end) if place == "before the end" else (end, last)
    upstream.chat = streams(event(chunk("42")), *parts, DONE)
    deltas = await run(engine)
    assert text(deltas) == "42"
    assert [delta.usage for delta in deltas] == [None, None, ReportedUsage(**expected)]


async def test_a_decreasing_token_count_is_ignored(upstream: Upstream) -> None:
    upstream.chat = counting
    async with started(upstream) as engine:
        await _check_decreasing_count(upstream, engine)


async def _check_decreasing_count(upstream: Upstream, engine: HttpEngine) -> None:
    chunks = [chunk("4"), chunk("2"), chunk("", "stop")]
    for each, count in zip(chunks, (5, 3, 6), strict=True):
        each["usage"] = {"prompt_tokens": 9, "completion_tokens": count}
    upstream.chat = streams(*map(event, chunks), DONE)
    deltas = await run(engine)
    assert [delta.tokens for delta in deltas] == [5, 0, 1]
    assert deltas[-1].usage == ReportedUsage(prompt=9, completion=6)


# -- invalid streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "handler",
    [
        streams(event(chunk("half"))),
        streams(event(chunk("half")), DONE),
        streams(event(chunk("half")), b'data: {"choices": [{"ind'),
        breaking(event(chunk("half"))),
        streams(),
    ],
    ids=["ended", "done", "half a chunk", "aborted", "empty"],
)
async def test_a_stream_without_a_finish_reason_raises_stream_interrupted(
    handler: Handler, upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = handler
    with pytest.raises(StreamInterrupted) as interrupted:
        await run(engine)
    assert (interrupted.value.engine, interrupted.value.role) == ("e", "actor")


async def test_a_count_before_any_text_of_a_broken_stream_covers_only_the_prompt(
    upstream: Upstream, engine: HttpEngine
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1}
    upstream.chat = breaking(event({"choices": [], "usage": usage}))
    stream = engine.stream(CALL)
    assert (await anext(stream)).usage == ReportedUsage(9, 0, None)
    with pytest.raises(StreamInterrupted):
        await anext(stream)


async def test_one_of_several_completions_without_a_finish_reason_raises_stream_interrupted(
    upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = streams(event(chunk("a", "stop", 0)), event(chunk("b", None, 1)), DONE)
    with pytest.raises(StreamInterrupted, match="1 of 2"):
        await run(engine, replace(CALL, n=2))


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: <html>Bad gateway</html>\n\n",
        b"data: \xff\xfe\n\n",
        b"data: [1, 2]\n\n",
        b"data: 7\n\n",
        b"data: null\n\n",
        event({"choices": 3}),
        event({"choices": [3]}),
        event({"choices": [{}]}),
        event({"choices": [{"index": 5, "delta": {}}]}),
        event({"choices": [{"index": -1, "delta": {}}]}),
        event({"choices": [{"index": "0", "delta": {}}]}),
        event({"choices": [{"index": [], "delta": {}}]}),
        event({"choices": [{"index": 0, "delta": {"content": 3}}]}),
        event({"choices": [{"index": 0, "delta": {"content": ["x"]}}]}),
        event({"choices": [{"index": 0, "delta": 3}]}),
        event({"choices": [{"index": 0, "delta": {}, "finish_reason": "abort"}]}),
        event({"choices": [{"index": 0, "delta": {}, "finish_reason": 3}]}),
        event({"choices": [{"index": 0, "delta": {}, "finish_reason": {}}]}),
        event({"choices": [], "usage": 3}),
        event({"choices": [], "usage": {"prompt": 3}}),
    ],
)
async def test_an_invalid_chunk_raises_stream_interrupted_and_adds_no_text(
    garbage: bytes, upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = streams(garbage)
    with pytest.raises(StreamInterrupted):
        await run(engine)


async def test_an_error_contains_an_excerpt_of_an_invalid_chunk(
    upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = streams(b"data: oops " + b"x" * 5000 + b"\n\n")
    with pytest.raises(StreamInterrupted, match="oops") as interrupted:
        await run(engine)
    assert len(str(interrupted.value)) < 250


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
async def test_a_page_instead_of_a_stream_raises_stream_interrupted(
    kind: str, upstream: Upstream, engine: HttpEngine
) -> None:
    async def page(_: web.Request, __: Body) -> web.StreamResponse:
        return web.Response(text="<h1>Welcome</h1>", content_type=kind)

    upstream.chat = page
    with pytest.raises(StreamInterrupted, match="Welcome"):
        await run(engine)


# -- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": "too long", "code": 400}, CallRejected),
        ({"message": "too long", "code": "400"}, CallRejected),
        ({"message": "no", "type": "invalid_request_error", "code": None}, CallRejected),
        ({"message": "no", "code": "context_length_exceeded"}, CallRejected),
        ({"message": "boom", "type": "InternalServerError", "code": 500}, EngineUnavailable),
        ({"message": "busy", "code": "rate_limit_exceeded"}, EngineUnavailable),
        ({"message": "busy", "code": 429}, EngineUnavailable),
        ({"message": "?"}, EngineUnavailable),
        ("just words", EngineUnavailable),
    ],
)
@pytest.mark.parametrize("place", ["stream", "body"])
async def test_the_code_of_an_error_object_decides_the_error_that_is_raised(
    place: str,
    error: object,
    expected: type[EngineError],
    upstream: Upstream,
    engine: HttpEngine,
) -> None:
    reply = {"error": error}
    in_stream = streams(event(chunk("half")), event(reply), DONE)
    upstream.chat = in_stream if place == "stream" else refuses(200, reply)
    with pytest.raises(expected):
        await run(engine)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_the_error_of_a_rejected_call_has_the_servers_message_and_status(
    status: int, upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = refuses(status, {"error": {"message": "the prompt is too long"}})
    with pytest.raises(CallRejected, match="the prompt is too long") as rejected:
        await run(engine)
    assert rejected.value.status == status


@pytest.mark.parametrize(
    "reply",
    [{"detail": "why " * 500}, {"detail": [{"loc": ["x"]}]}, "why", [], {}, None, {"error": None}],
)
async def test_an_error_contains_an_excerpt_of_an_error_reply_of_any_shape(
    reply: object, upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = refuses(400, reply)
    with pytest.raises(CallRejected) as rejected:
        await run(engine)
    assert len(str(rejected.value)) < 250


async def test_a_call_is_retried_after_a_server_error_and_after_an_interrupted_stream(
    upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = in_turn([refuses(500, {}), breaking(event(chunk("half"))), plain])
    live = support.make_run(support.upstream(engine, attempts=3))
    assert (await live.ask(SOLVE)).text == "Hello"
    assert [record.retried for record in support.call_records(live)] == [True, True, False]


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("-3", 0, 0),
        (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 3000, 3600),
    ],
    ids=["whole", "part", "negative", "date"],  # xdist: each worker must collect the same names
)
async def test_retry_after_is_parsed_as_seconds_and_as_a_date(
    header: str, least: float, most: float, upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = refuses(429, {}, **{"Retry-After": header})
    with pytest.raises(EngineUnavailable) as busy:
        await run(engine)
    assert busy.value.retry_after is not None
    assert least <= busy.value.retry_after <= most


@pytest.mark.parametrize("header", ["soon", "inf", "nan", ""])
async def test_an_invalid_retry_after_is_ignored(
    header: str, upstream: Upstream, engine: HttpEngine
) -> None:
    upstream.chat = refuses(503, {}, **{"Retry-After": header})
    with pytest.raises(EngineUnavailable) as busy:
        await run(engine)
    assert busy.value.retry_after is None


async def test_a_reply_that_stalls_longer_than_the_idle_timeout_ends_the_call(
    upstream: Upstream,
) -> None:
    async def stall(request: web.Request, _: Body) -> web.StreamResponse:
        response = await start_stream(request)
        await response.write(event(chunk("half")))
        await asyncio.sleep(30)
        return response

    async with started(upstream, idle_timeout=0.2) as engine:
        upstream.chat = stall
        with anyio.fail_after(2), pytest.raises(StreamInterrupted):
            await run(engine)
        upstream.chat = streams(event(chunk("slow")), event(chunk(finish="stop")), pause=0.15)
        assert text(await run(engine)) == "slow"


async def test_a_connection_closed_without_a_response_raises_engine_unavailable(
    upstream: Upstream, engine: HttpEngine
) -> None:
    async def close(request: web.Request, _: Body) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    upstream.chat = close
    with pytest.raises(EngineUnavailable):
        await run(engine)

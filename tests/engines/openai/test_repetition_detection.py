"""Requests to vLLM ask it to end completions that repeat themselves, if the server accepts the field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.engines.openai.reply_counts import PROBE_TOKENS
from secondpass.service.engines.openai.wire import (
    REPETITION_DETECTION,
    Dialect,
    chat_body,
    completion_body,
)
from secondpass.strategies.api.values import FinishReason
from tests.engines.support import CALL, run, started
from tests.engines.upstream import DONE, Body, Upstream, chunk, event, refuses, streams

pytestmark = pytest.mark.anyio
VLLM = [{"id": "model", "owned_by": "vllm", "max_model_len": 4096}]


def calls_of(upstream: Upstream) -> list[dict[str, Any]]:
    """Return the bodies of the chat requests that are not probes."""
    bodies = [json.loads(raw) for path, _, raw in upstream.requests if path.endswith("completions")]
    return [body for body in bodies if body.get("max_tokens") not in (1, PROBE_TOKENS)]


async def test_vllm_is_asked_to_detect_repetition() -> None:
    upstream = Upstream(models=VLLM)
    async with upstream.serving(), started(upstream) as engine:
        await run(engine)
        [body] = calls_of(upstream)
        assert body["repetition_detection"] == REPETITION_DETECTION


async def test_a_vllm_that_rejects_the_field_never_gets_it_in_a_call() -> None:
    upstream = Upstream(models=VLLM)
    accept = upstream.chat

    async def strict(request: web.Request, body: Body) -> web.StreamResponse:
        if "repetition_detection" in body:
            return await refuses(400, {"error": {"message": "extra fields not permitted"}})(
                request, body
            )
        return await accept(request, body)

    upstream.chat = strict
    async with upstream.serving(), started(upstream) as engine:
        assert "seed" in engine.capabilities
        [*_, last] = await run(engine)
        assert last.finish_reason == "stop"
        [body] = calls_of(upstream)
        assert "repetition_detection" not in body


async def test_another_server_is_not_asked() -> None:
    upstream = Upstream()
    async with upstream.serving(), started(upstream) as engine:
        await run(engine)
        assert all(b"repetition_detection" not in raw for _, _, raw in upstream.requests)


def test_a_label_read_does_not_ask_for_detection() -> None:
    dialect = Dialect(model="model", is_vllm=True, detects_repetition=True)
    assert "repetition_detection" in chat_body(CALL, dialect)
    assert "repetition_detection" in completion_body(CALL, dialect, [1])
    assert "repetition_detection" not in chat_body(replace(CALL, labels=("a", "b")), dialect)


@pytest.mark.parametrize("reason", ["repetition", "length"])
async def test_the_finish_reason_of_a_loop_is_repetition(reason: FinishReason) -> None:
    looping = streams(event(chunk("Again. ")), event(chunk(finish=reason)), DONE)
    upstream = Upstream(models=VLLM)
    async with upstream.serving(), started(upstream) as engine:
        upstream.chat = looping
        assert [delta.finish_reason for delta in await run(engine)] == [None, reason]


def is_loop(tokens: Sequence[int]) -> bool:
    """Return whether vLLM would end a completion with these tokens."""
    sizes = range(
        REPETITION_DETECTION["min_pattern_size"], REPETITION_DETECTION["max_pattern_size"] + 1
    )
    lengths = ((size, size * REPETITION_DETECTION["min_count"]) for size in sizes)
    return any(
        length <= len(tokens) and tokens[-length:-size] == tokens[size - length :]
        for size, length in lengths
    )


@given(pattern=st.lists(st.integers(0, 9), min_size=1, max_size=31))
def test_copies_of_every_pattern_of_up_to_31_tokens_are_a_loop_for_vllm(pattern: list[int]) -> None:
    assert is_loop((pattern * 2000)[:2000])
    assert not is_loop((pattern * 2000)[:1023])

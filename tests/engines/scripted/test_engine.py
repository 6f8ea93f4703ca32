"""The fake that ships: what it remembers while it is served is bounded."""

from contextlib import aclosing
from dataclasses import replace

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call, PlainRequest
from tests.engines.asking import CALL, run, text

MODULE = "secondpass.service.engines.scripted.engine"

pytestmark = pytest.mark.anyio


def numbered(call: Call, index: int) -> Reply:
    return Reply(f"{call.purpose} {call.purpose}-a {call.purpose}-b")


async def test_what_a_served_fake_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.KEPT_CALLS", 5)
    monkeypatch.setattr(f"{MODULE}.KEPT_TOKENS", 7)
    engine = ScriptedEngine(numbered)
    for number in range(20):
        await run(engine, replace(CALL, purpose=str(number)))
        assert not engine.running
    assert [call.purpose for call in engine.calls] == ["15", "16", "17", "18", "19"]
    assert len(engine._vocabulary) == 7


async def test_tokens_in_use_are_remembered_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.KEPT_TOKENS", 7)
    engine = ScriptedEngine(numbered)
    written = await run(engine, replace(CALL, purpose="0"))
    prefix = tuple(token for delta in written for token in delta.token_ids)[:2]
    for number in (1, 0, 2, 0, 3, 0, 4):
        await run(engine, replace(CALL, purpose=str(number)))
    assert text(await run(engine, replace(CALL, purpose="0", prefix=prefix))) == " 0-b"


async def test_a_forwarded_stream_that_is_left_half_read_ends_with_its_block() -> None:
    engine = ScriptedEngine()
    body = b'{"messages": [{"role": "user", "content": "hi"}], "stream": true}'
    async with engine.forward(PlainRequest("chat/completions", body)) as reply:
        await anext(reply.chunks)
        assert engine.running
    assert not engine.running


async def test_calls_that_overlap_are_told_apart() -> None:
    engine = ScriptedEngine()
    async with aclosing(engine.stream(CALL)) as first, aclosing(engine.stream(CALL)) as second:
        await anext(first)
        await anext(second)
        assert len(engine.running) == 2
        await first.aclose()
        assert len(engine.running) == 1
    assert not engine.running

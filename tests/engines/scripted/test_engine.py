"""The fake that ships: what it remembers is bounded, and it stops as vLLM does."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta, PlainRequest
from secondpass.strategies.api.values import Sampling
from tests.engines.asking import CALL, ids, run, text

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


def stopped(*stop: str, resumable: bool = False, **sampling: object) -> Call:
    chosen = Sampling.model_validate({"stop": stop, **sampling})
    return replace(CALL, sampling=chosen, resumable=resumable)


def written(_call: Call, _index: int) -> Reply:
    return Reply("Step 1. Step 2.Then Step 3.")


def pairs(deltas: Sequence[Delta]) -> list[tuple[str, tuple[int, ...]]]:
    return [(delta.text, delta.token_ids) for delta in deltas if delta.token_ids]


@pytest.mark.parametrize(
    ("stop", "texts"),
    [
        ((" 2.",), ["Step", " 1.", " Step", " 2."]),  # the last token is " 2.Then"
        (("Then", "2."), ["Step", " 1.", " Step", " 2."]),  # the one that ends first
        (("1. Step",), ["Step", " 1.", " Step"]),
        (("nowhere",), ["Step", " 1.", " Step", " 2.Then", " Step", " 3."]),
    ],
)
async def test_a_resumable_call_keeps_its_stop_string_and_the_whole_token_that_ended_it(
    stop: tuple[str, ...], texts: list[str]
) -> None:
    engine = ScriptedEngine(written)
    whole = await run(engine, replace(CALL, resumable=True))
    deltas = await run(engine, stopped(*stop, resumable=True))
    assert [each for each, _ in pairs(deltas)] == texts
    assert ids(deltas) == ids(whole)[: len(texts)]
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert sum(delta.tokens for delta in deltas) == len(texts)


async def test_a_call_that_is_not_resumable_drops_its_stop_string_and_counts_its_tokens() -> None:
    engine = ScriptedEngine(written)
    deltas = await run(engine, stopped("1. Step"))
    assert text(deltas) == "Step "
    assert sum(delta.tokens for delta in deltas) == 3
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion == 3


async def test_a_cap_before_the_end_of_a_stop_string_leaves_the_text_whole() -> None:
    deltas = await run(ScriptedEngine(written), stopped("1. Step 2", max_tokens=3))
    assert text(deltas) == "Step 1. Step"
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["length"]


async def test_only_what_follows_a_prefix_is_searched_for_stop_strings() -> None:
    engine = ScriptedEngine(written)
    call = stopped("Step", resumable=True)
    (first,) = pairs(await run(engine, call))
    deltas = await run(engine, replace(call, prefix=first[1]))
    assert text(deltas) == " 1. Step"
    after_text = await run(engine, replace(call, prefix=(*first[1], " 1. St")))
    assert text(after_text) == "ep 2.Then Step"

"""The scripted engine: bounded memory, plain requests, and stop strings as in vLLM."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta, PlainRequest
from secondpass.strategies.api.values import Sampling
from tests.engines.support import CALL, ids, run, text

MODULE = "secondpass.service.engines.scripted.engine"

pytestmark = pytest.mark.anyio


def numbered(call: Call, index: int) -> Reply:
    return Reply(f"{call.purpose} {call.purpose}-a {call.purpose}-b")


async def test_the_engine_keeps_a_bounded_number_of_calls_and_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{MODULE}.MAX_KEPT_CALLS", 5)
    monkeypatch.setattr(f"{MODULE}.MAX_KEPT_TOKENS", 7)
    engine = ScriptedEngine(numbered)
    for number in range(20):
        await run(engine, replace(CALL, purpose=str(number)))
        assert not engine.running
    assert [call.purpose for call in engine.calls] == ["15", "16", "17", "18", "19"]
    assert len(engine._vocabulary) == 7


async def test_the_least_recently_used_tokens_are_dropped_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{MODULE}.MAX_KEPT_TOKENS", 7)
    engine = ScriptedEngine(numbered)
    deltas = await run(engine, replace(CALL, purpose="0"))
    prefix = tuple(token for delta in deltas for token in delta.token_ids)[:2]
    for number in (1, 0, 2, 0, 3, 0, 4):
        await run(engine, replace(CALL, purpose=str(number)))
    assert text(await run(engine, replace(CALL, purpose="0", prefix=prefix))) == " 0-b"


async def test_a_forwarded_stream_is_aborted_at_the_end_of_its_block() -> None:
    engine = ScriptedEngine()
    body = b'{"messages": [{"role": "user", "content": "hi"}], "stream": true}'
    async with engine.forward(PlainRequest("chat/completions", body)) as reply:
        await anext(reply.chunks)
        assert engine.running
    assert not engine.running


async def test_concurrent_equal_calls_are_counted_separately() -> None:
    engine = ScriptedEngine()
    async with aclosing(engine.stream(CALL)) as first, aclosing(engine.stream(CALL)) as second:
        await anext(first)
        await anext(second)
        assert len(engine.running) == 2
        await first.aclose()
        assert len(engine.running) == 1
    assert not engine.running


def call_with_stop(*stop: str, resumable: bool = False, **values: object) -> Call:
    sampling = Sampling.model_validate({"stop": stop, **values})
    return replace(CALL, sampling=sampling, resumable=resumable)


def steps(_call: Call, _index: int) -> Reply:
    return Reply("Step 1. Step 2.Then Step 3.")


def pairs(deltas: Sequence[Delta]) -> list[tuple[str, tuple[int, ...]]]:
    return [(delta.text, delta.token_ids) for delta in deltas if delta.token_ids]


@pytest.mark.parametrize(
    ("stop", "texts"),
    [
        ((" 2.",), ["Step", " 1.", " Step", " 2."]),  # the last token is " 2.Then"
        (("Then", "2."), ["Step", " 1.", " Step", " 2."]),  # "2." ends first
        (("1. Step",), ["Step", " 1.", " Step"]),
        (("nowhere",), ["Step", " 1.", " Step", " 2.Then", " Step", " 3."]),
    ],
)
async def test_a_resumable_call_keeps_the_stop_string_and_the_whole_token_in_which_it_ends(
    stop: tuple[str, ...], texts: list[str]
) -> None:
    engine = ScriptedEngine(steps)
    whole = await run(engine, replace(CALL, resumable=True))
    deltas = await run(engine, call_with_stop(*stop, resumable=True))
    assert [each for each, _ in pairs(deltas)] == texts
    assert ids(deltas) == ids(whole)[: len(texts)]
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert sum(delta.tokens for delta in deltas) == len(texts)


async def test_a_call_that_is_not_resumable_drops_the_stop_string_but_counts_its_tokens() -> None:
    engine = ScriptedEngine(steps)
    deltas = await run(engine, call_with_stop("1. Step"))
    assert text(deltas) == "Step "
    assert sum(delta.tokens for delta in deltas) == 3
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion == 3


async def test_a_token_limit_within_a_stop_string_keeps_the_beginning_of_the_string() -> None:
    deltas = await run(ScriptedEngine(steps), call_with_stop("1. Step 2", max_tokens=3))
    assert text(deltas) == "Step 1. Step"
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["length"]


async def test_stop_strings_are_searched_only_after_the_prefix() -> None:
    engine = ScriptedEngine(steps)
    call = call_with_stop("Step", resumable=True)
    (first,) = pairs(await run(engine, call))
    deltas = await run(engine, replace(call, prefix=first[1]))
    assert text(deltas) == " 1. Step"
    after_text = await run(engine, replace(call, prefix=(*first[1], " 1. St")))
    assert text(after_text) == "ep 2.Then Step"

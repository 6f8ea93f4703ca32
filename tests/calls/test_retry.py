from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from secondpass.service.calls.admission import LimitedEngine
from secondpass.service.calls.retry import RetryingEngine
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta, Engine
from secondpass.strategies.api.errors import (
    CallRejected,
    CapabilityMissing,
    EngineError,
    EngineUnavailable,
    SecondpassError,
    StreamCut,
)
from secondpass.strategies.api.values import Message, Sampling, Usage
from secondpass.testing.support import ON_BOTH_BACKENDS

pytestmark = pytest.mark.anyio

CALL = Call(
    role="actor", purpose="solve", messages=(Message(role="user", content="What is 6 x 7?"),)
)
VISIBLE = replace(CALL, visible=True)
WORDS = ("one", " two", " three", " four")


@dataclass
class Faulty(ScriptedEngine):
    """Writes WORDS token by token (ids 0 to 3); attempt i fails after `cuts[i]` of its deltas."""

    cuts: Sequence[int | None] = ()
    failure: Callable[[], SecondpassError] = lambda: StreamCut("cut")
    change: Callable[[Delta], Delta] = lambda delta: delta
    closed: int = field(default=0, init=False)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        attempt = len(self.calls)
        self.calls.append(call)
        cut = self.cuts[attempt] if attempt < len(self.cuts) else None
        held = len(call.prefix) if isinstance(call.prefix, tuple) else 0
        cap = call.sampling.max_tokens
        ids = list(range(held, len(WORDS)))[:cap]
        try:
            for position, token in enumerate(ids):
                await anyio.lowlevel.checkpoint()
                if position == cut:
                    raise self.failure()
                is_last = position + 1 == len(ids)
                reason = ("length" if token + 1 < len(WORDS) else "stop") if is_last else None
                usage = Usage(prompt=10 + held, completion=position + 1)
                delta = Delta(0, WORDS[token], "", 1, (token,), reason, usage)  # type: ignore[arg-type]
                yield self.change(delta)
            if cut is not None:
                raise self.failure()
        finally:
            self.closed += 1


def retrying(inner: Engine, attempts: int = 3) -> RetryingEngine:
    return RetryingEngine(inner, attempts=attempts, first_pause=0.001)


async def run(engine: Engine, call: Call) -> list[Delta]:
    async with aclosing(engine.stream(call)) as deltas:
        return [delta async for delta in deltas]


def held(deltas: Sequence[Delta]) -> list[Delta]:
    """What a consumer holds at the end: all that came after the last "retried"."""
    starts = [place for place, delta in enumerate(deltas) if delta.notice == "retried"]
    return list(deltas[starts[-1] + 1 :] if starts else deltas)


def text(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def notices(deltas: Sequence[Delta]) -> list[str]:
    return [delta.notice for delta in deltas if delta.notice]


@pytest.mark.parametrize("cut", [0, 1, 3])
@ON_BOTH_BACKENDS
async def test_a_call_that_nobody_saw_begins_anew_and_says_so(cut: int) -> None:
    inner = Faulty(cuts=[cut, cut])
    deltas = await run(retrying(inner), CALL)

    assert notices(deltas) == ["retried", "retried"]
    assert text(held(deltas)) == "one two three four"
    assert held(deltas)[-1].usage == Usage(prompt=10, completion=4)
    assert inner.calls == [CALL] * 3


@pytest.mark.parametrize("cut", [1, 3])
@ON_BOTH_BACKENDS
async def test_a_visible_call_goes_on_from_what_was_delivered(cut: int) -> None:
    inner = Faulty(cuts=[cut])
    call = replace(VISIBLE, sampling=Sampling(max_tokens=4))
    deltas = await run(retrying(inner), call)

    assert notices(deltas) == ["resumed"]
    assert text(deltas) == "one two three four"
    assert inner.calls[1].prefix == tuple(range(cut))
    assert inner.calls[1].sampling.max_tokens == 4 - cut
    assert deltas[-1].usage == Usage(prompt=10 + 10 + cut, completion=4)
    assert deltas[-1].finish_reason == "stop"


@ON_BOTH_BACKENDS
async def test_a_resumed_call_that_breaks_again_is_resumed_again() -> None:
    inner = Faulty(cuts=[1, 1])
    deltas = await run(retrying(inner), replace(VISIBLE, prefix=()))

    assert notices(deltas) == ["resumed", "resumed"]
    assert text(deltas) == "one two three four"
    assert [call.prefix for call in inner.calls] == [(), (0,), (0, 1)]
    assert deltas[-1].usage == Usage(prompt=10 + 11 + 12, completion=4)


@ON_BOTH_BACKENDS
async def test_a_visible_call_that_lacks_only_its_end_is_ended() -> None:
    inner = Faulty(cuts=[2], change=lambda delta: replace(delta, finish_reason=None))
    call = replace(VISIBLE, sampling=Sampling(max_tokens=2))
    deltas = await run(retrying(inner), call)

    assert text(deltas) == "one two"
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].usage == Usage(prompt=10, completion=2)
    assert len(inner.calls) == 1


@ON_BOTH_BACKENDS
async def test_a_visible_call_without_any_text_yet_begins_anew() -> None:
    deltas = await run(retrying(Faulty(cuts=[0])), VISIBLE)
    assert notices(deltas) == ["retried"]
    assert text(deltas) == "one two three four"


@pytest.mark.parametrize(
    ("call", "flaws"),
    [
        (replace(VISIBLE, n=2), {}),
        (replace(VISIBLE, prefix="so far: "), {}),
        (replace(VISIBLE, schema="{}"), {}),
        (replace(VISIBLE, sampling=Sampling(stop=("END",))), {}),
        (VISIBLE, {"lacking": frozenset(["prefix"])}),
        (VISIBLE, {"lacking": frozenset(["tokenize"])}),
        (VISIBLE, {"change": lambda delta: replace(delta, token_ids=())}),
        (VISIBLE, {"change": lambda delta: replace(delta, reasoning="hm")}),
    ],
    ids=["n", "text prefix", "schema", "stop", "no prefix", "no tokenizer", "no ids", "reasoning"],
)
@ON_BOTH_BACKENDS
async def test_visible_text_is_never_written_twice(call: Call, flaws: dict[str, Any]) -> None:
    inner = Faulty(cuts=[1], **flaws)
    seen: list[Delta] = []

    async def consume() -> None:
        async with aclosing(retrying(inner).stream(call)) as deltas:
            async for delta in deltas:
                seen.append(delta)  # noqa: PERF401 -- kept when it fails

    with pytest.raises(StreamCut):
        await consume()
    assert text(seen) == "one"
    assert notices(seen) == []
    assert len(inner.calls) == 1


@pytest.mark.parametrize(
    "failure",
    [
        lambda: CallRejected("no"),
        lambda: CapabilityMissing("x", ["seed"]),
        lambda: EngineError("x"),
    ],
)
@ON_BOTH_BACKENDS
async def test_what_would_fail_again_is_not_tried_again(
    failure: Callable[[], SecondpassError],
) -> None:
    inner = Faulty(cuts=[0], failure=failure)
    with pytest.raises(type(failure())):
        await run(retrying(inner), CALL)
    assert len(inner.calls) == 1


@ON_BOTH_BACKENDS
async def test_the_last_attempts_error_is_what_comes_out() -> None:
    inner = Faulty(cuts=[0, 0, 0], failure=lambda: EngineUnavailable("down"))
    with pytest.raises(EngineUnavailable, match="down"):
        await run(retrying(inner), CALL)
    assert len(inner.calls) == 3


@ON_BOTH_BACKENDS
async def test_an_engine_that_names_a_time_is_left_alone_until_then() -> None:
    inner = Faulty(cuts=[0], failure=lambda: EngineUnavailable("busy", retry_after=0.2))
    start = anyio.current_time()
    await run(retrying(inner), CALL)
    assert 0.2 <= anyio.current_time() - start < 2


@ON_BOTH_BACKENDS
async def test_a_time_beyond_our_patience_is_not_waited_for() -> None:
    inner = Faulty(cuts=[0], failure=lambda: EngineUnavailable("busy", retry_after=3600))
    with anyio.fail_after(1), pytest.raises(EngineUnavailable):
        await run(retrying(inner), CALL)
    assert len(inner.calls) == 1


@pytest.mark.parametrize("cuts", [[], [2]])
@ON_BOTH_BACKENDS
async def test_leaving_a_stream_early_closes_the_engines_at_once(cuts: list[int]) -> None:
    inner = Faulty(cuts=cuts)
    stream = retrying(inner).stream(CALL)
    while (await anext(stream)).text != " two":
        pass
    await stream.aclose()
    assert inner.closed == 1
    assert len(inner.calls) == 1


@ON_BOTH_BACKENDS
async def test_cancelling_a_call_ends_it_and_its_pauses() -> None:
    inner = Faulty(cuts=[0], failure=lambda: EngineUnavailable("busy", retry_after=20))
    with anyio.move_on_after(0.05) as scope:
        await run(retrying(inner), CALL)
    assert scope.cancelled_caught
    assert len(inner.calls) == 1


@ON_BOTH_BACKENDS
async def test_a_pause_holds_no_place_in_the_engine() -> None:
    inner = Faulty(cuts=[1], failure=lambda: EngineUnavailable("busy", retry_after=0.2))
    limited = LimitedEngine(inner, 1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, retrying(limited), CALL)
        await anyio.sleep(0.05)
        assert limited.in_flight == 0
    assert len(inner.calls) == 2


@ON_BOTH_BACKENDS
async def test_all_else_is_the_engines_own() -> None:
    inner = ScriptedEngine(lambda _call, _index: Reply("hi"), name="a", model="b")
    engine = retrying(inner)
    await engine.start()
    assert (engine.name, engine.model, engine.ready) == ("a", "b", True)
    assert engine.capabilities == inner.capabilities
    assert engine.context_window == inner.context_window
    assert await engine.count_prompt(CALL) == await inner.count_prompt(CALL)
    await engine.aclose()


def test_no_engine_without_an_attempt() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RetryingEngine(ScriptedEngine(), attempts=0)

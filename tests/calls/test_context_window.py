"""No request asks for more tokens than the context window leaves after the prompt."""

from __future__ import annotations

import math
from dataclasses import replace

import anyio
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secondpass.service.calls.length_stats import MIN_TOKENS, TokenRates
from secondpass.service.calls.prompt_size import PromptSizes, text_bound
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import ImagePart, ImageURL, Message, Sampling
from secondpass.testing.support import constant_reply
from tests.calls.calls_support import CALL, CallHarness


def sent(engine: ScriptedEngine, call: Call) -> Call:
    """Return the request of the call to the engine."""
    anyio.run(CallHarness(engine).perform, call)
    [request] = engine.calls
    return request


@given(
    words=st.integers(1, 300),
    window=st.integers(10, 1_000),
    cap=st.integers(1, 40_000),
    is_counted=st.booleans(),
)
@settings(max_examples=60)
def test_a_cap_is_never_above_the_context_window_without_the_prompt(
    words: int, window: int, cap: int, *, is_counted: bool
) -> None:
    engine = ScriptedEngine(
        constant_reply("a b c"),
        window=window,
        lacking=frozenset() if is_counted else frozenset({"tokenize"}),
    )
    message = Message(role="user", content="word " * words)
    call = replace(CALL, messages=(message,), sampling=Sampling(max_tokens=cap))
    prompt = anyio.run(ScriptedEngine(window=None).count_prompt, call)
    assume(prompt < window)
    asked = sent(engine, call).sampling.max_tokens
    estimate = prompt if is_counted else math.ceil(text_bound(call) / 3)
    assert asked is not None
    assert 1 <= asked <= cap
    assert asked <= max(1, window - estimate)
    if is_counted:
        assert asked == min(cap, window - prompt)


@given(
    text=st.text(alphabet="0123456789+-*/=(),.", max_size=900)
    | st.lists(st.integers(0, 9), max_size=400).map(lambda digits: " ".join(map(str, digits)))
    | st.text(alphabet="0123456789", min_size=1, max_size=900)
    | st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=400)
    | st.text(alphabet="\U0001f600\U0001f680\U0001f9e0", max_size=300),
    window=st.integers(200, 2_000),
    cap=st.integers(1, 40_000),
)
@settings(max_examples=60)
def test_a_dense_prompt_that_cannot_be_counted_leaves_room_for_its_tokens(
    text: str, window: int, cap: int
) -> None:
    engine = ScriptedEngine(constant_reply("a b c"), window=window, lacking=frozenset({"tokenize"}))
    message = Message(role="user", content=text)
    call = replace(CALL, messages=(message,), sampling=Sampling(max_tokens=cap))
    asked = sent(engine, call).sampling.max_tokens
    tokens = sum({1: 1.0, 3: 1.5, 4: 3.0}[len(each.encode())] for each in text)
    assert asked is not None
    assert asked <= max(1, window - tokens)
    room = window - text_bound(call)
    assert asked >= min(cap, max(1, room))
    if room >= window // 2:
        assert asked == min(cap, room)


def test_the_estimate_of_a_prompt_is_at_most_its_bound() -> None:
    prefixes = (None, "Sure. ", (1, "and", 2))
    for text in ("", "word " * 90, "12+34=46\n" * 50, "数学问题" * 40, "привет 😀"):
        for prefix in prefixes:
            message = Message(role="user", content=text)
            call = replace(CALL, messages=(message,), prefix=prefix)
            sizes, engine = PromptSizes(), ScriptedEngine()
            assert 0 < sizes.estimate(engine, call) < sizes.bound(engine, call)


def test_a_continuation_leaves_room_for_its_prefix() -> None:
    engine = ScriptedEngine(constant_reply("a b c"), window=60)
    call = replace(CALL, prefix=(1, 2, 3), sampling=Sampling(max_tokens=500))
    prompt = anyio.run(ScriptedEngine(window=None).count_prompt, call)
    assert sent(engine, call).sampling.max_tokens == 60 - prompt


@pytest.mark.parametrize("window", [None, 32_768])
def test_without_a_near_window_no_prompt_is_counted(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CallHarness, "assert_consistent", lambda _: None)
    engine = ScriptedEngine(constant_reply("a b c"), window=window)
    counted: list[Call] = []

    async def count(call: Call) -> int:
        counted.append(call)
        return 1

    dispatched = CallHarness(engine)
    monkeypatch.setattr(dispatched.stats.prompts, "count", count)
    anyio.run(dispatched.perform, CALL)
    assert not counted


def test_images_leave_the_limit_to_the_engine() -> None:
    image = ImagePart(type="image_url", image_url=ImageURL(url="data:image/png;base64,AAAA"))
    call = replace(CALL, messages=(Message(role="user", content=(image,)),))
    engine = ScriptedEngine(constant_reply("a b c"), window=64)
    assert sent(engine, call).sampling.max_tokens == CALL.sampling.max_tokens


# -- speed --------------------------------------------------------------------------------------------------


def test_nine_of_ten_attempts_reach_the_slow_rate() -> None:
    rates = TokenRates()
    assert rates.slow("m") is None
    for tokens in range(100, 200):
        rates.add("m", tokens, 2.0)
    assert rates.slow("m") == 55.0
    assert rates.slow("other") is None


@pytest.mark.parametrize(("tokens", "seconds"), [(MIN_TOKENS - 1, 1.0), (0, 1.0), (100, 0.0)])
def test_a_short_attempt_has_no_rate(tokens: int, seconds: float) -> None:
    rates = TokenRates()
    rates.add("m", tokens, seconds)
    assert rates.slow("m") is None


def test_the_rate_of_a_batch_is_that_of_its_longest_completion() -> None:
    engine = ScriptedEngine(constant_reply("word " * 100), per_token=0.001)
    harness = CallHarness(engine)
    call = replace(CALL, n=4, sampling=Sampling(max_tokens=100))
    anyio.run(harness.perform, call)
    rate = harness.stats.rates.slow("scripted")
    assert rate is not None
    [record] = harness.records
    assert rate == pytest.approx(100 / record.seconds, rel=0.05)

"""Every incremental reader of a stream takes time linear in the stream, in parts of one character."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from secondpass.service.calls.delivered import Delivered
from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.calls.repetition import RepetitionDetector
from secondpass.service.common.forwarded_stream import ForwardedStream
from secondpass.service.common.sse import EventParser
from secondpass.service.runs.step_stream import LiveStepStream
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.step_splitter import StepSplitter, TokenSplitter
from secondpass.strategies.api.values import Message
from tests.hostile_text.shapes import bare
from tests.hostile_text.timing import cost

SEEDS = (
    *("a", " ", "\n", "\n\n", "a\n\n", "```\n", "```\na\n\n", "\r", "\r\n", "\r\r", "data: a\n"),
    *("data: a\n\n", "event: a\n", ":\n", "ab" * 300 + "\n", "\u00e9", "{", "\\boxed{", "1 "),
)
SIZES = (3_000, 30_000)
PER_DELTA = 20e-6
"""Most seconds of CPU time for a delta of one character, on average."""


def _call() -> Call:
    return Call(role="actor", purpose="solve", messages=(Message(role="user", content="?"),))


def _bytes(text: str) -> Iterator[bytes]:
    data = text.encode()
    return (data[at : at + 1] for at in range(len(data)))


def _forward(text: str) -> None:
    stream = ForwardedStream()
    for part in _bytes(text):
        stream.feed(part)
    stream.close()


def _parse_events(text: str) -> None:
    parser = EventParser()
    for part in _bytes(text):
        parser.feed(part)
    parser.close()


def _split_steps(text: str) -> None:
    splitter = StepSplitter()
    for character in text:
        splitter.feed(character)
    splitter.close()


def _split_tokens(text: str) -> None:
    splitter = TokenSplitter(10)
    for character in text:
        splitter.feed(character)
    splitter.close()


def _detect_repetition(text: str) -> None:
    detector = RepetitionDetector()
    for character in text:
        if detector.add(character) is not None:
            detector = RepetitionDetector()


def _grow(text: str, **rest: Any) -> None:
    partial = PartialCompletion(replace(_call(), **rest), 0)
    for character in text:
        delta = Delta(0, character, token_ids=(1,), tokens=1)
        partial.ended_by_loop(delta)
        partial.add(delta)
    partial.add(Delta(0, finish_reason="stop"))
    assert len(partial.completion.text) == len(text)


def _estimate(text: str) -> None:
    delivered = Delivered(1)
    for character in text:
        delivered.add(Delta(0, character))
    delivered.estimate(10**6)


def _live_steps(text: str) -> None:
    call = _call()

    async def perform(call: Call, finish: Any, *, on_delta: Any, **_: Any) -> None:
        partial = PartialCompletion(call, 0)
        for delta in (*(Delta(0, each) for each in text), Delta(0, finish_reason="stop")):
            partial.add(delta)
            on_delta(delta, partial)
        finish(partial.completion)

    async def generate() -> None:
        stream = LiveStepStream(call)
        await stream.generate(SimpleNamespace(perform=perform))  # type: ignore[arg-type]
        stream.close()

    anyio.run(generate)


READERS: dict[str, Callable[[str], None]] = {
    "forwarded stream": _forward,
    "event parser": _parse_events,
    "step splitter": _split_steps,
    "token splitter": _split_tokens,
    "repetition detector": _detect_repetition,
    "partial completion": _grow,
    "resumable completion": lambda text: _grow(text, resumable=True),
    "estimate of tokens": _estimate,
    "live steps": _live_steps,
}


@pytest.mark.no_cover  # coverage multiplies the time
@pytest.mark.serial
@pytest.mark.parametrize("name", READERS)
def test_a_stream_in_parts_of_one_character_takes_linear_time(name: str) -> None:
    failures = []
    for seed in SEEDS:
        small, large = (
            cost(READERS[name], bare(seed, size), PER_DELTA * size) / size for size in SIZES
        )
        if large > PER_DELTA or large > 4 * small + 1e-6:
            failures.append(
                f"{seed!r}: {1e6 * small:.1f} us for a character, then {1e6 * large:.1f}"
            )
    assert not failures


@pytest.mark.no_cover  # coverage multiplies the time
@pytest.mark.serial
def test_an_unfinished_event_of_its_greatest_length_takes_linear_time() -> None:
    """256 KiB without a blank line, by parts of one byte."""
    text = "data: " + json.dumps({"a": "b" * 2**18})
    assert cost(_forward, text, 1.0) / len(text) < PER_DELTA

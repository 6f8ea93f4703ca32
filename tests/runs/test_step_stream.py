"""Step streams: iteration, truncation after a step, and continuation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.step_stream import LiveStepStream
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    StreamInterrupted,
    UnusableCompletion,
)
from secondpass.strategies.api.step_splitter import split_steps
from secondpass.strategies.api.values import SOLVE, Completion, Sampling, Segment
from secondpass.strategies.continuation import segments
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    call_records,
    constant_reply,
    make_run,
)
from tests.calls.calls_support import PlannedEngine

pytestmark = pytest.mark.anyio

Grow = Callable[[Delta, PartialCompletion], None]


@ON_BOTH_BACKENDS
async def test_steps_arrive_as_they_finish_and_leaving_aborts_the_call() -> None:
    engine = ScriptedEngine(
        constant_reply("First.\n\nSecond.\n\nThird. " + "word " * 500), per_token=0.002
    )
    run = make_run(engine)
    seen = []
    async with run.steps(SOLVE) as stream:
        async for step in stream:
            seen.append(step)
            if len(seen) == 2:
                break
        assert stream.completion.text.startswith("First.")
    assert seen == ["First.", "Second."]
    assert call_records(run)[0].end == "cancelled"
    assert_accounting_is_complete(run, engine)


async def test_stream_yields_the_last_step_and_then_the_completion() -> None:
    run = make_run(ScriptedEngine(constant_reply("First.\n\nSecond \\boxed{2}.")))
    async with run.steps(SOLVE) as stream:
        assert [step async for step in stream] == ["First.", "Second \\boxed{2}."]
        assert run.candidate(stream).answer == "2"


async def test_stream_is_truncated_after_a_step_and_continued_step_by_step() -> None:
    engine = ScriptedEngine(constant_reply("One.\n\nTwo.\n\nThree.\n\nFour \\boxed{4}."))
    run = make_run(engine)
    async with run.steps(SOLVE) as stream:
        async for step in stream:
            if step == "Two.":
                break
        kept = stream.truncated(1)
        with pytest.raises(
            ValueError, match=r"^steps: must be 0 to \d+ \(finished steps\), not 9$"
        ):
            stream.truncated(9)
    assert (kept.text, kept.is_truncated, len(kept.token_ids)) == ("One.", True, 1)
    async with run.extend_steps(kept, index=7) as longer:
        assert [step async for step in longer] == ["Two.", "Three.", "Four \\boxed{4}."]
        assert longer.truncated(0) == kept
        assert longer.truncated(2).text == "One.\n\nTwo.\n\nThree."
        assert len(longer.truncated(2).token_ids) == 3
        whole = longer.completion
    assert (engine.calls[1].prefix, engine.calls[1].index) == (kept.token_ids, 7)
    assert whole.text == "One.\n\nTwo.\n\nThree.\n\nFour \\boxed{4}."
    assert run.candidate(whole).answer == "4"
    assert_accounting_is_complete(run, engine)


async def test_stream_reports_its_steps_and_whether_it_is_finished() -> None:
    run = make_run(ScriptedEngine(constant_reply("One.\n\nTwo.\n\nThree."), per_token=0.001))
    async with run.steps(SOLVE) as stream:
        assert (stream.steps, stream.is_finished, stream.completion.text) == (0, False, "")
        seen = [(stream.steps, stream.is_finished) async for _ in stream]
        assert (stream.steps, stream.is_finished) == (3, True)
    assert seen[0] == (1, False)


@settings(deadline=None, max_examples=50)
@given(
    texts=st.lists(st.text("ab \n", min_size=1, max_size=4), min_size=1, max_size=20),
    has_ids=st.booleans(),
)
def test_truncation_never_loses_or_splits_a_step(texts: list[str], has_ids: bool) -> None:
    call = Call(role="actor", purpose=SOLVE, messages=(), resumable=True)
    stream = LiveStepStream(call)

    class Texts:
        async def perform(self, *_: object, on_delta: Grow, **__: object) -> None:
            partial = PartialCompletion(call, 0)
            for number, text in enumerate(texts):
                delta = Delta(text=text, tokens=1, token_ids=(number,) if has_ids else ())
                partial.add(delta)
                on_delta(delta, partial)

    async def write() -> list[str]:
        await stream.generate(Texts())  # type: ignore[arg-type]
        steps = [step async for step in stream]
        stream.close()
        return steps

    steps = anyio.run(write)
    for count in range(len(steps) + 1):
        kept = stream.truncated(count)
        assert split_steps(kept.text) == steps[:count]
        assert "".join(texts).startswith(kept.text)
        prefix_parts = segments.prefix_parts(kept)
        assert "".join(p if isinstance(p, str) else texts[p] for p in prefix_parts) == kept.text


@ON_BOTH_BACKENDS
async def test_iteration_raises_the_error_that_ended_the_stream() -> None:
    engine = ScriptedEngine(lambda *_: Reply("One.\n\nTwo. three four five", fault="interrupt"))
    run = make_run(engine)
    seen: list[str] = []

    async def read() -> None:
        async with run.steps(SOLVE) as stream:
            async for step in stream:
                seen.append(step)  # noqa: PERF401 - steps before the error count

    with pytest.raises(StreamInterrupted):
        await read()
    assert seen == ["One."]
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize(
    ("stop", "steps", "text"),
    [
        ("END", ["One.", "Two."], "One.\n\nTwo. "),
        ("Two. END", ["One."], "One.\n\n"),
        (
            "e.\n\nTwo. END",
            ["One."],
            "On",
        ),  # the step was yielded before the stop string was complete
    ],
)
async def test_stop_string_of_the_client_ends_a_step_stream(
    stop: str, steps: list[str], text: str
) -> None:
    engine = ScriptedEngine(constant_reply("One.\n\nTwo. END more"))
    run = make_run(engine, sampling=Sampling(stop=(stop,)))
    async with run.steps(SOLVE) as stream:
        assert [step async for step in stream] == steps
        assert stream.completion.text == text
        assert stream.truncated(len(steps)).text.rstrip() == text.rstrip()
    assert_accounting_is_complete(run, engine)


@given(
    words=st.lists(st.sampled_from(["a", "b", " a", "\n\na", " b", "\n\n"]), min_size=1),
    stop=st.text("ab \n", min_size=1, max_size=6),
    every=st.sampled_from([None, 1, 2]),
)
@settings(max_examples=50)
def test_steps_before_a_stop_string_are_prefixes_of_the_completion(
    words: list[str], stop: str, every: int | None
) -> None:
    async def read() -> None:
        run = make_run(
            ScriptedEngine(constant_reply("".join(words))), sampling=Sampling(stop=(stop,))
        )
        async with run.steps(SOLVE, every=every) as stream:
            with suppress(UnusableCompletion):
                async for _ in stream:
                    assert stream.completion.text.startswith(stream.truncated(stream.steps).text)
            for steps in range(stream.steps + 1):
                assert stream.completion.text.startswith(stream.truncated(steps).text)

    anyio.run(read)


async def test_steps_inside_continued_reasoning_can_be_truncated() -> None:
    words = (" more", "\n\nYes.", "</think>", "\n\nOne.", "\n\nTwo.")

    def plan(_call: Call, _number: int) -> Iterator[Delta]:
        for at, word in enumerate(words):
            reason: Any = "stop" if at == len(words) - 1 else None
            yield Delta(text=word, tokens=1, token_ids=(10 + at,), finish_reason=reason)

    run = make_run(PlannedEngine(plan=plan))
    reasoning = Segment("Hm", (1,), is_reasoning=True)
    prefix = Completion(messages=run.messages, segments=(reasoning,), finish_reason="length")
    seen: list[tuple[str, str, int]] = []
    async with run.extend_steps(prefix) as stream:
        async for _ in stream:
            kept = stream.truncated(len(seen) + 1)
            seen.append((kept.reasoning, kept.text, len(kept.token_ids)))
    assert seen == [
        ("Hm more", "", 2),
        ("Hm more\n\nYes.", "", 3),
        ("Hm more\n\nYes.", "\n\nOne.", 5),
        ("Hm more\n\nYes.", "\n\nOne.\n\nTwo.", 5),
    ]


async def test_stream_without_token_ids_is_truncated_to_text_without_reasoning() -> None:
    deltas = (
        Delta(reasoning="Hm. ", tokens=1),
        Delta(text="One.\n\n", tokens=2),
        Delta(text="Two.\n\n", tokens=2),
        Delta(text="Three.", tokens=2, finish_reason="stop"),
    )
    run = make_run(PlannedEngine(plan=lambda _call, _number: deltas))
    async with run.steps(SOLVE) as stream:
        async for step in stream:
            assert step == "One."
            break
        kept = stream.truncated(1)
    assert (kept.reasoning, kept.text, kept.is_truncated) == ("", "One.\n\n", True)
    run.candidate(kept)
    (record,) = call_records(run)
    assert record.usage.completion == 5
    characters = len("Hm. One.\n\nTwo.\n\n")
    assert run.wasted == {"actor": 5 - math.ceil(len("One.\n\n") * 5 / characters)}

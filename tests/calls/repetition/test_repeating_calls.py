"""Calls whose completions repeat themselves: they are ended, charged and handed over as truncated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from secondpass.service.calls.repetition import INTERVAL, MIN_BYTES
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import FinishReason, ReportedUsage
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, CallHarness, Plan, PlannedEngine

pytestmark = pytest.mark.anyio
LONG = replace(CALL, sampling=CALL.sampling.model_copy(update={"max_tokens": 100_000}))
SENTENCE = "I apologize for the confusion, let me try that again. "


def looping(
    texts: Iterable[str], words: int = 3000, *, is_counted: bool = True, is_reasoning: bool = False
) -> Any:
    """Return a plan whose i-th completion repeats the i-th text, or generates it once if it is "done"."""
    patterns = list(texts)

    def plan(call: Call, _number: int) -> Iterable[Delta]:
        yield Delta(usage=ReportedUsage(prompt=10))
        for number in range(words):
            for index in range(call.n):
                text, is_done = patterns[index], patterns[index] == "done"
                if is_done and number:
                    continue
                yield Delta(
                    index,
                    "" if is_reasoning else text,
                    text if is_reasoning else "",
                    tokens=int(is_counted),
                    finish_reason="stop" if is_done else None,
                )
        for index in range(call.n):
            if patterns[index] != "done":
                yield Delta(index, finish_reason="length")
        yield Delta(usage=ReportedUsage(prompt=10, completion=words))

    return plan


def replying(deltas: list[Delta]) -> Plan:
    """Return a plan that yields these deltas for every request."""
    return lambda _call, _number: deltas


@pytest.mark.parametrize("is_reasoning", [False, True])
@ON_BOTH_BACKENDS
async def test_a_completion_that_repeats_ends_its_request(is_reasoning: bool) -> None:
    engine = PlannedEngine(plan=looping([SENTENCE], is_reasoning=is_reasoning))
    harness = CallHarness(engine)
    await harness.perform(replace(LONG, resumable=is_reasoning))
    [completion], [record] = harness.completions, harness.records
    assert completion.finish_reason == "repetition"
    assert completion.is_truncated
    assert len(completion.text + completion.reasoning) <= MIN_BYTES + INTERVAL + len(SENTENCE)
    assert engine.closed == 1
    assert engine.generated == record.usage.completion == harness.budget.spent["tokens"] < 100
    assert (record.end, record.finish_reasons) == (
        "finished",
        ("repetition",),
    )
    assert harness.stats.lengths.expected(("test", "actor", "solve", "scripted"), 9999) == 9999
    harness.assert_consistent()


@pytest.mark.parametrize("reason", [None, "length"])
@pytest.mark.parametrize("is_reasoning", [False, True])
async def test_a_loop_has_the_same_text_in_deltas_of_any_size(
    is_reasoning: bool, reason: FinishReason | None
) -> None:
    text = "Let me think about it first. " + SENTENCE * 200
    found = set()
    for size in (1, 7, 100, 511, 512, 513, 3000, len(text)):
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        deltas = [
            Delta(
                text="" if is_reasoning else part,
                reasoning=part if is_reasoning else "",
                tokens=1,
                token_ids=(1,),
                finish_reason=reason if number == len(parts) else None,
            )
            for number, part in enumerate(parts, 1)
        ]
        harness = CallHarness(PlannedEngine(plan=replying(deltas)))
        await harness.perform(replace(LONG, resumable=is_reasoning))
        [completion] = harness.completions
        assert completion.finish_reason == "repetition"
        found.add(completion.reasoning if is_reasoning else completion.text)
        harness.assert_consistent()
    [ended] = found
    assert ended == text[: len(ended)]
    assert MIN_BYTES <= len(ended) <= MIN_BYTES + 2 * INTERVAL


@ON_BOTH_BACKENDS
async def test_a_batch_ends_once_each_completion_is_finished_or_repeats() -> None:
    engine = PlannedEngine(plan=looping(["done", SENTENCE, "word "]))
    harness = CallHarness(engine)
    await harness.perform(replace(LONG, n=3))
    assert [each.finish_reason for each in harness.completions] == [
        "stop",
        "repetition",
        "repetition",
    ]
    [record] = harness.records
    # The engine generates the second completion until the third repeats too: these tokens are charged.
    assert engine.generated == record.usage.completion == harness.budget.spent["tokens"]
    assert 2 * MIN_BYTES / 5 < engine.generated < 1 + 2 * (MIN_BYTES + INTERVAL + 5) / 5
    harness.assert_consistent()


@ON_BOTH_BACKENDS
async def test_the_rest_of_a_batch_is_finished_beside_a_completion_that_repeats() -> None:
    engine = PlannedEngine(plan=looping([SENTENCE, "done"], 200))
    harness = CallHarness(engine)
    await harness.perform(replace(LONG, n=2))
    assert {each.index: each.finish_reason for each in harness.completions} == {
        0: "repetition",
        1: "stop",
    }
    harness.assert_consistent()


async def test_without_token_counts_the_cap_of_a_request_that_is_ended_is_withheld() -> None:
    engine = PlannedEngine(
        plan=looping([SENTENCE], is_counted=False), lacking=frozenset({"token_counts"})
    )
    harness = CallHarness(engine, limits={"max_tokens": 5000})
    await harness.perform(LONG)
    [record] = harness.records
    assert record.is_estimated
    assert 0 < record.usage.completion < 2000
    assert record.usage.completion + record.withheld == 5000
    harness.assert_consistent()

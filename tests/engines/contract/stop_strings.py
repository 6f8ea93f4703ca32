"""Contract tests for stop strings of resumable calls, also inside a token."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies.api.engine import Call, Delta, Engine
from secondpass.strategies.api.values import Completion
from secondpass.strategies.continuation.segments import joined, prefix_parts
from tests.engines.contract_support import (
    STORY,
    ask,
    detokenized,
    finish_reasons,
    stop_inside_token,
    text,
    usage,
)
from tests.engines.support import ids, run

pytestmark = pytest.mark.anyio


def completion_of(call: Call, deltas: Sequence[Delta]) -> Completion:
    """Return the completion that a run builds from `deltas`."""
    partial = PartialCompletion(call, call.index)
    for delta in deltas:
        if delta.tokens or delta.text or delta.finish_reason:
            partial.add(delta)
    return partial.completion


RESUMABLE = replace(ask(STORY.messages[0].text, max_tokens=24), resumable=True)


async def test_a_resumable_completion_can_be_continued_after_a_stop_string_inside_a_token(
    engine: Engine,
) -> None:
    whole = await run(engine, RESUMABLE)
    stop, tokens = stop_inside_token(whole)
    call = replace(ask(STORY.messages[0].text, max_tokens=24, stop=(stop,)), resumable=True)
    deltas = await run(engine, call)
    end = text(whole).index(stop) + len(stop)
    assert text(deltas) == text(whole)[:end]
    assert ids(deltas) == ids(whole)[:tokens]  # the last token also has text after the stop string
    assert finish_reasons(deltas) == {0: "stop"}
    assert usage(deltas).completion == tokens

    first = completion_of(call, deltas)
    assert first.text == text(deltas)
    assert first.segments[-1].token_ids is None
    prefix = prefix_parts(first)
    assert await detokenized(engine, prefix) == first.text

    rest_call = replace(RESUMABLE, prefix=prefix)
    rest_call = replace(rest_call, sampling=rest_call.sampling.model_copy(update={"max_tokens": 8}))
    rest = await run(engine, rest_call)
    assert 0 < usage(rest).completion <= 8
    assert usage(rest).prompt == await engine.count_prompt(rest_call)
    both = joined(first, completion_of(rest_call, rest))
    assert both.text == first.text + text(rest)
    assert await detokenized(engine, prefix_parts(both)) == both.text
    if finish_reasons(rest) == {0: "length"}:
        assert await detokenized(engine, (*prefix, *ids(rest))) == both.text
    if isinstance(engine, ScriptedEngine):  # a model may continue differently: the tokens differ
        assert text(whole).startswith(both.text)


async def test_a_stop_string_in_the_prefix_does_not_end_the_continuation(engine: Engine) -> None:
    whole = await run(engine, RESUMABLE)
    stop, tokens = stop_inside_token(whole)
    call = replace(ask(STORY.messages[0].text, max_tokens=4, stop=(stop,)), resumable=True)
    rest = await run(engine, replace(call, prefix=ids(whole)[:tokens]))
    assert ids(rest) == ids(whole)[tokens : tokens + 4]


async def test_a_stop_string_that_never_occurs_changes_nothing(engine: Engine) -> None:
    question = "What is the capital of France? Reply with one word."
    whole = await run(engine, replace(ask(question, max_tokens=24), resumable=True))
    stopped = replace(ask(question, max_tokens=24, stop=("\u2603",)), resumable=True)
    assert ids(await run(engine, stopped)) == ids(whole)
    assert text(await run(engine, stopped)) == text(whole)

"""Samples with a prefix: n continuations in one request, which can be truncated and continued again."""

from __future__ import annotations

from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import UnusableCompletion
from secondpass.strategies.api.values import SOLVE, Completion, Draw, Sampling
from secondpass.strategies.continuation.segments import truncated
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    constant_reply,
    make_run,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]

BEGINNING = "one two three"


def endings(_: Call, index: int) -> Reply:
    """Reply with BEGINNING and an ending that depends on the index."""
    return Reply(f"{BEGINNING} and {index} more words")


async def begin(run: LiveRun, index: int = 0) -> Completion:
    draw = Draw(max_tokens=3)
    return await run.ask(SOLVE, index=index, draw=draw, resumable=True)


async def continuations(
    run: LiveRun, prefix: Completion, n: int, **options: Any
) -> list[Completion]:
    async with run.sample(SOLVE, n, prefix=prefix, **options) as longer:
        return sorted([each async for each in longer], key=lambda each: each.index)


@ON_BOTH_BACKENDS
async def test_n_continuations_share_one_request_and_contain_their_prefix() -> None:
    engine = ScriptedEngine(endings)
    run = make_run(engine)
    prefix = await begin(run, index=7)
    drafts = await continuations(run, prefix, 3)
    assert [each.text for each in drafts] == [f"{BEGINNING} and {i} more words" for i in range(3)]
    assert [each.index for each in drafts] == [0, 1, 2]
    assert all(each.token_ids[:3] == prefix.token_ids for each in drafts)
    assert [each.usage.completion for each in drafts] == [7, 7, 7]
    (call,) = engine.calls[1:]
    assert (call.n, call.prefix, call.resumable) == (3, prefix.token_ids, True)
    assert (call.purpose, call.messages) == ("extend", prefix.messages)
    assert not any(each.is_truncated for each in drafts)
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
async def test_continuation_can_be_truncated_and_continued_again() -> None:
    engine = ScriptedEngine(endings)
    run = make_run(engine)
    prefix = await begin(run)
    drafts = await continuations(run, prefix, 2, draw=Draw(max_tokens=2))
    assert [each.text for each in drafts] == [f"{BEGINNING} and {i}" for i in range(2)]
    assert all(each.is_truncated for each in drafts)
    shorter = truncated(drafts[1], len(f"{BEGINNING} and"))
    assert shorter is not None
    assert shorter.text == f"{BEGINNING} and"
    continued = await continuations(run, shorter, 2)
    assert [each.text for each in continued] == [
        f"{BEGINNING} and {i} more words" for i in range(2)
    ]
    assert engine.calls[-1].prefix == shorter.token_ids
    assert len(shorter.token_ids) == 4
    assert_accounting_is_complete(run, engine)


async def test_purpose_comes_from_the_prompt_and_role_from_the_prefix() -> None:
    engine = ScriptedEngine(endings)
    run = make_run(engine)
    prefix = await run.ask(
        "is_right", role="critic", draw=Draw(max_tokens=3, temperature=0.5), resumable=True
    )
    async with run.sample("branch", 2, prefix=prefix, draw=Draw(temperature=0.9)) as longer:
        assert [each.role async for each in longer] == ["critic"] * 2
    call = engine.calls[-1]
    assert (call.role, call.purpose, call.messages) == ("critic", "branch", prefix.messages)
    assert call.sampling.temperature == 0.9


async def test_width_splits_the_request() -> None:
    engine = ScriptedEngine(endings)
    run = make_run(engine)
    prefix = await begin(run)
    assert len(await continuations(run, prefix, 5, width=2)) == 5
    assert [(call.n, call.index) for call in engine.calls[1:]] == [(2, 0), (2, 2), (1, 4)]


async def test_seed_of_a_continuation_depends_on_its_index_only() -> None:
    engine = ScriptedEngine(endings)
    run = make_run(engine, sampling=Sampling(seed=5))
    prefix = await begin(run)
    seeds = []
    for width in (None, 1):
        before = len(engine.calls)
        await continuations(run, prefix, 3, width=width)
        calls = engine.calls[before:]
        seeds.append([(call.sampling.seed or 0) + i for call in calls for i in range(call.n)])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


async def test_prefix_without_token_ids_is_continued_from_text() -> None:
    engine = ScriptedEngine(endings)
    run = make_run(engine)
    drafts = await continuations(run, Completion.of(BEGINNING, run.messages), 2)
    assert [each.text for each in drafts] == [f"{BEGINNING} and {i} more words" for i in range(2)]
    assert engine.calls[0].prefix == BEGINNING


async def test_continuation_of_a_finished_prefix_may_be_empty() -> None:
    engine = ScriptedEngine(constant_reply(BEGINNING))
    run = make_run(engine)
    prefix = await run.ask(SOLVE, resumable=True)
    assert not prefix.is_truncated
    assert [each.text for each in await continuations(run, prefix, 2)] == [BEGINNING, BEGINNING]
    assert not run.degraded


@pytest.mark.parametrize("field", ["n", "width", "batch"])
@pytest.mark.parametrize("value", [0, -1])
async def test_n_width_and_batch_must_be_at_least_1(field: str, value: int) -> None:
    run = make_run()
    for prefix in (None, Completion.of(BEGINNING, run.messages)):
        arguments: dict[str, Any] = {"n": 2, "prefix": prefix, field: value}
        with pytest.raises(ValueError, match=f"^{field}: must be at least 1, not {value}$"):
            async with run.sample(SOLVE, **arguments):
                pass


async def test_prefix_excludes_after_and_placeholder_values() -> None:
    engine = ScriptedEngine(endings)
    run = make_run(engine)
    prefix = await begin(run)
    with pytest.raises(ValueError, match="prefix"):
        async with run.sample("check", 2, prefix=prefix, draft="x"):
            pass
    with pytest.raises(ValueError, match="prefix"):
        async with run.sample(SOLVE, 2, prefix=prefix, after="question"):
            pass
    assert len(engine.calls) == 1
    assert not run.budget.holdings


async def test_empty_continuation_of_an_inserted_text_raises() -> None:
    engine = ScriptedEngine(
        lambda call, _: Reply(engine.prefix_text(call) if call.prefix else "It is 42.")
    )
    run = make_run(engine)
    draft = await run.ask(SOLVE, resumable=True)
    assert (await run.extend(draft)).text == "It is 42."
    with pytest.raises(UnusableCompletion):
        await run.extend(draft, text=" Wait,")


async def test_finished_completion_is_continued_from_its_token_ids() -> None:
    engine = ScriptedEngine(constant_reply("It is 42. Wait, it is 42."))
    run = make_run(engine)
    draft = await run.ask(SOLVE, resumable=True)
    await run.extend(draft, text=" So")
    prefix = engine.calls[1].prefix
    assert isinstance(prefix, tuple)
    assert prefix[:-1] == draft.token_ids
    assert engine.prefix_text(engine.calls[1]) == f"{draft.text} So"

"""Completions as streams of steps, which can be truncated after a step and continued."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.step_stream import LiveDraft
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import (
    StreamCut,
)
from secondpass.strategies.api.step_splitter import split_steps
from secondpass.strategies.api.values import SOLVE
from secondpass.strategies.continuation import segments
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_books_are_closed,
    bills,
    make_run,
    says,
)

pytestmark = pytest.mark.anyio


@ON_BOTH_BACKENDS
async def test_steps_come_as_they_are_finished_and_leaving_aborts_the_draft() -> None:
    engine = ScriptedEngine(says("First.\n\nSecond.\n\nThird. " + "word " * 500), per_token=0.002)
    run = make_run(engine)
    seen = []
    async with run.steps(SOLVE) as draft:
        async for step in draft:
            seen.append(step)
            if len(seen) == 2:
                break
        assert draft.completion.text.startswith("First.")
    assert seen == ["First.", "Second."]
    assert bills(run)[0].end == "cancelled"
    assert_books_are_closed(run, engine)


async def test_steps_give_the_last_one_too_and_then_the_whole_completion() -> None:
    run = make_run(ScriptedEngine(says("First.\n\nSecond \\boxed{2}.")))
    async with run.steps(SOLVE) as draft:
        assert [step async for step in draft] == ["First.", "Second \\boxed{2}."]
        assert run.candidate(draft).answer == "2"


async def test_a_draft_is_cut_after_a_step_and_gone_on_with_step_by_step() -> None:
    engine = ScriptedEngine(says("One.\n\nTwo.\n\nThree.\n\nFour \\boxed{4}."))
    run = make_run(engine)
    async with run.steps(SOLVE) as draft:
        async for step in draft:
            if step == "Two.":
                break
        cut = draft.cut(1)
        with pytest.raises(ValueError, match="0 to the"):
            draft.cut(9)
    assert (cut.text, cut.is_truncated, len(cut.token_ids)) == ("One.", True, 1)
    async with run.extend_steps(cut, index=7) as longer:
        assert [step async for step in longer] == ["Two.", "Three.", "Four \\boxed{4}."]
        assert longer.cut(0) == cut
        assert longer.cut(2).text == "One.\n\nTwo.\n\nThree."
        assert len(longer.cut(2).token_ids) == 3
        whole = longer.completion
    assert (engine.calls[1].prefix, engine.calls[1].index) == (cut.token_ids, 7)
    assert whole.text == "One.\n\nTwo.\n\nThree.\n\nFour \\boxed{4}."
    assert run.candidate(whole).answer == "4"
    assert_books_are_closed(run, engine)


@settings(deadline=None, max_examples=50)
@given(
    pieces=st.lists(st.text("ab \n", min_size=1, max_size=4), min_size=1, max_size=20),
    has_ids=st.booleans(),
)
def test_a_cut_never_loses_or_splits_a_step(pieces: list[str], has_ids: bool) -> None:
    draft = LiveDraft(Call(role="actor", purpose=SOLVE, messages=(), resumable=True))

    class Pieces:
        async def perform(self, *_: object, on_delta: Callable[[Delta], None]) -> None:
            for number, piece in enumerate(pieces):
                ids = (number,) if has_ids else ()
                on_delta(Delta(text=piece, tokens=1, token_ids=ids))

    async def write() -> list[str]:
        with draft:
            await draft.write(Pieces())  # type: ignore[arg-type]
            return [step async for step in draft]

    steps = anyio.run(write)
    for count in range(len(steps) + 1):
        cut = draft.cut(count)
        assert split_steps(cut.text) == steps[:count]
        assert "".join(pieces).startswith(cut.text)
        held = "".join(p if isinstance(p, str) else pieces[p] for p in segments.pieces(cut))
        assert held == (cut.text if has_ids else "")


@ON_BOTH_BACKENDS
async def test_steps_raise_what_ended_the_draft() -> None:
    engine = ScriptedEngine(lambda *_: Reply("One.\n\nTwo. three four five", fault="cut"))
    run = make_run(engine)
    seen: list[str] = []

    async def read() -> None:
        async with run.steps(SOLVE) as draft:
            async for step in draft:
                seen.append(step)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(StreamCut):
        await read()
    assert seen == ["One."]
    assert_books_are_closed(run, engine)

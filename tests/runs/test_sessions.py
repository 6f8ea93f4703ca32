"""Which session each call of a run has, where a large vote is split into groups of drafts."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.call_builder import CallBuilder
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call, Delta, Routing
from secondpass.strategies.api.values import SOLVE, Candidate, Completion
from secondpass.strategies.judging.reply_schemas import Critique
from secondpass.testing.support import answers, make_run, says
from tests.runs.changed import changed

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]

GROUP = 4
VALUES = tuple(str(number) for number in range(64))


def large_vote(
    engine: ScriptedEngine, n: int, strategy: str = "self_consistency", **params: Any
) -> LiveRun:
    run = make_run(engine, strategy, {"n": n, **params})
    return changed(run, routing=Routing(session="s"), session_group=GROUP)


def session(group: int) -> str:
    return f"s-{group}" if group else "s"


def sessions(calls: list[Call]) -> Counter[str | None]:
    """Drafts by the session of their call."""
    return Counter(element for call in calls for element in [call.routing.session] * call.n)


@pytest.mark.parametrize(
    "params",
    [
        {"stop": "none"},
        {"stop": "none", "width": 1},
        {"stop": "esc", "window": 3},
        {"stop": "lead"},
    ],
)
async def test_no_session_has_more_drafts_than_a_group(params: dict[str, Any]) -> None:
    engine = ScriptedEngine(answers(*VALUES))
    await execute(large_vote(engine, 10, **params))
    drafts = [call for call in engine.calls if call.purpose == SOLVE]
    counted = sessions(drafts)
    assert max(counted.values()) <= GROUP
    assert set(counted) <= {"s", "s-1", "s-2"}
    assert all(call.routing.session == session(call.index // GROUP) for call in drafts)


class Peak(ScriptedEngine):
    """Counts the drafts that are written at once."""

    now = most = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        self.now += call.n
        self.most = max(self.most, self.now)
        try:
            async with aclosing(super().stream(call)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self.now -= call.n


@pytest.mark.parametrize(
    ("n", "params", "most"),
    [
        (32, {"stop": "none"}, 32),
        (32, {"stop": "none", "width": 12}, 12),
        (20, {"stop": "esc", "window": 8}, 8),
        (16, {"stop": "lead", "width": 4}, 4),
        (10, {"stop": "none", "width": 3}, 3),
    ],
)
async def test_groups_are_drawn_at_once_as_far_as_the_width_allows(
    n: int, params: dict[str, Any], most: int
) -> None:
    split, whole = (Peak(answers(*VALUES), per_token=0.001) for _ in range(2))
    await execute(large_vote(split, n, **params))
    await execute(make_run(whole, "self_consistency", {"n": n, **params}))
    assert split.most == whole.most == most


async def test_a_vote_that_is_not_split_is_one_call() -> None:
    engine = ScriptedEngine(answers(*VALUES))
    await execute(make_run(engine, "self_consistency", {"n": 10, "stop": "none"}))
    assert [call.n for call in engine.calls] == [10]


@given(n=st.integers(1, 70), batch=st.integers(1, 70), group=st.none() | st.integers(1, 70))
async def test_calls_draw_every_draft_once_and_none_of_two_groups(
    n: int, batch: int, group: int | None
) -> None:
    run = make_run(None, "self_consistency", {"n": n})
    portions = CallBuilder(replace(run.spec, session_group=group)).index_ranges(n, batch)
    assert [draft for portion in portions for draft in portion] == list(range(n))
    assert all(1 <= len(portion) <= batch for portion in portions)
    if group is None:
        assert len(portions) == -(-n // batch)
    else:
        assert all(portion[0] // group == portion[-1] // group for portion in portions)


def _agrees(call: Call, _: int) -> Reply:
    opinion = '{"issues": [], "first_wrong_step": null, "verdict": "correct"}'
    text = opinion if call.role == "critic" else "It is 42. Yes."
    return Reply(text, labels={"yes": 0.9, "no": 0.1}, reward=1.0)


def draft_of(index: int, run: LiveRun) -> Completion:
    return Completion.of("It is 42.", run.messages, index=index)


async def test_what_follows_a_draft_has_its_session() -> None:
    engine = ScriptedEngine(_agrees)
    run = large_vote(engine, 10)
    draft = draft_of(9, run)
    await run.ask("check", role="critic", after=draft, draft=draft.text)
    await run.extend(draft)
    await run.classify("is_right", ("yes", "no"), after=draft)
    await run.critique("is_right", Critique, after=draft)
    await run.score(draft)
    async with run.sample(SOLVE, 6, prefix=draft) as longer:
        assert len([each async for each in longer]) == 6
    async with run.extend_steps(draft) as stream:
        [step async for step in stream]
    assert [call.routing.session for call in engine.calls] == ["s-2"] * 7


async def test_a_draft_that_is_redrawn_keeps_its_session() -> None:
    engine = ScriptedEngine(says("It is 42."))
    run = large_vote(engine, 10)
    for attempt in range(3):
        await run.ask(SOLVE, index=5 + 10 * attempt)
    assert [call.routing.session for call in engine.calls] == ["s-1"] * 3


async def test_judges_of_candidates_are_spread_by_their_index() -> None:
    engine = ScriptedEngine(_agrees)
    run = large_vote(engine, 8)
    for index in (0, 7):
        candidate = Candidate(text="It is 42.", index=index)
        await run.classify("is_right", ("yes", "no"), index=candidate.index)
    assert [call.routing.session for call in engine.calls] == ["s", "s-1"]


async def test_samples_of_another_question_have_the_sessions_of_their_own_indices() -> None:
    engine = ScriptedEngine(_agrees)
    run = large_vote(engine, 10)
    async with run.sample("is_right", 10, after="question") as drafts:
        assert len([draft async for draft in drafts]) == 10
    found = sorted((call.index, call.routing.session) for call in engine.calls)
    assert [session for _, session in found] == ["s"] * GROUP + ["s-1"] * GROUP + ["s-2"] * (
        10 - 2 * GROUP
    )

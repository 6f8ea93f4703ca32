"""Sessions of the calls of a run whose vote is split into groups of drafts."""

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
from secondpass.testing.support import answers, constant_reply, make_run
from tests.runs.run_variants import with_spec

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_prompts")]

GROUP = 4
VALUES = tuple(str(number) for number in range(64))


def large_vote(
    engine: ScriptedEngine, n: int, strategy: str = "self_consistency", **params: Any
) -> LiveRun:
    run = make_run(engine, strategy, {"n": n, **params})
    return with_spec(run, routing=Routing(session="s"), session_group=GROUP)


def session(group: int) -> str:
    return f"s-{group}" if group else "s"


def sessions(calls: list[Call]) -> Counter[str | None]:
    """Count the drafts of each session."""
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
async def test_sessions_have_at_most_one_group_of_drafts(params: dict[str, Any]) -> None:
    engine = ScriptedEngine(answers(*VALUES))
    await execute(large_vote(engine, 10, **params))
    drafts = [call for call in engine.calls if call.purpose == SOLVE]
    counted = sessions(drafts)
    assert max(counted.values()) <= GROUP
    assert set(counted) <= {"s", "s-1", "s-2"}
    assert all(call.routing.session == session(call.index // GROUP) for call in drafts)


class PeakRecorder(ScriptedEngine):
    """An engine that records the peak number of concurrent drafts."""

    running_drafts = peak = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        self.running_drafts += call.n
        self.peak = max(self.peak, self.running_drafts)
        try:
            async with aclosing(super().stream(call)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self.running_drafts -= call.n


@pytest.mark.parametrize(
    ("n", "params", "peak"),
    [
        (32, {"stop": "none"}, 32),
        (32, {"stop": "none", "width": 12}, 12),
        (20, {"stop": "esc", "window": 8}, 8),
        (16, {"stop": "lead", "width": 4}, 4),
        (10, {"stop": "none", "width": 3}, 3),
    ],
)
async def test_groups_are_sampled_concurrently_up_to_the_width(
    n: int, params: dict[str, Any], peak: int
) -> None:
    split, whole = (PeakRecorder(answers(*VALUES), per_token=0.001) for _ in range(2))
    await execute(large_vote(split, n, **params))
    await execute(make_run(whole, "self_consistency", {"n": n, **params}))
    assert split.peak == whole.peak == peak


async def test_vote_without_groups_is_one_request() -> None:
    engine = ScriptedEngine(answers(*VALUES))
    await execute(make_run(engine, "self_consistency", {"n": 10, "stop": "none"}))
    assert [call.n for call in engine.calls] == [10]


@given(n=st.integers(1, 70), batch=st.integers(1, 70), group=st.none() | st.integers(1, 70))
async def test_requests_cover_every_draft_once_and_span_no_groups(
    n: int, batch: int, group: int | None
) -> None:
    run = make_run(None, "self_consistency", {"n": n})
    ranges = CallBuilder(replace(run.spec, session_group=group)).index_ranges(n, batch)
    assert [draft for indices in ranges for draft in indices] == list(range(n))
    assert all(1 <= len(indices) <= batch for indices in ranges)
    if group is None:
        assert len(ranges) == -(-n // batch)
    else:
        assert all(indices[0] // group == indices[-1] // group for indices in ranges)


def _approving_script(call: Call, _: int) -> Reply:
    opinion = '{"issues": [], "first_wrong_step": null, "verdict": "correct"}'
    text = opinion if call.role == "critic" else "It is 42. Yes."
    return Reply(text, labels={"yes": 0.9, "no": 0.1}, reward=1.0)


def draft_of(index: int, run: LiveRun) -> Completion:
    return Completion.of("It is 42.", run.messages, index=index)


async def test_follow_up_calls_share_the_session_of_their_draft() -> None:
    engine = ScriptedEngine(_approving_script)
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


async def test_redrawn_draft_keeps_its_session() -> None:
    engine = ScriptedEngine(constant_reply("It is 42."))
    run = large_vote(engine, 10)
    for redraw in range(3):
        await run.ask(SOLVE, index=5 + 10 * redraw)
    assert [call.routing.session for call in engine.calls] == ["s-1"] * 3


async def test_judge_calls_have_the_session_of_their_index() -> None:
    engine = ScriptedEngine(_approving_script)
    run = large_vote(engine, 8)
    for index in (0, 7):
        candidate = Candidate(text="It is 42.", index=index)
        await run.classify("is_right", ("yes", "no"), index=candidate.index)
    assert [call.routing.session for call in engine.calls] == ["s", "s-1"]


async def test_samples_of_a_changed_question_have_the_sessions_of_their_indices() -> None:
    engine = ScriptedEngine(_approving_script)
    run = large_vote(engine, 10)
    async with run.sample("is_right", 10, after="question") as drafts:
        assert len([draft async for draft in drafts]) == 10
    routed = sorted((call.index, call.routing.session) for call in engine.calls)
    assert [session for _, session in routed] == ["s"] * GROUP + ["s-1"] * GROUP + ["s-2"] * (
        10 - 2 * GROUP
    )

"""Complete runs over the scripted engine: answers, limits, accounting and trace."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest

from secondpass.service.common.errors import DeadlineExceeded, NoAnswerWithinBudget
from secondpass.service.common.events import (
    AnswerDelta,
    CallDelta,
    CallEnd,
    CallFinished,
    Trace,
)
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.engines.scripted.tokens import tokens_of
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Saved, saved
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import SharedResources
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import (
    BudgetExhausted,
)
from secondpass.strategies.api.registry import Params
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate, Sampling, Usage
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    answers,
    assert_accounting_is_complete,
    call_records,
    constant_reply,
    make_run,
    upstream,
)

pytestmark = pytest.mark.anyio


@ON_BOTH_BACKENDS
async def test_reserved_tokens_are_available_to_the_closing_call() -> None:
    engine = ScriptedEngine(constant_reply("word " * 50))
    run = make_run(engine, max_tokens=60)
    with run.reserve(tokens=20) as reserved:
        with pytest.raises(BudgetExhausted):
            await run.ask(SOLVE)
        last = await run.ask(SOLVE, reserved=reserved)
    assert len(tokens_of(last.text)) == 20
    assert_accounting_is_complete(run, engine)


async def test_draft_truncated_by_the_budget_is_the_answer_if_it_contains_one() -> None:
    engine = ScriptedEngine(constant_reply("It is \\boxed{42}. " + "More words. " * 50))
    run = make_run(engine, "self_consistency", {"n": 2}, max_tokens=12)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("42", "budget_tokens")
    assert outcome.candidate.finish_reason == "length"


async def test_draft_truncated_by_the_budget_before_its_answer_is_not_an_answer() -> None:
    engine = ScriptedEngine(constant_reply("word " * 50))
    run = make_run(engine, "self_consistency", {"n": 2}, max_tokens=5)
    with pytest.raises(NoAnswerWithinBudget) as error:
        await execute(run)
    assert error.value.kind == "tokens"
    assert call_records(run)[0].wasted == 5


async def test_draft_capped_by_the_client_is_a_candidate_without_an_answer() -> None:
    engine = ScriptedEngine(constant_reply("word " * 50))
    run = make_run(engine, "self_consistency", {"n": 2}, sampling=Sampling(max_tokens=5))
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.candidate.finish_reason) == (None, "length")


@ON_BOTH_BACKENDS
async def test_draft_truncated_by_the_deadline_is_the_answer_if_it_contains_one() -> None:
    engine = ScriptedEngine(
        constant_reply("It is \\boxed{42}. " + "More words. " * 500), per_token=0.005
    )
    run = make_run(engine, "self_consistency", {"n": 2}, deadline_ms=100)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("42", "deadline")
    assert_accounting_is_complete(run, engine)


async def test_truncated_streamed_text_is_the_answer() -> None:
    engine = ScriptedEngine(constant_reply("word " * 200), per_token=0.002)
    run = make_run(engine, "single", is_streamed=True, deadline_ms=60)
    outcome = await execute(run)
    streamed = "".join(e.text for e in run.trace.events if isinstance(e, AnswerDelta))
    assert outcome.candidate.text == streamed
    assert (outcome.candidate.finish_reason, outcome.candidate.answer) == ("length", None)


@pytest.mark.parametrize("limit", [{"max_tokens": 5}, {"deadline_ms": 60}])
async def test_truncated_text_that_was_not_streamed_is_not_an_answer(
    limit: dict[str, Any],
) -> None:
    engine = ScriptedEngine(constant_reply("word " * 200), per_token=0.005)
    with pytest.raises((NoAnswerWithinBudget, DeadlineExceeded)):
        await execute(make_run(engine, "single", **limit))


@ON_BOTH_BACKENDS
async def test_interrupted_text_that_was_not_streamed_is_retried() -> None:
    faults = iter(["interrupt"])
    engine = ScriptedEngine(
        lambda *_: Reply("one two three four", fault=next(faults, None)),  # type: ignore[arg-type]
        lacking=frozenset({"prefix"}),
    )
    run = make_run(upstream(engine, attempts=3), "single")
    assert (await execute(run)).candidate.text == "one two three four"


async def test_selecting_strategy_sends_the_answer_as_one_delta() -> None:
    run = make_run(ScriptedEngine(answers("1", "1", "1", "1")), "self_consistency")
    outcome = await execute(run)
    sent = [e.text for e in run.trace.events if isinstance(e, AnswerDelta)]
    assert sent == [outcome.candidate.text]


@ON_BOTH_BACKENDS
async def test_decided_vote_stops_early_and_reports_its_savings() -> None:
    engine = ScriptedEngine(answers("42"), per_token=0.001)
    run = make_run(engine, "self_consistency", {"n": 20, "width": 4})
    outcome = await execute(run)
    assert outcome.stop_reason == "consensus"
    assert outcome.confidence == 1.0
    assert outcome.confidence_kind == "vote_share"
    assert outcome.saved is not None
    assert (
        outcome.saved.samples
        == 20 - len([b for b in call_records(run) if b.end == "finished"])
        >= 12
    )
    assert outcome.saved.tokens > 0
    assert_accounting_is_complete(run, engine)


async def test_finished_but_unread_samples_are_not_savings() -> None:
    run = make_run(ScriptedEngine(answers("42")), "self_consistency", {"n": 8, "width": 8})
    outcome = await execute(run)
    finished = sum(record.end == "finished" for record in call_records(run))
    assert (outcome.saved.samples if outcome.saved else 0) == 8 - finished


@ON_BOTH_BACKENDS
async def test_cancelled_draft_is_waste_even_with_an_answer() -> None:
    def script(_: Call, index: int) -> Reply:
        return Reply("\\boxed{1} " + "word " * (2 if index < 4 else 300))

    run = make_run(ScriptedEngine(script, per_token=0.002), "self_consistency", {"width": 8})
    outcome = await execute(run)
    cancelled = [record for record in call_records(run) if record.end == "cancelled"]
    assert outcome.stop_reason == "consensus"
    assert cancelled
    assert all(record.wasted == record.usage.completion > 0 for record in cancelled)


@pytest.mark.parametrize("stop", ["esc", "none", "adaptive", "lead"])
@ON_BOTH_BACKENDS
async def test_at_most_width_samples_run_concurrently(stop: str) -> None:
    engine = ScriptedEngine(per_token=0.001)
    params = {"n": 9, "width": 2, "stop": stop} | ({"window": 3} if stop == "esc" else {})
    run = make_run(engine, "self_consistency", params)
    peak = 0

    def watch(_: object) -> None:
        nonlocal peak
        peak = max(peak, sum(call.n for call in engine.running.values()))

    run.trace.subscribe(watch)
    await execute(run)
    assert peak <= 2
    assert all(call.n <= 2 for call in engine.calls)


@ON_BOTH_BACKENDS
async def test_call_cancelled_in_the_queue_has_no_usage() -> None:
    engine = ScriptedEngine(constant_reply("word " * 300), per_token=0.005)
    run = make_run(
        upstream(engine, places=1),
        "self_consistency",
        {"n": 8, "width": 8, "stop": "lead"},
        deadline_ms=150,
    )
    with pytest.raises(DeadlineExceeded):
        await execute(run)
    assert len(engine.calls) == run.budget.spent["calls"] == run.budget.spent["samples"] == 1
    queued = [record for record in call_records(run) if not record.attempts]
    assert len(queued) == 7
    assert all(record.usage == Usage() and not record.is_estimated for record in queued)
    assert all(record.queued > 0.1 > record.seconds for record in queued)
    assert_accounting_is_complete(run, engine)


async def test_completion_truncated_by_the_context_window_is_not_a_budget_stop() -> None:
    engine = ScriptedEngine(constant_reply("word " * 500), window=60)
    run = make_run(engine, "single", sampling=Sampling(max_tokens=5000), max_tokens=4096)
    outcome = await execute(run)
    assert (outcome.stop_reason, outcome.candidate.finish_reason) == ("finished", "length")


async def test_cold_and_warm_processes_give_the_same_answer() -> None:
    shared = SharedResources(Equivalence())
    outcomes = []
    for _ in range(2):
        engine = ScriptedEngine(answers("1", "2", "2"))
        run = make_run(
            engine,
            "self_consistency",
            {"n": 3, "stop": "none", "width": 1},
            shared=shared,
            max_tokens=200,
        )
        outcomes.append(await execute(run))
    assert [o.candidate.answer for o in outcomes] == ["2", "2"]
    assert [o.stop_reason for o in outcomes] == ["finished", "finished"]


@ON_BOTH_BACKENDS
async def test_lanes_wait_for_the_first_call_of_a_cold_process() -> None:
    engine = ScriptedEngine(answers("1", "2", "2"), per_token=0.001)
    run = make_run(engine, "self_consistency", {"n": 3, "stop": "lead", "width": 3}, max_tokens=100)
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.usage["actor"].calls) == ("2", 3)


async def test_failed_calls_are_counted_by_role() -> None:
    engine = ScriptedEngine(
        lambda _, i: Reply("\\boxed{1}", fault="refuse" if i in (1, 2) else None)
    )
    run = make_run(engine, "self_consistency", {"n": 5, "stop": "lead", "width": 5})
    outcome = await execute(run)
    assert outcome.degraded == {"actor": 2}
    assert outcome.candidate.answer == "1"


@ON_BOTH_BACKENDS
async def test_retried_attempt_is_counted_as_usage_and_waste() -> None:
    faults = iter(["interrupt"])
    engine = ScriptedEngine(lambda *_: Reply("one two three four", fault=next(faults, None)))  # type: ignore[arg-type]
    run = make_run(upstream(engine, attempts=3), "self_consistency", {"n": 1})
    outcome = await execute(run)
    assert outcome.usage["actor"].calls == 2
    assert outcome.usage["actor"].completion == 6
    assert outcome.usage["actor"].wasted == 2
    assert outcome.degraded is None
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
async def test_exhausted_budget_in_a_task_group_of_the_strategy_ends_the_run() -> None:
    async def body(run: Run, _: Params) -> Candidate:
        run.elect(run.candidate(await run.ask(SOLVE)))
        async with anyio.create_task_group() as group:
            for index in range(1, 4):
                group.start_soon(partial(run.ask, SOLVE, index=index))
        raise AssertionError

    run = make_run(ScriptedEngine(answers("42")), max_calls=2)
    strategy = replace(run.spec.strategy, body=body)
    run = LiveRun(replace(run.spec, strategy=strategy), SharedResources(Equivalence()), Trace())
    outcome = await execute(run)
    assert (outcome.candidate.answer, outcome.stop_reason) == ("42", "budget_calls")


@ON_BOTH_BACKENDS
async def test_interrupted_visible_call_is_continued() -> None:
    faults = iter(["interrupt"])
    engine = ScriptedEngine(lambda *_: Reply("one two three four", fault=next(faults, None)))  # type: ignore[arg-type]
    run = make_run(upstream(engine, attempts=3), "single", is_streamed=True)
    outcome = await execute(run)
    streamed = "".join(e.text for e in run.trace.events if isinstance(e, AnswerDelta))
    assert outcome.candidate.text == streamed == "one two three four"
    assert outcome.usage["actor"].wasted == 0
    assert_accounting_is_complete(run, engine)


async def test_timing_separates_engine_queue_and_orchestration() -> None:
    engine = ScriptedEngine(constant_reply("one two three"), first_token=0.05, per_token=0.01)
    outcome = await execute(make_run(engine, "self_consistency", {"n": 3, "stop": "none"}))
    assert 80 <= outcome.timing.engine <= outcome.timing.total
    assert outcome.timing.queue == 0
    assert outcome.timing.orchestration < 40


async def test_deltas_are_recorded_only_on_request() -> None:
    for keeps_deltas in (True, False):
        run = make_run(trace=Trace(keeps_deltas=keeps_deltas))
        await execute(run)
        assert any(isinstance(e, CallDelta) for e in run.trace.events) is keeps_deltas


@ON_BOTH_BACKENDS
async def test_late_subscriber_receives_all_events() -> None:
    run = make_run()
    received: list[object] = []
    await run.ask(SOLVE)
    run.trace.subscribe(received.append)
    await run.ask(SOLVE)
    assert received == run.trace.events


@ON_BOTH_BACKENDS
async def test_unread_deltas_are_batched_when_tokens_arrive_fast() -> None:
    run: LiveRun = make_run(ScriptedEngine(answers("1")), is_streamed=True)
    run._pace.interval = 16
    async with run.sample(SOLVE, 1) as drafts:
        [draft async for draft in drafts]
    await run.ask(SOLVE, visible=True)
    engine = run.spec.upstreams["actor"].engine
    assert isinstance(engine, ScriptedEngine)
    assert [call.stream_interval for call in engine.calls] == [16, 1]


def test_savings_are_the_mean_sample_length_less_cancelled_tokens() -> None:
    def ended(end: CallEnd, tokens: int, samples: int) -> CallFinished:
        return CallFinished(
            call=0,
            role="actor",
            purpose=SOLVE,
            index=0,
            end=end,
            usage=Usage(completion=tokens),
            texts=("",) * samples,
        )

    events = [ended("finished", 20, 2), ended("cancelled", 4, 1), ended("failed", 9, 1)]
    assert saved(events, 3) == Saved(samples=3, tokens=26)
    assert saved(events[1:], 3) == Saved(samples=3, tokens=0)
    assert saved(events, 0) is None

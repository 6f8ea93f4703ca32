"""Contract tests for all strategies; the plug-in parametrizes `name`."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from trio.testing import MockClock

from secondpass.service.common import errors
from secondpass.service.common.events import RunFailed, RunFinished, RunStarted
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine, arithmetic
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CallRejected
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    OPEN,
    assert_accounting_is_complete,
    assert_failures_are_counted,
    call_records,
    constant_reply,
    make_run,
    upstream,
)

GARBAGE = ["\x00\ufffd}{\\boxed{", "]]>\u202e" * 50, "{}" * 300, "\\frac{" * 200]


def faulty(period: int, fault: str) -> Callable[[Call, int], Reply]:
    """Return a script in which every `period`-th call fails with `fault`, in all of its completions."""
    calls = 0

    def script(call: Call, index: int) -> Reply:
        nonlocal calls
        calls += index == call.index
        reply = arithmetic(call, index)
        if calls % period:
            return reply
        return Reply(reply.text, fault=fault, labels=reply.labels)  # type: ignore[arg-type]

    return script


def assert_outcome_is_valid(outcome: Outcome, run: LiveRun) -> None:
    """Assert that the answer is non-empty and that its usage and the trace are consistent."""
    assert outcome.candidate.text.strip()
    assert outcome.candidate == run.best
    assert sum(role.calls for role in outcome.usage.values()) == run.budget.spent["calls"]
    used = sum(role.completion - role.wasted for role in outcome.usage.values())
    assert used >= outcome.candidate.tokens, "the tokens of the answer must not count as wasted"
    assert_failures_are_counted(outcome, run)
    assert isinstance(run.trace.events[0], RunStarted)
    assert isinstance(run.trace.events[-1], RunFinished)


@ON_BOTH_BACKENDS
@pytest.mark.anyio
async def test_default_params_produce_the_answer(name: str) -> None:
    engine = ScriptedEngine()
    run = make_run(engine, name)
    outcome = await execute(run)
    assert_outcome_is_valid(outcome, run)
    assert outcome.candidate.answer == "42"
    assert outcome.stop_reason in {"finished", "accepted", "consensus"}
    assert_accounting_is_complete(run, engine)


@pytest.mark.anyio
async def test_open_question_gets_an_answer(name: str) -> None:
    engine = ScriptedEngine(constant_reply("Roses are red."))
    run = make_run(engine, name, question="Write a poem.", task=OPEN)
    outcome = await execute(run)
    assert_outcome_is_valid(outcome, run)
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("tokens", [1, 7, 40])
@ON_BOTH_BACKENDS
@pytest.mark.anyio
async def test_token_budget_is_never_exceeded(name: str, tokens: int) -> None:
    engine = ScriptedEngine()
    run = make_run(engine, name, max_tokens=tokens)
    try:
        outcome = await execute(run)
    except errors.NoAnswerWithinBudget:
        assert not run.has_answer
    else:
        assert_outcome_is_valid(outcome, run)
        assert outcome.stop_reason in {"budget_tokens", "finished", "consensus", "accepted"}
        if outcome.stop_reason == "budget_tokens":
            assert outcome.candidate.answer == "42"
    assert run.budget.spent["tokens"] <= tokens
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
@pytest.mark.anyio
async def test_deadline_returns_the_best_answer_or_raises(name: str) -> None:
    for per_token in (0.004, 0.02, 10.0):
        engine = ScriptedEngine(per_token=per_token)
        run = make_run(engine, name, deadline_ms=150)
        began = anyio.current_time()
        try:
            outcome = await execute(run)
        except errors.DeadlineExceeded:
            assert not run.has_answer
        else:
            assert_outcome_is_valid(outcome, run)
        assert anyio.current_time() - began < 0.5
        assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
@pytest.mark.anyio
async def test_deadline_is_exact(name: str) -> None:
    run = make_run(ScriptedEngine(per_token=60.0), name, deadline_ms=2000)
    began = anyio.current_time()
    with pytest.raises(errors.DeadlineExceeded):
        await execute(run)
    assert anyio.current_time() - began == pytest.approx(2.0, abs=1e-6)


@ON_BOTH_BACKENDS
@pytest.mark.anyio
async def test_client_disconnect_cancels_every_call(name: str) -> None:
    engine = ScriptedEngine(per_token=0.01)
    run = make_run(engine, name)
    with anyio.move_on_after(0.05) as scope:
        await execute(run)
    assert scope.cancelled_caught
    assert_accounting_is_complete(run, engine)
    made = len(engine.calls)
    await anyio.sleep(0.05)
    assert len(engine.calls) == made
    assert isinstance(run.trace.events[-1], RunFailed)


@pytest.mark.parametrize("fault", ["unavailable", "interrupt", "refuse"])
@ON_BOTH_BACKENDS
@pytest.mark.anyio
async def test_failure_of_every_call_raises(name: str, fault: str) -> None:
    engine = ScriptedEngine(faulty(1, fault))
    run = make_run(upstream(engine, attempts=2), name)
    with pytest.raises((errors.EngineFailed, CallRejected)) as caught:
        await execute(run)
    error = caught.value
    assert isinstance(error, errors.EngineFailed | CallRejected)
    assert error.role == "actor"
    assert not run.has_answer
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("fault", ["unavailable", "interrupt"])
@ON_BOTH_BACKENDS
@pytest.mark.anyio
async def test_failed_calls_are_retried(name: str, fault: str) -> None:
    engine = ScriptedEngine(faulty(2, fault))
    run = make_run(upstream(engine, attempts=3), name)
    outcome = await execute(run)
    assert_outcome_is_valid(outcome, run)
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("text", GARBAGE)
@pytest.mark.anyio
async def test_garbage_completions_contain_no_answer(name: str, text: str) -> None:
    engine = ScriptedEngine(constant_reply(text))
    run = make_run(engine, name)
    outcome = await execute(run)
    assert_outcome_is_valid(outcome, run)
    assert outcome.candidate.answer is None
    assert outcome.confidence is None
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("text", ["", "   \n\n "])
@pytest.mark.anyio
async def test_empty_completions_are_never_the_answer(name: str, text: str) -> None:
    engine = ScriptedEngine(constant_reply(text))
    run = make_run(engine, name)
    with pytest.raises(errors.EngineFailed, match="only reasoning or whitespace"):
        await execute(run)
    assert_accounting_is_complete(run, engine)


@ON_BOTH_BACKENDS
@pytest.mark.anyio
async def test_draining_returns_the_best_answer_or_raises(name: str) -> None:
    engine = ScriptedEngine(per_token=0.005)
    run = make_run(engine, name)
    async with anyio.create_task_group() as group:
        group.start_soon(_interrupt_after_30_ms, run)
        try:
            outcome = await execute(run)
        except errors.Drained:
            assert not run.has_answer
        else:
            assert outcome.stop_reason == "draining"
    assert_accounting_is_complete(run, engine)


async def _interrupt_after_30_ms(run: LiveRun) -> None:
    await anyio.sleep(0.03)
    run.interrupt()


@pytest.mark.anyio
async def test_every_started_call_has_a_usage_record(name: str) -> None:
    engine = ScriptedEngine()
    run = make_run(engine, name)
    await execute(run)
    assert len(call_records(run)) == len(engine.calls) > 0

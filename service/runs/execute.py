"""Execution of a run: the single place that decides how a run terminates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from secondpass.service.common import errors
from secondpass.service.common.concurrency import unwrap_exception_group
from secondpass.service.common.events import AnswerDelta, RunFailed, RunFinished, RunStarted
from secondpass.service.runs import outcome
from secondpass.service.runs.fault import cause_of, engine_fault
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.errors import (
    ITEM_ERRORS,
    BudgetExhausted,
    CallRejected,
    CapabilityMissing,
    EngineError,
    ReasoningTruncated,
    RoleFailed,
    RoleMissing,
    SecondpassError,
)
from secondpass.strategies.api.values import BudgetKind, Candidate, StopReason


async def execute(run: LiveRun) -> Outcome:
    """Run the strategy until it returns, or until a limit, the deadline or a failure ends it.

    The candidate proposed or elected by then is the answer, else the best draft if the request accepts a truncated one.
    Cancelling cancels every call of the run.

    Raises:
        NoAnswer: The run ended without an answer: NoAnswerWithinBudget, DeadlineExceeded, EngineFailed or Drained, each
            with the usage record. EngineFailed is also raised if a role failed that the request requires.
        RoleMissing, CapabilityMissing: Before the first call.
        CallRejected: The engine rejected the request itself.
    """
    _check_capabilities(run)
    spec = run.spec
    run.trace.emit(
        RunStarted(
            at=run.trace.elapsed,
            id=spec.id,
            strategy=spec.strategy.name,
            params=spec.params.model_dump(),
            models={role: each.engine.model for role, each in spec.upstreams.items()},
        )
    )
    for about, what in spec.notes.items():
        run.note(about, what)
    _note_temperature(run)
    _note_width(run)
    try:
        reason = await _run_strategy(run)
    except BaseException as error:
        _report_failure(run, error)
        raise
    return _conclude(run, reason)


def _note_temperature(run: LiveRun) -> None:
    """Add a note if the strategy's temperature overrides the client's."""
    own, requested = getattr(run.spec.params, "temperature", None), run.spec.sampling.temperature
    if None not in (own, requested) and own != requested:
        note = f"{own:g}, from the strategy's params; the requested {requested:g} has no effect"
        run.note("temperature", note)


def _note_width(run: LiveRun) -> None:
    """Add a note if the client's `width` is above the number of drafts, and so limits nothing."""
    params = run.spec.params
    width = getattr(params, "width", None) if "width" in params.model_fields_set else None
    if width is not None and width > params.chains:
        run.note("width", f"{width} has the effect of {params.chains}, the number of drafts")


def _note_default_deadline(run: LiveRun, reason: StopReason) -> None:
    """Add a note if a deadline that the client did not choose ended the run."""
    if reason == "deadline" and run.spec.has_default_deadline:
        reduced, deadline = run.spec.notes.get("deadline_ms"), run.spec.limits.deadline_ms
        ended = f"the default of {deadline} ms ended the run; set budget.deadline_ms"
        run.note("deadline_ms", ended if reduced is None else f"{reduced}; it ended the run")


async def _run_strategy(run: LiveRun) -> StopReason:
    """Run the strategy and return the stop reason. Raises NoAnswer or CallRejected without an answer."""
    failure: SecondpassError | None = None
    reason: StopReason | None = None
    if run.spec.limits.deadline_ms is not None:
        run.scope.deadline = anyio.current_time() + run.spec.limits.deadline_ms / 1e3
    with run.scope:
        reason, failure = await _strategy_result(run)
        if run.has_answer:
            await unwrap_exception_group(run.decide_by_tests())
    if run.has_answer:
        run.elect_tested()
    if reason is not None and not run.scope.cancelled_caught:
        limit = run.budget.exceeded or (run.exhausted if reason == "finished" else None)
        return reason if limit is None else _BY_BUDGET[limit]
    interrupted: StopReason = "draining" if run.is_interrupted else "deadline"
    if failure is None:
        reason = interrupted
    elif isinstance(failure, BudgetExhausted):
        reason = _BY_BUDGET[failure.kind]
    else:
        if not isinstance(failure, RoleFailed):
            run.count_failure(failure)
        reason = "finished" if run.exhausted is None else _BY_BUDGET[run.exhausted]
    if run.scope.cancelled_caught:  # while the answer was tested
        reason = interrupted
    _accept_partial(run, reason, failure)
    _note_default_deadline(run, reason)
    # If the budget was exhausted, RoleFailed does not mean that the role failed.
    if not run.has_answer or (isinstance(failure, RoleFailed) and run.exhausted is None):
        raise _no_answer(run, failure)
    return reason


def _accept_partial(run: LiveRun, reason: StopReason, failure: SecondpassError | None) -> None:
    """Let a truncated draft be the answer if a limit ended the run, rather than a broken engine."""
    if reason not in ("finished", "draining") and not isinstance(failure, EngineError):
        is_broken = isinstance(cause_of(run, failure), EngineError)
        is_deadline = reason == "deadline"
        run.elect_partial(is_truncation_allowed=not is_broken, is_deadline=is_deadline)


async def _strategy_result(run: LiveRun) -> tuple[StopReason | None, SecondpassError | None]:
    """Run the strategy and elect its answer; return its stop reason, or the failure that ended it."""
    try:
        answer: object = await unwrap_exception_group(run.spec.strategy.body(run, run.spec.params))
        if not isinstance(answer, Candidate):
            kind = type(answer).__name__
            raise TypeError(
                f"strategy {run.spec.strategy.name!r} must return a Candidate, not {kind}"
            )
        if not run.has_answer or run.best != answer:
            run.elect(answer)
    except (BudgetExhausted, *ITEM_ERRORS) as error:
        return None, error
    return run.stop_reason, None


_BY_BUDGET: dict[str, StopReason] = {
    "tokens": "budget_tokens",
    "prompt_tokens": "budget_prompt_tokens",
    "calls": "budget_calls",
    "samples": "budget_samples",
    "cost": "budget_cost",
}


def _no_answer(run: LiveRun, failure: SecondpassError | None) -> SecondpassError:
    """Return the error of a run that ended without an answer."""
    spent = usage_record(run)
    if run.is_interrupted and failure is None:
        return errors.Drained("the service is shutting down", usage_record=spent)
    cause = cause_of(run, failure)
    if isinstance(cause, BudgetExhausted):
        return _over_budget(run, cause.kind, spent)
    if isinstance(cause, CallRejected) and cause.is_about_request:
        return cause
    if isinstance(cause, ReasoningTruncated) and cause.role == "actor":
        return errors.ReasoningOverLimit(cause.tokens, usage_record=spent)
    if cause is not None:
        return engine_fault(run, cause, failure, spent)
    deadline = run.spec.limits.deadline_ms
    return errors.DeadlineExceeded(
        f"no answer within the deadline of {deadline} ms; raise budget.deadline_ms",
        usage_record=spent,
    )


def usage_record(run: LiveRun) -> dict[str, Any]:
    """Return what the run has spent so far: `usage` by role, and `budget` by kind."""
    return {
        "usage": outcome.usage_by_role(run.trace.events, run.wasted),
        "budget": outcome.spending(run.budget),
    }


def _over_budget(
    run: LiveRun, kind: BudgetKind, spent: Mapping[str, Any]
) -> errors.NoAnswerWithinBudget:
    limit = getattr(run.spec.limits, f"max_{kind}")
    return errors.NoAnswerWithinBudget(kind, limit, usage_record=spent)


def _conclude(run: LiveRun, reason: StopReason) -> Outcome:
    """Emit the final events of a run with an answer and return its outcome."""
    events, best = run.trace.events, run.best
    if not run.has_streamed:
        run.trace.emit(AnswerDelta(at=run.trace.elapsed, text=best.text))
    total = run.trace.elapsed
    result = Outcome(
        candidate=best,
        stop_reason=reason,
        usage=outcome.usage_by_role(events, run.wasted),
        budget=outcome.spending(run.budget),
        timing=outcome.timing(events, total),
        degraded=dict(run.degraded) or None,
        saved=outcome.saved(events, run.skipped_samples) if reason == "consensus" else None,
        notes=outcome.notes(events),
        candidates=outcome.candidates(events, best),
    )
    run.trace.emit(
        RunFinished(
            at=total,
            stop_reason=reason,
            seconds=total,
            overhead=result.timing.orchestration / 1e3,
            wasted=run.wasted,
        )
    )
    return result


_FAILURE_CODES: dict[type[SecondpassError], str] = {
    CallRejected: "rejected",
    CapabilityMissing: "capability_missing",
    RoleMissing: "capability_missing",
}


def _report_failure(run: LiveRun, error: BaseException) -> None:
    """Emit the final event of a run without an answer."""
    if isinstance(error, errors.HttpError):
        reason = error.code
    elif isinstance(error, anyio.get_cancelled_exc_class()):
        reason = errors.ClientDisconnected.code
    else:
        reason = next(
            (name for kind, name in _FAILURE_CODES.items() if isinstance(error, kind)), "internal"
        )
    total = run.trace.elapsed
    run.trace.emit(
        RunFailed(
            at=total,
            reason=reason,
            seconds=total,
            overhead=outcome.timing(run.trace.events, total).orchestration / 1e3,
            wasted=run.wasted,
        )
    )


def _check_capabilities(run: LiveRun) -> None:
    """Raise RoleMissing or CapabilityMissing unless the engines meet the strategy's needs."""
    needs = run.spec.strategy.needs_for(run.spec.params, run.spec.task)
    for role, capabilities in needs.items():
        run.require(role, *capabilities)

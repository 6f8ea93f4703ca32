"""Reason why a run has no answer.

It is an engine, a limit of the budget, the token limit of a call, or the deadline. A limit may stop a run only because attempts broke before it. The attempt that got furthest therefore decides. If it broke,
the same request may succeed later. If a limit stopped it, the same request would reach the limit again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import anyio

from secondpass.service.common import errors
from secondpass.service.common.events import CallFinished
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.errors import (
    DEFAULT_RETRY_AFTER,
    BudgetExhausted,
    CallRejected,
    EngineError,
    EngineUnavailable,
    ReasoningTruncated,
    RoleFailed,
    SecondpassError,
    UnusableCompletion,
)
from secondpass.strategies.api.values import Role

FailedAttempt = tuple[CallFinished, EngineError | UnusableCompletion]
"""Usage record of a failed attempt, and its error."""


def cause_of(run: LiveRun, failure: SecondpassError | None) -> SecondpassError | None:
    """Return the error that explains why the run has no answer; None if only its deadline does.

    Args:
        run: A run that ended without an answer.
        failure: Error that ended the strategy; None if the deadline cancelled it.
    """
    if failure is None:
        return _furthest(run, None, "cancelled")
    if isinstance(failure, CallRejected) and failure.is_about_request:
        return failure
    if isinstance(failure, RoleFailed) and run.exhausted is None:
        return run.failures.get(failure.role or "actor", failure)
    limit = BudgetExhausted(run.exhausted) if run.exhausted is not None else None
    if isinstance(failure, BudgetExhausted):
        limit = failure
    return _furthest(run, limit, "truncated") or failure


def _furthest(
    run: LiveRun, limit: SecondpassError | None, stopped: Literal["truncated", "cancelled"]
) -> SecondpassError | None:
    """Return the error of the attempt that got furthest; `limit` if a limit or the deadline stopped it.

    Attempts stopped by the budget compare by tokens, those stopped by the deadline by time. Of equal attempts the failed one
    decides.
    """

    def progress(event: CallFinished) -> float:
        return event.seconds if stopped == "cancelled" else event.usage.completion

    found = limit
    most = max((progress(each) for each in _records(run) if each.end == stopped), default=0)
    for event, error in _failed_attempts(run):
        if _is_cause(error) and progress(event) >= most:
            found, most = error, progress(event)
    return found


def _is_cause(error: EngineError | UnusableCompletion) -> bool:
    if isinstance(error, CallRejected):
        return not error.is_about_request
    return isinstance(error, EngineError | ReasoningTruncated)


def engine_fault(
    run: LiveRun,
    cause: SecondpassError,
    failure: SecondpassError | None,
    usage_record: Mapping[str, Any],
) -> errors.EngineFault:
    """Return the HTTP error for a run without an answer because of the engine of `cause`.

    `failure` ended the strategy. The error is a 503 if the last reply to each call of the role was 429 or 503.
    """
    role: Role | None = getattr(cause, "role", None)
    last = {
        (event.purpose, event.index): error
        for event, error in _failed_attempts(run)
        if error.role in (role, None)
    }
    replies: list[SecondpassError] = list(last.values()) or [cause]
    overloads = [e for e in replies if isinstance(e, EngineUnavailable) and e.is_overloaded]
    kind = errors.EngineOverloaded if len(overloads) == len(replies) else errors.EngineFailed
    fault = kind(_description(cause, failure), role=role, usage_record=usage_record)
    if isinstance(fault, errors.EngineOverloaded):
        reported = [e.retry_after for e in overloads if e.retry_after is not None]
        fault.retry_after = max(reported, default=DEFAULT_RETRY_AFTER)
        has_retried = any(each.attempt > 1 and each.attempts for each in _records(run))
        time_left = run.scope.deadline - anyio.current_time()
        if has_retried and time_left < fault.retry_after:
            fault.should_retry = False
    return fault


def _description(cause: SecondpassError, failure: SecondpassError | None) -> str:
    """Describe the cause, with its engine and the role that the request requires, if any."""
    if isinstance(failure, RoleFailed) and cause is not failure:
        name = getattr(cause, "engine", "")
        return errors.excerpt(f"{failure}{f' (engine {name!r})' if name else ''}: {cause}")
    return errors.describe(cause)


def _records(run: LiveRun) -> Iterator[CallFinished]:
    return (event for event in run.trace.events if isinstance(event, CallFinished))


def _failed_attempts(run: LiveRun) -> Iterator[FailedAttempt]:
    """Yield the failed attempts in the order in which they ended."""
    for event in _records(run):
        if (error := run.failed_attempts.get(event.call)) is not None:
            yield event, error

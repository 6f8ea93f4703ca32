"""Invariants of token accounting, against the byte server's own count of the tokens that it generated."""

from __future__ import annotations

from secondpass.service.common.events import CallFinished, CallStarted
from secondpass.service.runs.outcome import usage_by_role
from tests.calls.byte_runs import ATTEMPTS, RETRIED, Served
from tests.calls.byte_script import Attempt


def check_accounting(served: Served) -> None:
    """Assert all invariants of token accounting."""
    check_limits(served)
    check_overruns(served)
    check_sums(served)
    check_requested_tokens(served)
    check_server_count(served)
    check_records(served)


def check_limits(served: Served) -> None:
    """Spent and withheld amounts exceed no limit, except by overruns; no lease is left."""
    budget = served.run.budget
    assert not budget.holdings
    for kind, limit in budget.limit.items():
        assert budget.spent[kind] <= limit + budget.overrun(kind)
        if served.is_capped:
            assert budget.spent[kind] + budget.withheld[kind] <= limit, kind
    assert len(served.votes) <= budget.spent["samples"] <= served.request.n


def check_overruns(served: Served) -> None:
    """An overrun needs a server that exceeds its cap, and no attempt starts after it."""
    budget, overruns = served.run.budget, [each for each in served.records if each.overrun]
    assert (budget.exceeded is not None) == bool(overruns)
    assert not (served.is_capped and overruns)
    for kind in ("tokens", "prompt_tokens"):
        assert budget.overrun(kind) <= sum(each.overrun for each in overruns)
    if overruns:
        events = served.run.trace.events
        later = events[events.index(overruns[0]) :]
        assert not any(isinstance(event, CallStarted) for event in later)
        if served.outcome is not None:
            assert served.outcome.stop_reason == f"budget_{budget.exceeded}"


def check_sums(served: Served) -> None:
    """Usage records sum to the spent budget, and wasted tokens are a part of the completion tokens."""
    budget, records = served.run.budget, served.records
    spent = budget.spent
    assert spent["tokens"] == sum(record.usage.completion for record in records)
    assert spent["prompt_tokens"] == sum(record.usage.prompt for record in records)
    assert spent["calls"] == sum(record.attempts for record in records)
    assert budget.withheld["tokens"] == sum(record.withheld for record in records)
    for record in records:
        assert 0 <= record.wasted <= record.usage.completion
        assert record.usage.prompt >= 0
        assert 1 <= record.attempt <= ATTEMPTS
        assert record.is_estimated or not record.withheld
    if served.is_fully_read and not served.request.limits:
        for attempt in range(1, ATTEMPTS + 1):
            retried = sum(b.retried for b in records if b.attempt == attempt)
            assert retried <= sum(b.attempt == attempt + 1 for b in records)
    for usage in usage_by_role(served.run.trace.events, served.run.wasted).values():
        assert 0 <= usage.wasted <= usage.completion


def check_requested_tokens(served: Served) -> None:
    """No request asks for tokens that the limit has no room for, by the server's count.

    Without this, calls could exceed the limit together. Tokens that a cancelled counting stream sent, but that were not
    read, are unknown to the client.
    """
    limit = served.run.budget.limit.get("tokens")
    if limit is None or not served.is_capped or (served.has_counts and not served.is_fully_read):
        return
    for attempt in served.attempts:
        assert attempt.requested < limit
        assert attempt.requested + attempt.total_cap <= limit


def check_server_count(served: Served) -> None:
    """The tokens that the server generated are spent or withheld, and spent if it reported all of them."""
    budget, generated = served.run.budget, sum(attempt.sent for attempt in served.attempts)
    if served.is_capped and (served.is_fully_read or not served.has_counts):
        assert generated <= budget.spent["tokens"] + budget.withheld["tokens"]
    is_reported = all(
        attempt.reported == attempt.sent and attempt.trouble is None for attempt in served.attempts
    )
    if is_reported and served.is_fully_read:
        assert budget.spent["tokens"] == generated
        assert not any(budget.withheld.values())


def check_records(served: Served) -> None:
    """Usage records of fully read attempts match the server's replies."""
    for record, attempt in served.matched():
        is_read = record.end != "cancelled" and not record.overrun
        if is_read and not served.request.is_visible:
            check_record(served, record, attempt)


def check_record(served: Served, record: CallFinished, attempt: Attempt) -> None:
    """The usage record of a fully read attempt matches the reply."""
    is_counted = attempt.dialect == "vllm" or (served.has_counts and attempt.script.running)
    if is_counted:
        assert attempt.counted <= record.usage.completion
        assert record.usage.completion <= max(attempt.counted, attempt.reported or 0)
        assert not record.withheld
    if attempt.trouble in RETRIED and record.end == "failed":
        assert record.retried or record.attempt == ATTEMPTS
    if attempt.reported is not None:
        assert not record.withheld
        assert record.usage.completion == max(attempt.counted, attempt.reported)
        if attempt.script.shape == "whole":
            assert not record.is_estimated
            assert record.usage.prompt == attempt.prompt
    elif not is_counted:
        assert record.is_estimated or attempt.script.final
        assert record.usage.completion + record.withheld == attempt.total_cap or not (
            record.is_estimated and served.is_capped
        )

"""Runs over the scripted engine, and assertions about their accounting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from secondpass.service.calls.admission import Admission
from secondpass.service.calls.retry import RetryPolicy
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.events import CallFinished, Trace, VerdictRecorded
from secondpass.service.common.limits import Limits, Price
from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec, SharedResources
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Engine
from secondpass.strategies.api.values import Message, PrefixPart, Role, Sampling

MATH = Task(kind="math")
OPEN = Task(kind="open")

ON_BOTH_BACKENDS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
"""Decorator for concurrency tests: asyncio and trio. All other async tests run on asyncio alone."""


def answers(*values: str) -> Script:
    """Return a script whose i-th completion has the i-th of `values` as its answer, cyclically."""
    return lambda _, index: Reply(
        f"Let me see.\n\nThe answer is \\boxed{{{values[index % len(values)]}}}."
    )


def constant_reply(text: str) -> Script:
    """Return a script that generates the same text for every call."""
    return lambda _call, _index: Reply(text)


def make_run(
    engine: Engine | Upstream | None = None,
    strategy: str = "single",
    params: Mapping[str, Any] | None = None,
    *,
    question: str = "What is 6 times 7?",
    task: Task = MATH,
    shared: SharedResources | None = None,
    trace: Trace | None = None,
    sampling: Sampling | None = None,
    task_is_explicit: bool = False,
    is_streamed: bool = False,
    returns_partial: bool = False,
    prices: Mapping[Role, Price] | None = None,
    others: Engine | Upstream | None = None,
    **limits: Any,
) -> LiveRun:
    """Create a run of `strategy` with the given fields of `Limits`.

    `engine` (default: a `ScriptedEngine`) serves all roles. With `others` it serves the actor only. An engine that is
    not an `Upstream` has unlimited admission slots and no retries; see `upstream`.
    """
    actor = upstream(engine or ScriptedEngine())
    other = actor if others is None else upstream(others)
    chosen = STRATEGIES[strategy]
    return LiveRun(
        RunSpec(
            id="run-test",
            strategy=chosen,
            params=chosen.params.model_validate(params or {}),
            messages=(Message(role="user", content=question),),
            task=task,
            upstreams={"actor": actor, "critic": other, "judge": other, "reward": other},
            limits=Limits(**limits),
            prices=prices or {},
            task_is_explicit=task_is_explicit,
            is_streamed=is_streamed,
            returns_partial=returns_partial,
            sampling=sampling or Sampling(),
            max_tokens_per_call=256,
        ),
        shared or SharedResources(Equivalence()),
        trace or Trace(),
    )


def upstream(
    engine: Engine | Upstream, *, attempts: int = 1, places: int | None = None
) -> Upstream:
    """Return the engine with `places` admission slots (None: unlimited) and a first retry pause of 1 ms."""
    if isinstance(engine, Upstream):
        return engine
    return Upstream(engine, Admission(places), RetryPolicy(attempts, initial_backoff=0.001))


def call_records(run: LiveRun) -> list[CallFinished]:
    """Return the finished calls of a run."""
    return [event for event in run.trace.events if isinstance(event, CallFinished)]


def assert_accounting_is_complete(run: LiveRun, engine: ScriptedEngine) -> None:
    """Assert that usage is within all limits, withheld amounts included, and equals the sum of the calls.

    Also assert that no lease and no call remains, and that continued tokens do not count as wasted.
    """
    for kind, limit in run.budget.limit.items():
        assert run.budget.spent[kind] + run.budget.withheld[kind] <= limit, kind
    assert run.budget.exceeded is None
    assert not run.budget.holdings
    assert not engine.running
    spent = run.budget.spent
    usages = [record.usage for record in call_records(run)]
    assert spent["tokens"] == sum(usage.completion for usage in usages)
    assert spent["prompt_tokens"] == sum(usage.prompt for usage in usages)
    assert spent["calls"] == sum(record.attempts for record in call_records(run))
    for role, tokens in _continued(run, engine).items():
        generated = sum(
            record.usage.completion for record in call_records(run) if record.role == role
        )
        assert generated - run.wasted[role] >= tokens, f"{role}: continued tokens count as wasted"


def _continued(run: LiveRun, engine: ScriptedEngine) -> Counter[Role]:
    """Count the tokens that later calls continued from, by role. A prefix of several calls counts once.

    Prefixes of a call's own retries are excluded: they are wasted if the call fails or its text is not used.
    """
    retried = {(e.role, e.purpose, e.index, e.messages) for e in call_records(run) if e.attempt > 1}
    kept: set[tuple[Role, tuple[Message, ...], tuple[PrefixPart, ...]]] = set()
    for call in engine.calls:
        if call.visible and (call.role, call.purpose, call.index, call.messages) in retried:
            continue
        prefix = call.prefix if isinstance(call.prefix, tuple) else ()
        for end, part in enumerate(prefix, 1):
            if isinstance(part, int):
                kept.add((call.role, call.messages, prefix[:end]))
    return Counter(role for role, _, _ in kept)


def assert_failures_are_counted(outcome: Outcome, run: LiveRun) -> None:
    """Assert that `degraded` counts, per role, calls that failed after all retries and unreadable replies."""
    failed = Counter[str](e.role for e in call_records(run) if e.end == "failed" and not e.retried)
    failed.update(
        e.role for e in run.trace.events if isinstance(e, VerdictRecorded) and e.how and e.error
    )
    for role, failures in failed.items():
        assert dict(outcome.degraded or {}).get(role, 0) >= failures, role  # type: ignore[call-overload]

"""Making runs over the scripted engine, as tests need them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from secondpass.service.calls.admission import Admission
from secondpass.service.calls.retry import RetryPolicy
from secondpass.service.calls.upstream import Upstream
from secondpass.service.common.events import CallFinished, Trace, VerdictSeen
from secondpass.service.common.limits import Limits, Price
from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec, Shared
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.engine import Engine
from secondpass.strategies.api.values import Message, PrefixPart, Role, Sampling

MATH = Task(kind="math")
OPEN = Task(kind="open")

ON_BOTH_BACKENDS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
"""Marks an async test of our own concurrency. All others run on asyncio alone."""


def answers(*values: str) -> Script:
    """A script whose i-th completion answers the i-th value, in turn."""
    return lambda _, index: Reply(
        f"Let me see.\n\nThe answer is \\boxed{{{values[index % len(values)]}}}."
    )


def says(text: str) -> Script:
    """A script that returns the same text for every call."""
    return lambda _call, _index: Reply(text)


def make_run(
    engine: Engine | Upstream | None = None,
    strategy: str = "single",
    params: Mapping[str, Any] | None = None,
    *,
    question: str = "What is 6 times 7?",
    task: Task = MATH,
    shared: Shared | None = None,
    trace: Trace | None = None,
    sampling: Sampling | None = None,
    task_is_explicit: bool = False,
    is_streamed: bool = False,
    prices: Mapping[Role, Price] | None = None,
    others: Engine | Upstream | None = None,
    **limits: Any,
) -> LiveRun:
    """A run of `strategy` over `engine` (default: a scripted one) in all roles, or with `others` in all but the actor's.

    A bare engine takes any number of calls at once, and none is retried; see `upstream`.
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
            sampling=sampling or Sampling(),
            max_tokens_per_call=256,
        ),
        shared or Shared(Equivalence()),
        trace or Trace(),
    )


def upstream(
    engine: Engine | Upstream, *, attempts: int = 1, places: int | None = None
) -> Upstream:
    """The engine with `places` calls at once (None: any number), and `attempts` attempts of each with hardly a pause."""
    if isinstance(engine, Upstream):
        return engine
    return Upstream(engine, Admission(places), RetryPolicy(attempts, initial_backoff=0.001))


def bills(run: LiveRun) -> list[CallFinished]:
    """The bills of the run's calls."""
    return [event for event in run.trace.events if isinstance(event, CallFinished)]


def assert_books_are_closed(run: LiveRun, engine: ScriptedEngine) -> None:
    """Assert that no limit was exceeded, no lease is held and no call is running."""
    for kind, limit in run.budget.limit.items():
        assert run.budget.spent[kind] <= limit, kind
    assert not run.budget.holdings
    assert not engine.running
    spent = run.budget.spent
    usages = [bill.usage for bill in bills(run)]
    assert spent["tokens"] == sum(usage.completion for usage in usages)
    assert spent["prompt_tokens"] == sum(usage.prompt for usage in usages)
    assert spent["calls"] == sum(bill.attempts for bill in bills(run))
    for role, tokens in _continued(run, engine).items():
        delivered = sum(bill.usage.completion for bill in bills(run) if bill.role == role)
        assert delivered - run.wasted[role] >= tokens, f"{role}: what was continued is no waste"


def _continued(run: LiveRun, engine: ScriptedEngine) -> Counter[Role]:
    """Tokens that later calls continued from, by role; those that several calls share count once.

    Not those that a call's own further attempts continued from: they are waste where the call fails or is not read.
    """
    again = {(e.role, e.purpose, e.index, e.messages) for e in bills(run) if e.attempt > 1}
    kept: set[tuple[Role, tuple[Message, ...], tuple[PrefixPart, ...]]] = set()
    for call in engine.calls:
        if call.visible and (call.role, call.purpose, call.index, call.messages) in again:
            continue
        prefix = call.prefix if isinstance(call.prefix, tuple) else ()
        for end, piece in enumerate(prefix, 1):
            if isinstance(piece, int):
                kept.add((call.role, call.messages, prefix[:end]))
    return Counter(role for role, _, _ in kept)


def assert_failures_are_counted(outcome: Outcome, run: LiveRun) -> None:
    """Assert that calls that failed for good and replies that could not be read are in the outcome, by role."""
    lost = Counter[str](b.role for b in bills(run) if b.end == "failed" and not b.retried)
    lost.update(
        e.role for e in run.trace.events if isinstance(e, VerdictSeen) and e.how and e.error
    )
    for role, failures in lost.items():
        assert dict(outcome.degraded or {}).get(role, 0) >= failures, role  # type: ignore[call-overload]

"""Token accounting of runs against each engine's own count, with and without limits."""

from contextlib import suppress
from typing import Any

import anyio
import pytest

from secondpass.service.common.errors import NoAnswer
from secondpass.service.common.events import CallDelta, Event, Trace
from secondpass.service.common.limits import Price
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run import LiveRun
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import Sampling
from secondpass.testing.support import call_records, make_run, upstream
from tests.engines.contract_support import Subject, becomes

pytestmark = pytest.mark.anyio

PRICES = {"actor": Price(prompt=0.0, completion=1.0)}
SAMPLES = 5


def drafting(subject: Subject, *, cap: int = 48, width: int | None = None, **more: Any) -> LiveRun:
    """Return a run of five drafts that end at different lengths, in requests of at most `width` drafts."""
    return make_run(
        upstream(subject.engine, places=4),
        "self_consistency",
        {"n": SAMPLES, "stop": "none", "width": width},
        sampling=Sampling(max_tokens=cap, temperature=1.0, seed=1),
        prices=PRICES,  # type: ignore[arg-type]
        **more,
    )


async def generated_since(subject: Subject, before: int) -> int:
    """Return the tokens that the engine has generated since `before`, once it is idle."""
    assert await becomes(subject, 0)
    after = await subject.count_generated()
    while True:
        await anyio.sleep(0.05)
        if after == (after := await subject.count_generated()):
            return after - before


@pytest.mark.parametrize(
    ("width", "limits"),
    [
        (None, {}),
        (None, {"max_tokens": 10_000}),
        (None, {"max_tokens": 120}),
        (None, {"max_tokens": 60}),
        (None, {"max_tokens": 1}),
        (None, {"max_cost": 100e-6}),
        (2, {"max_tokens": 60}),
        (1, {}),
        (1, {"max_tokens": 120}),
        (1, {"max_tokens": 7}),
        (1, {"max_cost": 20e-6, "max_tokens": 50}),
    ],
    ids=str,
)
async def test_a_run_spends_exactly_the_tokens_that_the_engine_generates(
    width: int | None, limits: dict[str, Any], subject: Subject
) -> None:
    before = await subject.count_generated()
    run = drafting(subject, width=width, **limits)
    with suppress(NoAnswer):
        await execute(run)
    budget = run.budget
    assert await generated_since(subject, before) == budget.spent["tokens"]
    assert budget.spent["tokens"] > 0 or budget.limit.get("tokens", 99) < (width or SAMPLES)
    assert not any(record.is_estimated or record.overrun for record in call_records(run))
    assert not any(budget.withheld.values())
    assert not budget.holdings
    for kind, limit in budget.limit.items():
        assert budget.spent[kind] <= limit
    for record in call_records(run):
        call = Call(role="actor", purpose="solve", messages=record.messages)
        prompt = await subject.engine.count_prompt(call)
        assert record.usage.prompt == prompt * record.attempts


async def test_cancelled_drafts_spend_what_the_engine_generated_to_two_tokens_per_draft(
    subject: Subject,
) -> None:
    scope, deltas = anyio.CancelScope(), 0

    def cancel_later(event: Event) -> None:
        nonlocal deltas
        deltas += isinstance(event, CallDelta)
        if deltas > 8:
            scope.cancel()

    before = await subject.count_generated()
    run = drafting(
        subject, cap=400, trace=Trace(cancel_later, keeps_deltas=True), max_tokens=16_384
    )
    with scope:
        await execute(run)
    assert scope.cancelled_caught
    spent = run.budget.spent["tokens"]
    assert spent > 0
    assert 0 <= await generated_since(subject, before) - spent <= 2 * SAMPLES
    assert not any(run.budget.withheld.values())

"""Contract tests for strategies that judge; the plug-in selects them by `signal`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from secondpass.service.engines.scripted.engine import Reply, Script, ScriptedEngine, arithmetic
from secondpass.service.equivalence.checker import Equivalence
from secondpass.service.runs.execute import execute
from secondpass.service.runs.run_spec import SharedResources
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CapabilityMissing
from secondpass.strategies.api.quoting import has_tokens
from secondpass.strategies.api.values import SOLVE, Capability
from secondpass.testing.contract import GARBAGE, assert_outcome_is_valid, faulty
from secondpass.testing.injections import INJECTIONS
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    call_records,
    make_run,
    upstream,
)

UNREADABLE_VERDICTS = [
    "",
    "correct or wrong",
    ":",
    "{" * 200,
    '{"verdict": "A", "verdict": "B"}',
    *GARBAGE,
]
LACKING: list[frozenset[Capability]] = [
    frozenset({"labels"}),
    frozenset({"schema"}),
    frozenset({"labels", "schema"}),
    frozenset({"labels", "schema", "logprobs", "reward", "prefix", "tokenize"}),
]


def _is_draft(call: Call) -> bool:
    return call.role == "actor" and call.purpose in (SOLVE, "extend")


def script_with_verdict(text: str, labels: Mapping[str, float] | None = None) -> Script:
    """Return a script with default drafts that answers every other call with `text` and `labels`."""

    def script(call: Call, index: int) -> Reply:
        return arithmetic(call, index) if _is_draft(call) else Reply(text, labels=labels or {})

    return script


@pytest.mark.parametrize("lacking", [frozenset[Capability](), *LACKING[:3]])
@pytest.mark.parametrize("text", UNREADABLE_VERDICTS)
@pytest.mark.anyio
async def test_answer_survives_unreadable_verdicts(
    name: str, text: str, lacking: frozenset[Capability]
) -> None:
    engine = ScriptedEngine(script_with_verdict(text), lacking=lacking)
    run = make_run(engine, name)
    outcome, missing = None, frozenset[Capability]()
    try:
        outcome = await execute(run)
    except CapabilityMissing as error:
        missing = frozenset(error.missing)
    if outcome is None:  # CapabilityMissing must be raised before the first call
        assert missing
        assert missing <= lacking
        assert not engine.calls
        return
    assert_outcome_is_valid(outcome, run)
    assert outcome.candidate.answer == "42"
    assert_accounting_is_complete(run, engine)


@pytest.mark.parametrize("lacking", LACKING)
@pytest.mark.anyio
async def test_missing_capabilities_are_handled_or_named(
    name: str, lacking: frozenset[Capability]
) -> None:
    actor, other = ScriptedEngine(), ScriptedEngine(name="lesser", lacking=lacking)
    run = make_run(actor, name, others=other)
    try:
        outcome = await execute(run)
    except CapabilityMissing as error:
        missing: tuple[str, ...] = (error.engine, *error.missing)
    else:
        missing = ()
        assert_outcome_is_valid(outcome, run)
        assert outcome.candidate.answer == "42"
    assert set(missing) <= {"lesser", *lacking}
    assert not run.budget.holdings


@pytest.mark.parametrize("fault", ["unavailable", "interrupt", "refuse"])
@ON_BOTH_BACKENDS
@pytest.mark.anyio
async def test_answer_survives_critic_failure(name: str, fault: str) -> None:
    actor, other = ScriptedEngine(), ScriptedEngine(faulty(1, fault))
    run = make_run(actor, name, others=upstream(other, attempts=2))
    outcome = await execute(run)
    assert_outcome_is_valid(outcome, run)
    assert outcome.candidate.answer == "42"
    failed = [record for record in call_records(run) if record.end == "failed"]
    assert bool(outcome.degraded) == bool(failed)
    assert not run.budget.holdings


@pytest.mark.parametrize("hostile", INJECTIONS)
@pytest.mark.anyio
async def test_candidates_cannot_inject_special_tokens_into_judge_prompts(
    name: str, hostile: str
) -> None:
    def script(call: Call, index: int) -> Reply:
        if _is_draft(call) and index % 2:
            return Reply(INJECTIONS[hostile])
        return arithmetic(call, index)

    engine = ScriptedEngine(script)
    async with Equivalence(workers=1) as equivalence:
        run = make_run(engine, name, shared=SharedResources(equivalence))
        outcome = await execute(run)
    assert_outcome_is_valid(outcome, run)
    assert_accounting_is_complete(run, engine)
    for call in engine.calls:
        if not _is_draft(call):
            assert not has_tokens(call.messages[-1].text)

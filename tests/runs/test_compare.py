"""The verb `compare`: pairwise comparison in both orders."""

from __future__ import annotations

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import EngineUnavailable, VerdictUnreadable
from secondpass.strategies.api.values import Candidate, Draw
from secondpass.testing.support import (
    ON_BOTH_BACKENDS,
    assert_accounting_is_complete,
    constant_reply,
    make_run,
)
from tests.runs.judges import LABELS_AND_SCHEMA, prefers_place, prefers_text, verdicts

pytestmark = pytest.mark.anyio

ONE, TWO = Candidate(text="It is 1."), Candidate(text="It is 2.")


@pytest.mark.parametrize(("place", "p", "winner"), [("A", 0.95, None), ("B", 0.7, None)])
async def test_position_bias_results_in_a_tie(place: str, p: float, winner: str | None) -> None:
    run = make_run(ScriptedEngine(prefers_place(place, p)))
    preference = await run.compare(ONE, TWO)
    assert preference.winner is winner
    assert preference.margin == pytest.approx(0)


@pytest.mark.parametrize(("p", "winner"), [(0.9, "b"), (0.6, None), (0.1, "a")])
async def test_win_requires_odds_of_two_to_one_over_both_orders(
    p: float, winner: str | None
) -> None:
    engine = ScriptedEngine(prefers_text("It is 2.", p))
    preference = await make_run(engine).compare(ONE, TWO)
    assert preference.winner == winner
    assert len(engine.calls) == len(preference.judgements) == 2


@pytest.mark.parametrize(("p", "winner"), [(0.9, "b"), (0.1, "a")])
async def test_win_without_probabilities_requires_agreement_of_both_orders(
    p: float, winner: str
) -> None:
    run = make_run(ScriptedEngine(prefers_text("It is 2.", p), lacking=LABELS_AND_SCHEMA))
    assert (await run.compare(ONE, TWO)).winner == winner
    stubborn = make_run(ScriptedEngine(constant_reply("A"), lacking=LABELS_AND_SCHEMA))
    tie = await stubborn.compare(ONE, TWO)
    assert (tie.winner, tie.margin) == (None, None)
    assert verdicts(stubborn)[-1].verdict == "tie"


async def test_degenerate_candidate_loses_without_a_call() -> None:
    engine = ScriptedEngine()
    run = make_run(engine)
    good, empty = Candidate(text="It is 42."), Candidate(text=" : ")
    assert (await run.compare(good, empty)).winner == "a"
    assert (await run.compare(empty, good)).winner == "b"
    assert (await run.compare(empty, empty)).winner is None
    assert not engine.calls


@ON_BOTH_BACKENDS
async def test_repeated_comparisons_of_a_pair_use_two_indices_each() -> None:
    engine = ScriptedEngine(prefers_text("It is 2.", 0.9), lacking=LABELS_AND_SCHEMA)
    run = make_run(engine)
    for index in range(3):
        before = len(engine.calls)
        await run.compare(ONE, TWO, index=index, draw=Draw(temperature=0.7))
        calls = engine.calls[before:]
        assert {call.index for call in calls} == {2 * index, 2 * index + 1}
        assert all(call.sampling.temperature == 0.7 for call in calls)
        for call in calls:  # even indices show the first candidate first
            text = call.messages[-1].text
            assert (text.index("It is 1.") < text.index("It is 2.")) == (call.index % 2 == 0)


@ON_BOTH_BACKENDS
async def test_failure_of_one_order_fails_the_comparison() -> None:
    def script(call: Call, _: int) -> Reply:
        return Reply("A" if call.index % 2 else "who knows")

    engine = ScriptedEngine(script, lacking=LABELS_AND_SCHEMA)
    run = make_run(engine)

    async def judge(index: int) -> object:
        return await run.compare(ONE, TWO, index=index)

    assert await run.map(judge, range(2), min_results=0) == [None, None]
    assert run.degraded == {"judge": 2}
    with pytest.raises(VerdictUnreadable):
        await run.compare(ONE, TWO)
    assert_accounting_is_complete(run, engine)


async def test_compare_raises_the_error_of_a_failed_engine() -> None:
    engine = ScriptedEngine(lambda *_: Reply("A", fault="unavailable"))
    run = make_run(engine)
    with pytest.raises(EngineUnavailable):
        await run.compare(ONE, TWO)
    assert set(run.degraded) == {"judge"}

"""Label reads of drafts and of their steps, and the effects of failed reads."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import (
    DegenerateCandidate,
    EngineUnavailable,
    VerdictUnreadable,
)
from secondpass.strategies.api.ranking import log_odds, probability_of
from secondpass.strategies.api.values import Completion, Message
from secondpass.strategies.judging.p_true import PTrue, calibrated_p_true, p_true
from secondpass.strategies.judging.step_grades import graded_draft
from secondpass.testing.support import make_run

pytestmark = pytest.mark.anyio

QUESTION = (Message(role="user", content="What is 6 times 7?"),)
DRAFT = Completion.of("It is \\boxed{42}.", QUESTION)
STEPS = "I count.\n\nI add.\n\nSo \\boxed{42}."


def reads(first: Reply, second: Reply) -> ScriptedEngine:
    """Return an engine that replies `first` if label A is "right" in the prompt, else `second`."""
    return ScriptedEngine(lambda call, _: first if "A) right" in call.messages[-1].text else second)


def labels(right: float, mass: float = 1.0) -> tuple[Reply, Reply]:
    """Return the replies of a judge without a position bias for the probability `right`."""
    a = Reply("A", labels={"A": mass * right, "B": mass * (1 - right)})
    b = Reply("B", labels={"A": mass * (1 - right), "B": mass * right})
    return a, b


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_the_log_odds_of_both_orders_are_averaged(one: float, other: float) -> None:
    async def read() -> PTrue:
        return await p_true(make_run(reads(labels(one)[0], labels(other)[1])), DRAFT)

    found = anyio.run(read)
    assert found.probability == pytest.approx(probability_of((log_odds(one) + log_odds(other)) / 2))


async def test_each_order_is_one_token_at_temperature_0_after_the_draft() -> None:
    engine = reads(*labels(0.8, mass=0.5))
    found = await p_true(make_run(engine), DRAFT, role="critic")
    assert [found.probability, found.mass] == pytest.approx([0.8, 0.5])
    assert len({call.messages[-1].text for call in engine.calls}) == len(engine.calls) == 2
    for call in engine.calls:
        assert (call.role, call.purpose, call.labels) == ("critic", "p_true", ("A", "B"))
        assert (call.sampling.temperature, call.sampling.max_tokens) == (0, 1)
        assert call.messages[:-1] == (*QUESTION, Message(role="assistant", content=DRAFT.text))
        assert call.messages[-1].text.endswith("Reply with A or B and nothing else.")


DOWN = Reply("", fault="unavailable")


@pytest.mark.parametrize("failing", ["one", "both"])
async def test_a_failed_read_leaves_no_probability_and_is_counted_once(failing: str) -> None:
    good, _ = labels(0.8)
    engine = reads(DOWN, DOWN) if failing == "both" else reads(good, DOWN)
    run = make_run(engine)
    with pytest.raises(EngineUnavailable):
        await p_true(run, DRAFT)
    run = make_run(engine)
    assert await calibrated_p_true(run, DRAFT) is None
    assert run.degraded == {"judge": 1 if failing == "one" else 2}


async def test_without_label_probabilities_there_is_no_grade() -> None:
    engine = ScriptedEngine(lambda *_: Reply("A"), lacking=frozenset({"labels"}))
    with pytest.raises(VerdictUnreadable, match="'A' has no label probabilities"):
        await p_true(make_run(engine), DRAFT)
    assert await calibrated_p_true(make_run(engine), DRAFT) is None


@pytest.mark.parametrize("text", ["", " ...", "no " * 60])
async def test_a_degenerate_draft_is_not_judged(text: str) -> None:
    engine = reads(*labels(0.8))
    with pytest.raises(DegenerateCandidate, match="nothing to judge"):
        await p_true(make_run(engine), Completion.of(text, QUESTION))
    assert await calibrated_p_true(make_run(engine), Completion.of(text, QUESTION)) is None
    assert not engine.calls


async def test_an_exhausted_budget_leaves_no_probability() -> None:
    run = make_run(reads(*labels(0.8)), max_calls=1)
    assert await calibrated_p_true(run, DRAFT) is None
    assert run.exhausted == "calls"


def steps_read(*grades: Reply) -> ScriptedEngine:
    """Return an engine with a draft of three steps, whose step i is graded by the reply grades[i]."""

    def script(call: Call, _index: int) -> Reply:
        if not call.labels:
            return Reply(STEPS)
        return grades[call.messages[-2].text.strip().count("\n\n")]

    return ScriptedEngine(script)


def step(yes: float) -> Reply:
    return Reply("yes", labels={"yes": yes, "no": 1 - yes})


async def test_a_step_with_an_unreadable_grade_is_skipped_and_counted() -> None:
    engine = steps_read(step(0.9), DOWN, step(0.6))
    run = make_run(engine)
    found = await graded_draft(run, index=0, temperature=0.7)
    assert found is not None
    assert found.draft.text == STEPS
    assert list(found.grades) == pytest.approx([0.9, 0.6])
    assert found.combined("last") == pytest.approx(0.6)
    assert run.degraded == {"judge": 1}
    assert {call.purpose for call in engine.calls if call.labels} == {"step_right"}


async def test_a_draft_with_a_step_graded_too_low_is_aborted() -> None:
    engine = steps_read(step(0.9), step(0.2), step(0.9))
    assert await graded_draft(make_run(engine), index=0, temperature=0.7, abandon_below=0.3) is None
    assert len([call for call in engine.calls if call.labels]) == 2


async def test_a_draft_without_graded_steps_has_no_grade() -> None:
    found = await graded_draft(make_run(steps_read(DOWN, DOWN, DOWN)), index=0, temperature=0.7)
    assert found is not None
    assert (found.grades, found.mass, found.combined("mean")) == ((), 0.0, None)

"""Chains that doubt themselves: when the doubt counts, when it does not, and when it is not raised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.engines.scripted import Reply, Script, ScriptedEngine
from secondpass.service.events import NoteMade
from secondpass.service.execute import execute
from secondpass.service.run import LiveRun
from secondpass.strategies import prompts
from secondpass.strategies.boundaries import is_safe_end
from secondpass.strategies.core import Call, Candidate, Sampling
from secondpass.strategies.deepening import Readings
from tests.support import assert_books_are_closed, make_run

TRIGGER = prompts.PROMPTS["deepen"]
BALLOT = st.one_of(st.none(), st.integers(0, 2))


def segments(*values: str) -> Script:
    """A script whose chains answer the values, one after each trigger."""

    def script(call: Call, _index: int) -> Reply:
        held = call.prefix if isinstance(call.prefix, str) else ""
        return Reply(f"{held}So \\boxed{{{values[held.count(TRIGGER)]}}}.")

    return script


def notes(run: LiveRun) -> dict[str, str]:
    return {event.about: event.what for event in run.trace.events if isinstance(event, NoteMade)}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("values", "answer", "calls"),
    [
        (("42", "42"), "42", 2),  # agrees at once, and ends
        (("41", "42", "42"), "42", 3),  # a confirmed change
        (("42", "41", "42"), "42", 3),  # a flip-flop: the answer that came back
        (("42", "41", "40"), "42", 3),  # a change that nothing confirms
    ],
)
async def test_a_changed_answer_counts_when_it_is_given_twice(
    values: tuple[str, ...], answer: str, calls: int
) -> None:
    engine = ScriptedEngine(segments(*values))
    run = make_run(engine, "iterative_deepening", {"n": 1})
    outcome = await execute(run)
    assert outcome.candidate.answer == answer
    assert len(engine.calls) == calls
    assert_books_are_closed(run, engine)


@pytest.mark.anyio
async def test_chains_that_are_not_needed_are_aborted_in_the_engine() -> None:
    engine = ScriptedEngine(segments("42", "42"))
    run = make_run(engine, "iterative_deepening", {"n": 3, "width": 1})
    outcome = await execute(run)
    assert outcome.stop_reason == "consensus"
    assert len(engine.calls) < 6
    assert_books_are_closed(run, engine)


@pytest.mark.anyio
async def test_a_draft_that_the_client_capped_is_not_gone_on_with_and_never_votes() -> None:
    engine = ScriptedEngine(segments("42"))
    sampling = Sampling(max_tokens=1)
    run = make_run(engine, "iterative_deepening", {"n": 1}, sampling=sampling)
    outcome = await execute(run)
    assert outcome.candidate.answer is None
    assert len(engine.calls) == 1
    assert "length" in notes(run)["not deepened"]


@given(st.lists(BALLOT, min_size=1, max_size=6))
def test_the_first_answer_never_gives_way_to_one_that_came_up_once(
    ballots: list[int | None],
) -> None:
    readings = Readings()
    for position, ballot in enumerate(ballots):
        readings.add(Candidate(text="t", index=position), ballot)
    candidate, best = readings.best
    answered = [ballot for ballot in ballots if ballot is not None]
    assert ballots[candidate.index] == best
    if answered and best != answered[0]:
        assert sum(ballot == best for ballot in answered) >= 2


PLAIN = st.text("ab 1.\n", max_size=20)


@given(PLAIN, st.sampled_from(["\\boxed{", "```\n", "<tool_call>"]), PLAIN)
def test_an_open_box_fence_or_tool_call_is_never_a_safe_end(
    before: str, opening: str, inside: str
) -> None:
    closing = {"\\boxed{": "}", "```\n": "\n```", "<tool_call>": "</tool_call>"}[opening]
    assert is_safe_end(before)
    assert not is_safe_end(before + opening + inside)
    assert is_safe_end(before + opening + inside + closing)


def test_escaped_braces_open_nothing() -> None:
    assert is_safe_end(r"The set \{1, 2")

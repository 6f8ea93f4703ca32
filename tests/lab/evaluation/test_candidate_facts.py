"""Revisions and verdicts are found by texts: by hand, and in a run whose critic speaks."""

from __future__ import annotations

import json

import pytest

from secondpass.service.common.events import CallFinished, Event, VerdictSeen
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.lab.evaluation.candidate_facts import (
    CandidateFacts,
    candidate_facts,
    revision_chain,
)
from secondpass.service.lab.evaluation.records import RunRecord, from_outcome
from secondpass.service.runs.execute import execute
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import SOLVE, Candidate, LabelRead, Message, Role, Usage
from secondpass.testing.support import make_run

DRAFT, REVISED, DRAWN = "It is 41, I think.", "It is 42, I think.", "Surely 42."


def call(
    role: Role, purpose: str, text: str, *shown: str, labels: LabelRead | None = None
) -> CallFinished:
    messages = tuple(Message(role="user", content=each) for each in shown)
    return CallFinished(
        call=0, role=role, purpose=purpose, index=0, end="finished", usage=Usage(), texts=(text,), messages=messages, labels=labels
    )  # fmt: skip


def candidates(*texts: str) -> list[Candidate]:
    return [Candidate(text=text, answer=None, index=i) for i, text in enumerate(texts)]


REFINED: list[Event] = [
    call("actor", SOLVE, DRAFT, "How much?"),
    call("critic", "feedback", "...", f"Look at\n<<<\n{DRAFT}\n>>>\n"),
    VerdictSeen(role="critic", purpose="feedback", verdict="revise"),
    call("actor", "refine", f"Review: bad.\n\n{REVISED}", "Again."),
    call("actor", SOLVE, DRAWN, "How much?"),
    call("critic", "feedback", "...", f"Look at\n<<<\n{REVISED}\n>>>\n"),
    VerdictSeen(role="critic", purpose="feedback", verdict="ok"),
]


def test_a_revision_and_the_verdicts_on_it_and_its_draft_are_found() -> None:
    told = candidate_facts(REFINED, candidates(DRAFT, REVISED, DRAWN))
    assert told == [
        CandidateFacts(False, False),
        CandidateFacts(True, True),
        CandidateFacts(False, None),
    ]
    assert revision_chain(candidates(DRAFT, REVISED, DRAWN), told) == [0, 1]


def test_where_two_drafts_came_before_a_revision_no_chain_is_claimed() -> None:
    told = [CandidateFacts(), CandidateFacts(), CandidateFacts(is_revision=True)]
    assert revision_chain(candidates("a", "b", "c"), told) is None
    assert revision_chain(candidates("a"), [CandidateFacts()]) is None


def test_a_verdict_is_on_the_longest_text_that_was_shown() -> None:
    events = [
        call("critic", "critique", "...", f"Is this right? {DRAFT} Surely."),
        VerdictSeen(role="critic", purpose="critique", verdict="wrong"),
    ]
    told = candidate_facts(events, candidates("It is 41", DRAFT))
    assert [each.accepted for each in told] == [None, False]


@pytest.mark.parametrize("role", ["judge", "critic"])
def test_words_that_are_no_verdict_and_judges_who_are_no_critics_count_for_nothing(
    role: Role,
) -> None:
    word = "A" if role == "critic" else "wrong"
    events = [call(role, "x", "", DRAFT), VerdictSeen(role=role, purpose="x", verdict=word)]
    assert candidate_facts(events, candidates(DRAFT)) == [CandidateFacts()]


@pytest.mark.parametrize(("first", "second", "accepted"), [(0.9, 0.4, True), (0.6, 0.1, False)])
def test_both_orders_of_p_true_are_one_verdict(first: float, second: float, accepted: bool) -> None:
    """The probability of "right" is `first` where it is A, and `second` where it is B."""
    events = [
        call("critic", "p_true", "", DRAFT, f"A) {a}\nB) {b}",
             labels=LabelRead(probabilities={"A": p, "B": 1 - p}, mass=1.0))
        for a, b, p in (("right", "wrong", first), ("wrong", "right", 1 - second))
    ]  # fmt: skip
    assert candidate_facts(events, candidates(DRAFT)) == [CandidateFacts(accepted=accepted)]


@pytest.mark.anyio
async def test_a_run_with_a_critic_makes_turns_and_verdicts() -> None:
    def script(call: Call, index: int) -> Reply:
        if call.role == "critic":
            is_wrong = "41" in call.messages[-1].text
            said = {"issues": ["41 is wrong"], "verdict": "revise" if is_wrong else "ok"}
            return Reply(json.dumps(said))
        answer = 41 if call.purpose == SOLVE and index == 0 else 42
        return Reply(f"The answer is \\boxed{{{answer}}}.")

    run = make_run(ScriptedEngine(script), "self_refine")
    outcome = await execute(run)
    made = from_outcome(
        outcome, "42", str.__eq__, question="q", strategy="self_refine", events=run.trace.events
    )
    assert isinstance(made, RunRecord)
    assert made.correct
    assert [(turn.correct, turn.accepted) for turn in made.turns] == [(False, False), (True, None)]
    assert [each.is_revision for each in made.candidates].count(True) == 1

"""Revisions and verdicts matched by text, in constructed events and in a real run."""

from __future__ import annotations

import json

import pytest

from secondpass.service.common.events import CallFinished, Event, VerdictRecorded
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.lab.evaluation.candidate_facts import (
    CandidateFacts,
    candidate_facts,
    revision_chain,
)
from secondpass.service.lab.evaluation.records import RunRecord, from_outcome
from secondpass.service.runs.execute import execute
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import (
    SOLVE,
    Candidate,
    LabelDistribution,
    Message,
    Role,
    Usage,
)
from secondpass.testing.support import make_run

DRAFT, REVISED, RESAMPLED = "It is 41, I think.", "It is 42, I think.", "Surely 42."


def call(
    role: Role, purpose: str, text: str, *shown: str, labels: LabelDistribution | None = None
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
    VerdictRecorded(role="critic", purpose="feedback", verdict="revise"),
    call("actor", "refine", f"Review: bad.\n\n{REVISED}", "Again."),
    call("actor", SOLVE, RESAMPLED, "How much?"),
    call("critic", "feedback", "...", f"Look at\n<<<\n{REVISED}\n>>>\n"),
    VerdictRecorded(role="critic", purpose="feedback", verdict="ok"),
]


def test_revision_and_verdicts_of_a_refined_draft() -> None:
    facts = candidate_facts(REFINED, candidates(DRAFT, REVISED, RESAMPLED))
    assert facts == [
        CandidateFacts(False, False),
        CandidateFacts(True, True),
        CandidateFacts(False, None),
    ]
    assert revision_chain(candidates(DRAFT, REVISED, RESAMPLED), facts) == [0, 1]


def test_no_chain_after_two_drafts() -> None:
    facts = [CandidateFacts(), CandidateFacts(), CandidateFacts(is_revision=True)]
    assert revision_chain(candidates("a", "b", "c"), facts) is None
    assert revision_chain(candidates("a"), [CandidateFacts()]) is None


def test_a_verdict_belongs_to_the_longest_matching_text() -> None:
    events = [
        call("critic", "critique", "...", f"Is this right? {DRAFT} Surely."),
        VerdictRecorded(role="critic", purpose="critique", verdict="wrong"),
    ]
    facts = candidate_facts(events, candidates("It is 41", DRAFT))
    assert [each.accepted for each in facts] == [None, False]


@pytest.mark.parametrize("role", ["judge", "critic"])
def test_other_words_and_other_roles_are_ignored(
    role: Role,
) -> None:
    word = "A" if role == "critic" else "wrong"
    events = [call(role, "x", "", DRAFT), VerdictRecorded(role=role, purpose="x", verdict=word)]
    assert candidate_facts(events, candidates(DRAFT)) == [CandidateFacts()]


@pytest.mark.parametrize(("first", "second", "accepted"), [(0.9, 0.4, True), (0.6, 0.1, False)])
def test_both_orders_of_p_true_form_one_verdict(
    first: float, second: float, accepted: bool
) -> None:
    """The probability of "right" is `first` as label A and `second` as label B."""
    events = [
        call("critic", "p_true", "", DRAFT, f"A) {a}\nB) {b}",
             labels=LabelDistribution(probabilities={"A": p, "B": 1 - p}, mass=1.0))
        for a, b, p in (("right", "wrong", first), ("wrong", "right", 1 - second))
    ]  # fmt: skip
    assert candidate_facts(events, candidates(DRAFT)) == [CandidateFacts(accepted=accepted)]


@pytest.mark.anyio
async def test_record_of_a_run_with_a_critic() -> None:
    def script(call: Call, index: int) -> Reply:
        if call.role == "critic":
            is_wrong = "41" in call.messages[-1].text
            critique = {"issues": ["41 is wrong"], "verdict": "revise" if is_wrong else "ok"}
            return Reply(json.dumps(critique))
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

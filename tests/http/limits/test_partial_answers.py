"""`budget.partial`: a truncated draft is the answer when a limit ends a run that has nothing better."""

from __future__ import annotations

import json
from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from secondpass.testing.support import constant_reply
from tests.http.serving import Served, events_of, serving

NUMBERS = " ".join(map(str, range(2000)))
SLOW = {"deadline_ms": 250}
TASKS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {}, True),
    ({"task": {"kind": "open"}}, {}, True),
    ({"task": {"kind": "math"}}, {}, False),
    ({"task": {"kind": "choice", "options": ["a", "b"]}}, {}, False),
    ({"task": {"kind": "code"}}, {}, False),
    ({"task": {"kind": "math"}}, {"partial": True}, True),
    ({"task": {"kind": "math"}}, {"partial": None}, False),
    ({}, {"partial": False}, False),
]


def served_by(text: str = NUMBERS, **engine: Any) -> Any:
    return serving(ScriptedEngine(constant_reply(text), **{"per_token": 0.01} | engine))


def chat(served: Served, **extension: Any) -> Any:
    messages = [{"role": "user", "content": "Count."}]
    body = {"model": "scripted@single", "messages": messages, "secondpass": extension}
    return served.post("/v1/chat/completions", body)


@pytest.fixture(scope="module")
def served() -> Any:
    with served_by() as service:
        yield service


@pytest.mark.parametrize(("task", "budget", "is_partial"), TASKS)
@pytest.mark.parametrize("strategy", ["single", "self_consistency", "self_refine"])
def test_a_draft_truncated_by_the_deadline_is_returned_unless_an_answer_is_extracted(
    served: Served,
    strategy: str,
    task: dict[str, Any],
    budget: dict[str, Any],
    is_partial: bool,
) -> None:
    reply = served.solve(strategy=strategy, budget=SLOW | budget, **task)
    document = reply.json()
    if not is_partial:
        assert (reply.status_code, document["code"]) == (504, "deadline")
        return
    assert reply.status_code == 200
    assert document["text"].startswith("0 1 2 3 4")
    assert len(document["text"]) < len(NUMBERS)
    assert (document["answer"], document["confidence"]) == (None, None)
    assert (document["finish_reason"], document["stop_reason"]) == ("length", "deadline")
    assert "partial" in document["notes"]


@pytest.mark.parametrize(("task", "budget", "is_partial"), TASKS)
def test_a_draft_truncated_by_the_token_budget_is_returned_likewise(
    served: Served,
    task: dict[str, Any],
    budget: dict[str, Any],
    is_partial: bool,
) -> None:
    reply = served.solve(budget={"max_tokens": 10} | budget, **task)
    document = reply.json()
    if not is_partial:
        assert (reply.status_code, document["code"]) == (422, "budget_exhausted")
        return
    assert document["text"] == "0 1 2 3 4 5 6 7 8 9"
    assert (document["finish_reason"], document["stop_reason"]) == ("length", "budget_tokens")
    assert document["answer"] is None
    assert document["usage"]["actor"]["wasted"] == 0


@pytest.mark.parametrize(("task", "budget", "is_partial"), TASKS)
def test_chat_returns_a_truncated_draft_by_the_same_rule(
    served: Served,
    task: dict[str, Any],
    budget: dict[str, Any],
    is_partial: bool,
) -> None:
    reply = chat(served, budget=SLOW | budget, **task)
    document = reply.json()
    if not is_partial:
        assert (reply.status_code, document["error"]["code"]) == (504, "deadline")
        return
    [choice] = document["choices"]
    assert choice["finish_reason"] == document["secondpass"]["finish_reason"] == "length"
    assert choice["message"]["content"].startswith("0 1 2 3 4")
    assert document["secondpass"]["stop_reason"] == "deadline"


def test_a_stream_of_a_strategy_that_does_not_stream_ends_with_the_truncated_draft(
    served: Served,
) -> None:
    reply = served.solve(strategy="self_consistency", stream=True, budget=SLOW)
    events = events_of(reply.text)
    written = "".join(data["text"] for kind, _, data in events if kind == "answer.delta")
    assert events[-1][0] == "run.finished"
    assert written == events[-1][2]["text"] != ""


@pytest.mark.parametrize("value", ["yes", 1, [], {}])
def test_partial_must_be_a_boolean(served: Served, value: Any) -> None:
    reply = served.solve(budget={"partial": value})
    assert (reply.status_code, reply.json()["field"]) == (422, "budget.partial")
    refused = chat(served, budget={"partial": value})
    assert refused.json()["error"]["param"] == "secondpass.budget.partial"


def test_a_truncated_draft_with_a_finished_answer_has_that_answer() -> None:
    with served_by(f"The answer is \\boxed{{42}}. Then {NUMBERS}") as served:
        document = served.solve(budget=SLOW | {"partial": False}).json()
    assert (document["answer"], document["finish_reason"]) == ("42", "length")


def test_a_candidate_precedes_a_longer_truncated_draft() -> None:
    def script(call: Call, index: int) -> Reply:
        return Reply("It is 42." if index == 0 else NUMBERS)

    with serving(ScriptedEngine(script, per_token=0.01)) as served:
        strategy = {"name": "self_consistency", "params": {"n": 2}}
        document = served.solve(strategy=strategy, budget=SLOW | {"partial": True}).json()
    assert (document["answer"], document["finish_reason"]) == ("42", "stop")
    assert "partial" not in document["notes"]


def test_without_any_text_a_deadline_is_an_error() -> None:
    with served_by(first_token=5) as served:
        assert served.solve(budget=SLOW | {"partial": True}).status_code == 504


def test_a_completion_that_repeats_is_a_truncated_answer() -> None:
    engine = ScriptedEngine(constant_reply("I am here to help you. " * 5000))
    with serving(engine) as served:
        document = served.solve(strategy="single", trace="summary").json()
        completion = chat(served).json()
    assert (document["finish_reason"], document["stop_reason"]) == ("length", "finished")
    assert (document["answer"], document["confidence"]) == (None, None)
    assert document["usage"]["actor"]["completion"] < 1500
    assert document["notes"]["repetition"].startswith("1 of the completions")
    assert document["trace"][0]["finish_reasons"] == ["repetition"]
    assert completion["choices"][0]["finish_reason"] == "length"
    assert engine.delivered < 3000


def test_a_vote_excludes_drafts_that_repeat() -> None:
    def script(call: Call, index: int) -> Reply:
        return Reply("The answer is 41 " * 5000 if index < 2 else "The answer is 42.")

    with serving(ScriptedEngine(script)) as served:
        strategy = {"name": "self_consistency", "params": {"n": 4, "stop": "none"}}
        document = served.solve(strategy=strategy, task={"kind": "math"}).json()
    assert document["answer"] == "42"
    assert json.loads(json.dumps(document["notes"]))["repetition"].startswith("2 of")

"""POST /solve: answers, traces, streams, budgets and engine failures."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from secondpass.service.common.events import CallFinished
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.http.render import event_document
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import Usage
from secondpass.testing.support import answers, constant_reply
from tests.http.serving import QUESTION, Served, events_of, serving
from tests.polling import wait_until

ANSWER_FIELDS = {
    "id",
    "created",
    "strategy",
    "params",
    "models",
    "task",
    "text",
    "answer",
    "confidence",
    "confidence_kind",
    "finish_reason",
    "stop_reason",
    "degraded",
    "saved",
    "notes",
    "usage",
    "budget",
    "timing",
}


def vote(**params: Any) -> dict[str, Any]:
    return {"name": "self_consistency", "params": params}


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_answers_with_default_params(served: Served, name: str) -> None:
    reply = served.solve(strategy=name)
    assert reply.status_code == 200, reply.text
    assert (reply.json()["strategy"], reply.json()["answer"]) == (name, "42")
    chat = {"model": f"scripted@{name}", "messages": [{"role": "user", "content": "6 times 7?"}]}
    assert served.post("/v1/chat/completions", chat).status_code == 200


def test_a_temperature_without_effect_is_noted(served: Served) -> None:
    def notes(strategy: str, temperature: float) -> Any:
        return served.solve(strategy=strategy, sampling={"temperature": temperature}).json()[
            "notes"
        ]

    for name, strategy in STRATEGIES.items():
        own = getattr(strategy.defaults, "temperature", None)
        note = notes(name, 0.2).get("temperature")
        assert note == (
            own and f"{own:g}, from the strategy's params; the requested 0.2 has no effect"
        )
        assert own is None or "temperature" not in notes(name, own)
    notes("single", 0.2)
    assert served.engine.calls[-1].sampling.temperature == 0.2


def test_text_streamed_before_the_deadline_is_not_an_answer() -> None:
    with serving(ScriptedEngine(constant_reply("word " * 100), per_token=0.02)) as served:
        reply = served.solve(stream=True, trace="summary", budget={"deadline_ms": 300})
    best = events_of(reply.text)[-1][2]["candidates"][-1]
    assert best["answer"] is None
    assert best["why"] == "truncated after it was streamed"


def test_the_operators_max_n_applies_to_default_params() -> None:
    with serving(max_n=3) as served:
        for name in ("self_consistency", "critic_retry"):
            reply = served.solve(strategy=name)
            assert (reply.status_code, reply.json()["field"]) == (422, "strategy.params.n")
        fewer = {"name": "critic_retry", "params": {"mode": "sequential"}}
        assert served.solve(strategy=fewer).status_code == 200


def test_an_answer_reports_the_run_and_its_usage() -> None:
    # The event loop's clock has millisecond resolution.
    with serving(ScriptedEngine(first_token=0.01)) as slow:
        reply = slow.solve(strategy=vote(n=4, stop="none"))
    document = reply.json()
    assert reply.status_code == 200
    assert set(document) == ANSWER_FIELDS
    assert document["answer"] == "42"
    assert document["confidence"] == 0.75
    assert document["confidence_kind"] == "vote_share"
    assert document["stop_reason"] == "finished"
    assert document["task"] == {"kind": "math", "guessed": True}
    assert document["models"]["actor"] == "scripted"
    assert document["params"]["n"] == 4
    assert document["usage"]["actor"]["completion"] == 60
    assert document["budget"]["max_tokens"] == {"limit": 16384, "spent": 60}
    assert document["timing"]["total"] >= document["timing"]["engine"] > 0
    assert float(reply.headers["x-secondpass-overhead-ms"]) >= 0


def test_the_trace_context_reaches_every_call(served: Served) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    served.engine.calls.clear()
    served.post("/solve", QUESTION, headers={"traceparent": parent})
    assert {call.traceparent for call in served.engine.calls} == {parent}


@pytest.mark.parametrize(
    "parent",
    [
        b"\xff",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-\xe9",
    ],
)
def test_an_invalid_trace_context_is_replaced(served: Served, parent: bytes) -> None:
    served.engine.calls.clear()
    with served.client() as client:
        reply = client.post("/solve", json=QUESTION, headers={b"traceparent": parent})
    assert reply.status_code == 200
    made = reply.headers["x-request-id"].removeprefix("req_")
    assert {str(call.traceparent)[3:35] for call in served.engine.calls} == {made}


def test_a_question_equals_a_conversation_of_one_message(served: Served) -> None:
    message = {"role": "user", "content": QUESTION["question"]}
    question = served.post("/solve", QUESTION).json()
    conversation = served.post("/solve", {"messages": [message]}).json()
    assert question["text"] == conversation["text"]


def test_an_early_consensus_reports_its_savings() -> None:
    with serving(ScriptedEngine(answers("42"))) as served:
        document = served.solve(strategy=vote(n=16)).json()
    assert document["stop_reason"] == "consensus"
    assert document["confidence"] == 1
    assert document["saved"]["samples"] > 0


def test_an_explicit_task_changes_the_prompt_and_is_reported(served: Served) -> None:
    options = ["41", "42"]
    document = served.solve(task={"kind": "choice", "options": options}).json()
    assert document["task"] == {"kind": "choice", "options": options, "guessed": False}
    assert served.engine.calls[-1].messages[-1].text != QUESTION["question"]


def test_only_a_full_trace_contains_the_texts_of_calls(served: Served) -> None:
    summary = served.solve(strategy=vote(n=3), trace="summary").json()
    full = served.solve(strategy=vote(n=3), trace="full").json()
    assert len(summary["candidates"]) == len(full["candidates"]) == 3
    assert all("texts" not in call and "messages" not in call for call in summary["trace"])
    assert full["trace"][0]["texts"]
    assert full["trace"][0]["messages"] == [{"role": "user", "content": QUESTION["question"]}]


def test_a_full_trace_contains_all_messages_of_a_call(served: Served) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "6 times 7?"}]},
        {"role": "assistant", "content": "41"},
        {"role": "user", "content": "Sure?"},
    ]
    full = served.post("/solve", {"messages": turns, "trace": "full"}).json()
    assert full["trace"][0]["messages"] == turns


def test_a_very_small_cost_is_not_rounded_away() -> None:
    usage = Usage(prompt=1, completion=1)
    event = CallFinished(
        at=12.3456789012,
        call=0,
        role="actor",
        purpose="solve",
        index=0,
        end="finished",
        usage=usage,
        cost=1.23456e-9,
    )
    document = event_document(event, "summary")
    assert document["cost"] == 1.23456e-9
    assert document["at"] == 12.3456789


def test_a_spent_budget_ends_the_run_with_its_best_answer(served: Served) -> None:
    document = served.solve(strategy=vote(width=1), budget={"max_calls": 2}).json()
    assert document["stop_reason"] == "budget_calls"
    assert document["budget"]["max_calls"] == {"limit": 2, "spent": 2}


def test_a_budget_too_small_for_an_answer_is_an_error_that_reports_it(served: Served) -> None:
    reply = served.solve(budget={"max_prompt_tokens": 1})
    problem = reply.json()
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-should-retry"] == "false"
    assert problem["code"] == "budget_exhausted"
    assert problem["field"] == "budget.max_prompt_tokens"
    assert problem["budget"]["max_prompt_tokens"] == {"limit": 1, "spent": 0}


def test_a_deadline_without_an_answer_is_a_504() -> None:
    with serving(ScriptedEngine(first_token=5)) as served:
        reply = served.solve(budget={"deadline_ms": 100})
    assert reply.status_code == 504
    assert reply.json()["code"] == "deadline"
    assert reply.headers["x-should-retry"] == "false"
    assert reply.elapsed.total_seconds() < 1


def test_an_engine_failure_is_a_502_that_names_the_role() -> None:
    def fails(_call: Call, _index: int) -> Reply:
        return Reply("never", fault="unavailable")

    with serving(ScriptedEngine(fails)) as served:
        reply = served.solve()
    assert reply.status_code == 502
    assert reply.json()["role"] == "actor"


def test_a_call_rejected_by_the_engine_is_a_422_with_its_message() -> None:
    with serving(ScriptedEngine(window=5)) as served:
        reply = served.solve(question="word " * 50)
    assert reply.status_code == 422
    assert "context holds 5" in reply.json()["detail"]


def test_a_request_id_is_echoed_or_generated(served: Served) -> None:
    body = QUESTION
    given = served.post("/solve", body, headers={"x-request-id": "abc-1"})
    made = served.post("/solve", body, headers={"x-request-id": "a b (c)"})
    assert given.headers["x-request-id"] == "abc-1"
    assert re.fullmatch(r"req_[0-9a-f]{32}", made.headers["x-request-id"])


def test_a_stream_contains_the_events_of_the_run_and_ends_with_the_answer(served: Served) -> None:
    reply = served.solve(stream=True)
    events = events_of(reply.text)
    names = [name for name, _, _ in events]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert names[:2] == ["run.started", "call.started"]
    assert names[-1] == "run.finished"
    assert [number for _, number, _ in events] == list(range(len(events)))
    assert "call.delta" not in names
    assert set(events[-1][2]) == ANSWER_FIELDS
    streamed = "".join(data["text"] for name, _, data in events if name == "answer.delta")
    assert streamed == events[-1][2]["text"]


def test_only_a_full_trace_streams_the_deltas_of_calls(served: Served) -> None:
    full = events_of(served.solve(stream=True, trace="full", strategy=vote(n=3)).text)
    deltas = [data["text"] for name, _, data in full if name == "call.delta"]
    assert "".join(deltas)
    assert full[-1][2]["trace"]


def test_a_run_that_fails_during_its_stream_ends_with_the_problem() -> None:
    with serving(ScriptedEngine(first_token=5)) as served:
        reply = served.solve(stream=True, budget={"deadline_ms": 100})
    name, _, problem = events_of(reply.text)[-1]
    assert reply.status_code == 200
    assert name == "error"
    assert problem["status"] == 504
    assert problem["code"] == "deadline"


def test_an_idle_stream_sends_keep_alive_comments() -> None:
    with serving(ScriptedEngine(first_token=0.3), keep_alive_seconds=0.05) as served:
        text = served.solve(stream=True).text
    assert text.count(": keep-alive\n\n") >= 3
    assert events_of(text)[-1][0] == "run.finished"


@pytest.fixture
def chatty() -> Iterator[Served]:
    text = " ".join(map(str, range(200_000)))  # not a loop, which would end the completion
    with serving(ScriptedEngine(constant_reply(text), tokens_per_delta=50)) as served:
        yield served


def test_a_slow_client_does_not_delay_the_run(chatty: Served) -> None:
    body = QUESTION | {
        "stream": True,
        "sampling": {"max_tokens": 100_000},
        "budget": {"max_tokens": 100_000},
    }
    with chatty.open("/solve", body):
        wait_until(lambda: bool(chatty.engine.calls))
        wait_until(lambda: not chatty.engine.running)


def test_runs_over_the_limit_get_a_503_with_retry_after() -> None:
    with serving(ScriptedEngine(first_token=5), max_runs=1) as served, served.client() as client:
        with served.open("/solve", QUESTION):
            wait_until(lambda: bool(served.engine.running))
            refused = client.post("/solve", json=QUESTION)
        wait_until(lambda: not served.engine.running)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1


def test_an_engine_that_is_not_ready_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedEngine, "ready", False)
    monkeypatch.setattr(ScriptedEngine, "why_not_ready", "it sleeps")
    with serving() as served:
        refused, ready = served.solve(), served.get("/readyz")
    assert refused.status_code == ready.status_code == 503
    assert "it sleeps" in refused.json()["detail"]
    assert ready.json()["reasons"] == [
        f"{role}: not ready" for role in ("actor", "critic", "judge")
    ]


def test_a_connection_serves_several_requests(served: Served) -> None:
    with served.client() as client:
        replies = [client.post("/solve", json=QUESTION) for _ in range(3)]
    assert {reply.status_code for reply in replies} == {200}


def test_params_of_a_variant_are_flat_in_json(served: Served) -> None:
    given = {"stop": "esc", "window": 2, "n": 4, "confidence": 0.95, "warm_up": 4}
    returned = served.solve(strategy=vote(**given)).json()["params"]
    assert returned == returned | {"stop": "esc", "window": 2, "n": 4}
    assert "confidence" not in returned
    repeated = served.solve(strategy=vote(**returned)).json()
    assert repeated["params"] == returned

"""Invalid requests get a 4xx that names the field, and no call starts."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies import STRATEGIES
from tests.http.serving import QUESTION, Json, Served, serving

USER = {"role": "user", "content": "What is 6 times 7?"}
NESTED_BRACES = "{" * 101 + "}" * 101


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(max_n=64, max_budget_tokens=1000, default_max_tokens=500) as running:
        yield running
        assert running.engine.calls == []


def vote(**params: Any) -> Json:
    return {"strategy": {"name": "self_consistency", "params": params}}


BAD_SOLVES: list[tuple[str, Json, int, str, str]] = [
    ("an unknown strategy", {"strategy": "guessing"}, 404, "strategy", "self_consistency"),
    (
        "an unknown strategy in an object",
        {"strategy": {"name": "guessing"}},
        404,
        "strategy.name",
        "self_consistency",
    ),
    ("a strategy without letters", {"strategy": ""}, 404, "strategy", "self_consistency"),
    ("a strategy of another type", {"strategy": 7}, 422, "strategy", ""),
    ("a strategy without a name", {"strategy": {}}, 422, "strategy.name", "missing"),
    ("an unknown field", {"quesion": "?"}, 422, "quesion", "question"),
    (
        "an unknown field of a strategy",
        {"strategy": {"name": "single", "parms": {}}},
        422,
        "strategy.parms",
        "allowed: name, params",
    ),
    ("an unknown param", vote(widnow=3), 422, "strategy.params.widnow", "window"),
    ("a param of another type", vote(n="3"), 422, "strategy.params.n", "integer"),
    ("no samples", vote(n=0), 422, "strategy.params.n", "must be at least 1, not 0"),
    ("a million samples", vote(n=1_000_000), 422, "strategy.params.n", "64"),
    ("a width of 0", vote(width=0), 422, "strategy.params.width", "1"),
    ("a param with an unknown value", vote(stop="never"), 422, "strategy.params.stop", "esc"),
    ("equal samples", vote(n=3, temperature=0), 422, "strategy.params.temperature", "same"),
    ("an unknown model", {"models": {"actor": "gpt"}}, 404, "models.actor", "scripted"),
    ("an unknown role", {"models": {"boss": "scripted"}}, 422, "models.boss", "critic"),
    ("a task of an unknown kind", {"task": {"kind": "riddle"}}, 422, "task.kind", "choice"),
    ("a task without its kind", {"task": {}}, 422, "task.kind", "missing"),
    (
        "samples where they have no effect",
        {"strategy": {"name": "self_prm", "params": {"samples": 2}}},
        422,
        "strategy.params.samples",
        "samples: has no effect with grade 'solution'",
    ),
    (
        "a window where it has no effect",
        vote(window=6),
        422,
        "strategy.params.window",
        "window: has no effect with stop 'adaptive'; omit it, or set stop = 'esc'",
    ),
    (
        "a warm-up where it has no effect",
        vote(stop="esc", warm_up=3),
        422,
        "strategy.params.warm_up",
        "set abort = True or stop = 'share'",
    ),
    (
        "a param of the wrong type in a variant",
        vote(stop="esc", window=2.5),
        422,
        "strategy.params.window",
        "integer",
    ),
    (
        "an unknown param without a near match",
        vote(samples=5),
        422,
        "strategy.params.samples",
        "weight, width, window",
    ),
    (
        "an unknown param in another variant",
        vote(stop="lead", widnow=3),
        422,
        "strategy.params.widnow",
        "window",
    ),
    (
        "a first stage larger than n",
        vote(n=3, first=4),
        422,
        "strategy.params.first",
        "first: 4 is more than n = 3",
    ),
    ("a stop of another type", vote(stop=["esc"]), 422, "strategy.params.stop", "esc"),
    (
        "params that are not an object",
        {"strategy": {"name": "single", "params": []}},
        422,
        "strategy.params",
        "object",
    ),
    (
        "a fallback where it has no effect",
        {"strategy": {"name": "meta_rm", "params": {"meta": "none", "fallback": "error"}}},
        422,
        "strategy.params.fallback",
        "fallback: has no effect with meta 'none'",
    ),
    ("a choice without options", {"task": {"kind": "choice"}}, 422, "task.options", "options"),
    (
        "code without a sandbox",
        {"task": {"kind": "code", "tests": "assert 1"}},
        422,
        "task.tests",
        "sandbox",
    ),
    ("blank tests", {"task": {"kind": "code", "tests": " \n"}}, 422, "task.tests", "blank"),
    ("a blank question", {"question": " \n"}, 422, "question", "blank"),
    ("an empty question", {"question": ""}, 422, "question", "blank"),
    ("no question", {"question": None}, 422, "question", "missing"),
    ("a question and messages", {"messages": [USER]}, 422, "question", "cannot be combined"),
    (
        "a question and an empty conversation",
        {"messages": []},
        422,
        "question",
        "cannot be combined",
    ),
    (
        "an invisible question",
        {"question": "\u200b\u00a0\u2060\x00"},
        422,
        "question",
        "blank",
    ),
    ("deeply nested braces", {"question": NESTED_BRACES}, 422, "question", "100"),
    (
        "deeply nested braces in an option",
        {"task": {"kind": "choice", "options": ["a", NESTED_BRACES]}},
        422,
        "task.options.1",
        "100",
    ),
    ("an unknown trace", {"trace": "loud"}, 422, "trace", "summary"),
    ("a stream of another type", {"stream": "yes"}, 422, "stream", "boolean"),
    ("a background run", {"background": True}, 422, "background", "not supported"),
    ("a temperature of 3", {"sampling": {"temperature": 3}}, 422, "sampling.temperature", "2"),
    (
        "too large a top_k",
        {"sampling": {"top_k": 2**31}},
        422,
        "sampling.top_k",
        "must be below 2147483648, not 2147483648",
    ),
    ("too many stops", {"sampling": {"stop": ["a"] * 17}}, 422, "sampling.stop", "at most 16"),
    ("unknown sampling", {"sampling": {"heat": 1}}, 422, "sampling.heat", "temperature"),
    (
        "an empty stop string",
        {"sampling": {"stop": ["a", ""]}},
        422,
        "sampling.stop.1",
        "at least 1",
    ),
    (
        "too large a max_tokens",
        {"sampling": {"max_tokens": 131_073}},
        422,
        "sampling.max_tokens",
        "131072",
    ),
    (
        "a cost limit without prices",
        {"budget": {"max_cost": 1.5}},
        422,
        "budget.max_cost",
        "prices",
    ),
    ("too large a budget", {"budget": {"max_tokens": 1001}}, 422, "budget.max_tokens", "1000"),
    *(
        (
            f"a budget of 0: {name}",
            {"budget": {name: 0}},
            422,
            f"budget.{name}",
            f"must be {'above 0' if name == 'max_cost' else 'at least 1'}, not 0",
        )
        for name in (
            "max_tokens",
            "max_prompt_tokens",
            "max_calls",
            "max_samples",
            "max_cost",
            "deadline_ms",
        )
    ),
]

BAD_CONVERSATIONS: list[tuple[str, Any, str, str]] = [
    ("no messages", [], "messages", "empty"),
    ("a blank system turn", [{"role": "system", "content": " "}], "messages.0.content", "blank"),
    ("an unknown role", [{"role": "boss", "content": "?"}], "messages.0.role", "assistant"),
    ("no role", [{"content": "?"}], "messages.0.role", "missing"),
    ("an unknown field", [USER | {"mood": "bad"}], "messages.0.mood", "tool_call_id"),
    ("a blank message", [USER, {"role": "user", "content": " "}], "messages.1.content", "blank"),
    (
        "an invisible message",
        [{"role": "user", "content": "\u200b"}],
        "messages.0.content",
        "blank",
    ),
    ("a number as content", [{"role": "user", "content": 5}], "messages.0.content", "string"),
    (
        "an unknown part",
        [{"role": "user", "content": [{"type": "audio"}]}],
        "messages.0.content.0.type",
        "image_url",
    ),
    (
        "a part without its text",
        [{"role": "user", "content": [{"type": "text"}]}],
        "messages.0.content.0.text",
        "missing",
    ),
    (
        "deeply nested braces in a message",
        [{"role": "user", "content": NESTED_BRACES}],
        "messages.0.content",
        "100",
    ),
]


@pytest.mark.parametrize(
    ("fields", "status", "field", "expected"),
    [case[1:] for case in BAD_SOLVES],
    ids=[case[0] for case in BAD_SOLVES],
)
def test_an_invalid_solve_request_names_the_field(
    served: Served, fields: Json, status: int, field: str, expected: str
) -> None:
    reply = served.solve(**fields)
    problem = reply.json()
    assert reply.status_code == problem["status"] == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem["field"] == field
    assert expected in problem["detail"]
    assert served.engine.calls == []


@pytest.mark.parametrize(
    ("messages", "field", "expected"),
    [case[1:] for case in BAD_CONVERSATIONS],
    ids=[case[0] for case in BAD_CONVERSATIONS],
)
def test_an_invalid_conversation_names_the_message(
    served: Served, messages: Any, field: str, expected: str
) -> None:
    reply = served.post("/solve", {"messages": messages})
    problem = reply.json()
    assert reply.status_code == 422
    assert problem["field"] == field
    assert expected in problem["detail"]


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy": "x" * 5000},
        {"x" * 5000: 1},
        {"models": {"actor": "x" * 5000}},
        {"models": {"x" * 5000: "a"}},
        {"trace": "x" * 5000},
        {"messages": [{"role": "x" * 5000, "content": "a"}], "question": None},
        {"messages": [{"role": "user", "content": [{"type": "x" * 5000}]}], "question": None},
        {"task": {"kind": "x" * 5000}},
    ],
)
def test_no_error_repeats_more_than_200_characters(served: Served, fields: Json) -> None:
    reply = served.solve(**fields)
    assert 400 <= reply.status_code < 500
    assert reply.text.count("x") <= 210


def test_the_idempotency_key_header_is_rejected(served: Served) -> None:
    key = {"idempotency-key": "1"}
    reply = served.post("/solve", QUESTION, headers=key)
    assert reply.status_code == 422
    assert reply.json()["field"] == "Idempotency-Key"
    chat = {"model": "scripted@single", "messages": [USER]}
    refused = served.post("/v1/chat/completions", chat, headers=key)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "Idempotency-Key"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_missing_capability_names_engine_and_capability_and_starts_no_call(
    monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    strategy = replace(STRATEGIES["single"], needs={"actor": {"labels"}})
    monkeypatch.setattr("secondpass.service.http.resolve.STRATEGIES", {"single": strategy})
    chat = {"model": "scripted@single", "messages": [USER], "stream": is_stream}
    with serving(ScriptedEngine(lacking=frozenset({"labels"}))) as served:
        reply = served.solve(strategy="single", stream=is_stream)
        error = served.post("/v1/chat/completions", chat)
        metrics = served.get("/metrics").text
        assert served.engine.calls == []
    assert (reply.status_code, reply.json()["field"]) == (422, "strategy")
    assert (error.status_code, error.json()["error"]["param"]) == (400, "secondpass.strategy")
    assert "'scripted'" in reply.json()["detail"]
    assert "labels" in reply.json()["detail"]
    assert "secondpass_runs_in_flight 0.0" in metrics


@pytest.fixture(scope="module")
def capped() -> Iterator[Served]:
    engines = {"default": {"kind": "scripted", "prices": {"prompt": 1, "completion": 1}}}
    with serving(
        engine=None,
        engines=engines,
        max_budget_prompt_tokens=70,
        max_budget_calls=3,
        max_budget_samples=2,
        max_budget_cost=0.5,
        max_deadline_ms=60_000,
        default_deadline_ms=60_000,
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "most", "over"),
    [
        ("max_prompt_tokens", 70, 71),
        ("max_calls", 3, 4),
        ("max_samples", 2, 3),
        ("max_cost", 0.5, 0.6),
        ("deadline_ms", 60_000, 60_001),
    ],
)
def test_operator_maxima_are_inclusive_and_the_default(
    capped: Served, name: str, most: float, over: float
) -> None:
    refused = capped.solve(budget={name: over})
    assert (refused.status_code, refused.json()["field"]) == (422, f"budget.{name}")
    assert str(most) in refused.json()["detail"]
    assert capped.solve(budget={name: most}).json()["budget"][name]["limit"] == most
    assert capped.solve().json()["budget"][name]["limit"] == most


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/solve", 405)])
def test_unknown_paths_and_methods_are_problem_documents(
    served: Served, path: str, status: int
) -> None:
    reply = served.get(path)
    assert reply.status_code == status
    assert ("POST" in reply.json()["detail"]) is (status == 405)
    assert reply.headers["content-type"] == "application/problem+json"

"""An invalid request names the field that is wrong, by its path in that request, on both routes."""

from collections.abc import Iterator
from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.testing.support import constant_reply
from tests.http.serving import Json, Served, serving

CHAT = "/v1/chat/completions"
TURN: Json = {"role": "user", "content": "What is 6 times 7?"}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(max_n=64, max_budget_tokens=1000, default_max_tokens=500) as running:
        yield running
        assert running.engine.calls == []


def vote(**params: Any) -> Json:
    return {"name": "self_consistency", "params": params}


def named(name: str, **params: Any) -> Json:
    return {"name": name, "params": params}


def parts(*content: Any, role: str = "user") -> list[Json]:
    return [{"role": role, "content": list(content)}]


OPTIONS: list[tuple[Json, str, str]] = [
    # (fields of /solve, which chat has below `secondpass`; path of the invalid field; part of the message)
    ({"strategy": "guessing"}, "strategy", "self_consistency"),
    ({"strategy": named("guessing")}, "strategy.name", "self_consistency"),
    ({"strategy": {"nam": "single", "name": "single"}}, "strategy.nam", "allowed: name, params"),
    ({"strategy": {"params": {}}}, "strategy.name", "missing"),
    ({"strategy": {"name": 7}}, "strategy.name", "must be a string, not 7"),
    ({"strategy": ["single"]}, "strategy", "must be an object"),
    ({"strategy": {"name": "single", "params": 5}}, "strategy.params", "must be an object"),
    ({"strategy": named("single", n=2)}, "strategy.params.n", "unknown field"),
    ({"strategy": vote(n="3")}, "strategy.params.n", "must be an integer, not '3'"),
    ({"strategy": vote(n=2.5)}, "strategy.params.n", "must be an integer"),
    ({"strategy": vote(n=True)}, "strategy.params.n", "must be an integer, not true"),
    ({"strategy": vote(n=None)}, "strategy.params.n", "must be an integer, not null"),
    ({"strategy": vote(n=0)}, "strategy.params.n", "must be at least 1, not 0"),
    ({"strategy": vote(n=65)}, "strategy.params.n", "64"),
    ({"strategy": vote(first=9)}, "strategy.params.first", "9 is more than n = 8"),
    ({"strategy": vote(n=4, abort=True)}, "strategy.params.warm_up", "no sample to abort"),
    ({"strategy": vote(n=2, temperature=0)}, "strategy.params.temperature", "same"),
    ({"strategy": vote(temperature=2.5)}, "strategy.params.temperature", "at most 2"),
    ({"strategy": vote(window=6)}, "strategy.params.window", "has no effect"),
    ({"strategy": vote(stop="esc", window=1)}, "strategy.params.window", "at least 2"),
    ({"strategy": vote(stop="never")}, "strategy.params.stop", "'esc'"),
    ({"strategy": vote(weight="confident")}, "strategy.params.weight", "'p_true'"),
    ({"strategy": vote(widht=2)}, "strategy.params.widht", "width"),
    ({"strategy": named("self_prm", temperature=0)}, "strategy.params.temperature", "above 0"),
    ({"strategy": named("self_prm", n=65)}, "strategy.params.n", "at most 64"),
    ({"strategy": named("self_prm", grade="marks")}, "strategy.params.grade", "'steps'"),
    ({"strategy": named("self_prm", samples=2)}, "strategy.params.samples", "has no effect"),
    ({"strategy": named("meta_rm", shown=5)}, "strategy.params.shown", "at most 4"),
    ({"strategy": named("meta_rm", meta="best")}, "strategy.params.meta", "'auto'"),
    (
        {"strategy": named("meta_rm", meta="none", fallback="error")},
        "strategy.params.fallback",
        "has no effect",
    ),
    (
        {"strategy": named("meta_rm", meta="none", reward_saw_critiques=True)},
        "strategy.params.reward_saw_critiques",
        "no reward model",
    ),
    (
        {"strategy": named("self_refine", merged=True, feedback="none")},
        "strategy.params.merged",
        "no review",
    ),
    ({"strategy": named("self_refine", gate="vote")}, "strategy.params.gate", "n of at least 2"),
    ({"strategy": named("self_refine", gate="best")}, "strategy.params.gate", "or 'auto'"),
    (
        {"strategy": named("self_refine", rejected="go_on")},
        "strategy.params.rejected",
        "max_rounds",
    ),
    (
        {"strategy": named("critic_retry", mode="sequential", n=2)},
        "strategy.params.n",
        "one chain",
    ),
    (
        {"strategy": named("critic_retry", mode="parallel", max_rounds=2)},
        "strategy.params.max_rounds",
        "1 round",
    ),
    (
        {"strategy": named("critic_retry", mode="hybrid", schedule=True, temperature=1.5)},
        "strategy.params.schedule",
        "rises to",
    ),
    ({"strategy": named("iterative_deepening", agree=9)}, "strategy.params.agree", "segments"),
    ({"strategy": named("iterative_deepening", gamma=1.0)}, "strategy.params.gamma", "too small"),
    ({"task": {}}, "task.kind", "missing"),
    ({"task": "math"}, "task", "must be an object"),
    ({"task": {"kind": "riddle"}}, "task.kind", "'choice'"),
    ({"task": {"kind": "math", "option": []}}, "task.option", "options"),
    ({"task": {"kind": "choice", "options": ["a"]}}, "task.options", "2 to 26"),
    ({"task": {"kind": "choice", "options": ["a", " "]}}, "task.options.1", "blank"),
    ({"task": {"kind": "choice", "options": "ab"}}, "task.options", "must be a list"),
    ({"task": {"kind": "math", "options": ["a", "b"]}}, "task.options", "only kind 'choice'"),
    ({"task": {"kind": "math", "tests": "assert 1"}}, "task.tests", "only kind 'code'"),
    ({"models": ["scripted"]}, "models", "must be an object"),
    ({"models": {"boss": "scripted"}}, "models.boss", "'critic'"),
    ({"models": {"judge": 5}}, "models.judge", "must be a string, not 5"),
    ({"models": {"judge": "gpt"}}, "models.judge", "allowed: scripted"),
    ({"budget": 5}, "budget", "must be an object"),
    ({"budget": {"max_token": 5}}, "budget.max_token", "max_prompt_tokens"),
    ({"budget": {"max_tokens": 0}}, "budget.max_tokens", "at least 1, not 0"),
    ({"budget": {"max_tokens": 1001}}, "budget.max_tokens", "1000"),
    ({"budget": {"max_calls": 1.5}}, "budget.max_calls", "must be an integer, not 1.5"),
    ({"budget": {"max_cost": 1}}, "budget.max_cost", "prices"),
    ({"budget": {"max_cost": -1}}, "budget.max_cost", "above 0"),
    ({"budget": {"deadline_ms": "1s"}}, "budget.deadline_ms", "must be an integer, not '1s'"),
    ({"trace": "loud"}, "trace", "'summary'"),
    ({"trace": True}, "trace", "'summary'"),
]

MESSAGES: list[tuple[Any, str, str]] = [
    ([], "messages", ""),
    ("hi", "messages", "must be a list, not 'hi'"),
    (["hi"], "messages.0", "must be an object"),
    ([{}], "messages.0.role", "missing"),
    ([{"content": "hi"}], "messages.0.role", "missing"),
    ([{"role": "boss", "content": "hi"}], "messages.0.role", "'assistant'"),
    ([TURN, TURN | {"mood": "bad"}], "messages.1.mood", "allowed: annotations, audio, content"),
    ([TURN | {"content": 5}], "messages.0.content", "must be a string or a list, not 5"),
    ([TURN | {"content": ""}], "messages.0.content", "blank"),
    ([TURN | {"content": None}], "messages.0.content", "blank"),
    ([TURN | {"name": 5}], "messages.0.name", "must be a string, not 5"),
    (parts("hi"), "messages.0.content.0", "must be an object"),
    (parts({"type": "text", "text": "a"}, {"text": "a"}), "messages.0.content.1.type", "missing"),
    (
        parts({"type": "text", "text": "a"}, {"type": "audio"}),
        "messages.0.content.1.type",
        "must be one of 'text', 'image_url', 'refusal'",
    ),
    (parts({"type": "text"}), "messages.0.content.0.text", "missing"),
    (parts({"type": "text", "text": 5}), "messages.0.content.0.text", "must be a string, not 5"),
    (parts({"type": "text", "text": "a", "b": 1}), "messages.0.content.0.b", "text, type"),
    (parts({"type": "image_url", "image_url": "x"}), "messages.0.content.0.image_url", "object"),
    (
        parts({"type": "image_url", "image_url": {}}),
        "messages.0.content.0.image_url.url",
        "missing",
    ),
    (
        parts({"type": "image_url", "image_url": {"url": "data:x", "detail": "fine"}}),
        "messages.0.content.0.image_url.detail",
        "'high'",
    ),
    (
        [TURN, {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}],
        "messages.1.tool_calls.0.function.arguments",
        "missing",
    ),
    (
        [TURN, {"role": "assistant", "tool_calls": [{"id": 1, "function": "f"}]}],
        "messages.1.tool_calls.0.id",
        "must be a string",
    ),
    ([TURN | {"reasoning": "hm"}], "messages.0.reasoning", "only assistant turns"),
    ([TURN | {"refusal": "no"}], "messages.0.refusal", "only assistant turns"),
    (parts({"type": "refusal", "refusal": "no"}), "messages.0.content", "only assistant turns"),
    (
        [TURN, {"role": "assistant", "content": "a", "reasoning_content": 5}],
        "messages.1.reasoning_content",
        "must be a string, not 5",
    ),
    (
        [TURN, {"role": "assistant", "content": "a", "audio": {"id": "1"}}],
        "messages.1.audio",
        "must be null",
    ),
    (
        [TURN, {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}],
        "messages.1.function_call",
        "must be null",
    ),
    ([{"role": "system", "content": "\u200b"}], "messages.0.content", "blank"),
    ([{"role": "assistant", "reasoning": "hm"}], "messages.0.content", "blank"),
]

SAMPLING: list[tuple[Json, str, str]] = [
    # (sampling parameters, which chat has at the top level; the invalid one; part of the message)
    ({"temperature": -1}, "temperature", "at least 0"),
    ({"temperature": 2.1}, "temperature", "at most 2, not 2.1"),
    ({"temperature": "hot"}, "temperature", "must be a number, not 'hot'"),
    ({"top_p": 0}, "top_p", "above 0"),
    ({"top_p": 1.5}, "top_p", "at most 1"),
    ({"top_k": -2}, "top_k", "at least -1"),
    ({"min_p": 2}, "min_p", "at most 1"),
    ({"seed": -1}, "seed", "at least 0"),
    ({"seed": 0.5}, "seed", "must be an integer"),
    ({"max_tokens": 0}, "max_tokens", "at least 1"),
    ({"max_tokens": 131_073}, "max_tokens", "131072"),
    ({"stop": ["a", ""]}, "stop.1", "at least 1 characters"),
    ({"stop": ["a", 5]}, "stop.1", "must be a string, not 5"),
    ({"stop": ["a"] * 17}, "stop", "at most 16"),
    ({"presence_penalty": 3}, "presence_penalty", "at most 2"),
    ({"frequency_penalty": -3}, "frequency_penalty", "at least -2"),
    ({"repetition_penalty": 0}, "repetition_penalty", "above 0"),
]

CHAT_ONLY: list[tuple[Json, str, str]] = [
    ({"model": 5}, "model", "must be a string"),
    ({"model": "gpt"}, "model", "allowed: scripted"),
    ({"model": "scripted@guessing"}, "model", "self_consistency"),
    ({"max_completion_tokens": 0}, "max_completion_tokens", "at least 1"),
    ({"max_completion_tokens": 131_073}, "max_completion_tokens", "131072"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "max_completion_tokens"),
    ({"stop": ""}, "stop", "empty"),
    ({"stop": 5}, "stop", "must be a list"),
    ({"n": 2}, "n", "must be 1"),
    ({"tools": [{"type": "function"}]}, "tools", "must be []"),
    ({"stream": "yes"}, "stream", "must be a boolean, not 'yes'"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "stream"),
    (
        {"stream": True, "stream_options": {"usage": True}},
        "stream_options.usage",
        "include_usage",
    ),
    ({"user": 5}, "user", "must be a string"),
    ({"secondpass": []}, "secondpass", "must be an object"),
    ({"secondpass": {"stategy": "single"}}, "secondpass.stategy", "strategy"),
    ({"secondpass": {"params": {"n": 0}}}, "secondpass.params.n", "at least 1"),
    ({"secondpass": {"params": {"first": 9}}}, "secondpass.params.first", "more than n"),
    ({"secondpass": {"params": []}}, "secondpass.params", "must be an object"),
    (
        {"secondpass": {"params": {"n": 2}, "strategy": vote(n=2)}},
        "secondpass.params",
        "cannot be combined",
    ),
    ({"secondpass": {"strategy": "single"}}, "secondpass.strategy", "self_consistency"),
    ({"secondpass": {"strategy": named("single")}}, "secondpass.strategy.name", "must equal"),
    ({"secondpass": {"models": {"actor": "gpt"}}}, "secondpass.models.actor", "must equal model"),
    ({"secondpass": {"progress": True}}, "secondpass.progress", "stream"),
]

SOLVE_ONLY: list[tuple[Json, str, str]] = [
    ({"quesion": "?"}, "quesion", "question"),
    ({"question": 5}, "question", "must be a string, not 5"),
    ({"question": " "}, "question", "blank"),
    ({"sampling": []}, "sampling", "must be an object"),
    ({"sampling": {"heat": 1}}, "sampling.heat", "temperature"),
    ({"stream": 1}, "stream", "must be a boolean"),
]


def ids(cases: list[tuple[Any, str, str]]) -> list[str]:
    return [f"{number}-{field}" for number, (_, field, _) in enumerate(cases)]


def check_solve(served: Served, body: Json, field: str, expected: str) -> None:
    reply = served.post("/solve", body)
    problem = reply.json()
    assert reply.status_code in (404, 422), problem
    assert problem["field"] == field
    assert expected in problem["detail"]


def check_chat(served: Served, body: Json, field: str, expected: str) -> None:
    is_about_streams = "stream" in body or field in ("stream_options", "secondpass.progress")
    for streamed in ({},) if is_about_streams else ({}, {"stream": True}):
        reply = served.post(CHAT, streamed | body)
        error = reply.json()["error"]
        assert reply.status_code in (400, 404), error
        assert error["param"] == field
        assert error["message"].startswith(f"{field}: ")
        assert expected in error["message"]


@pytest.mark.parametrize(("fields", "field", "expected"), OPTIONS, ids=ids(OPTIONS))
def test_an_invalid_option_is_named(
    served: Served, fields: Json, field: str, expected: str
) -> None:
    check_solve(served, {"question": "6 * 7?"} | fields, field, expected)
    chat = {"model": "scripted", "messages": [TURN], "secondpass": fields}
    check_chat(served, chat, f"secondpass.{field}", expected)


@pytest.mark.parametrize(("messages", "field", "expected"), MESSAGES, ids=ids(MESSAGES))
def test_an_invalid_turn_is_named(served: Served, messages: Any, field: str, expected: str) -> None:
    check_solve(served, {"messages": messages}, field, expected)
    check_chat(served, {"model": "scripted@single", "messages": messages}, field, expected)


@pytest.mark.parametrize(("sampling", "field", "expected"), SAMPLING, ids=ids(SAMPLING))
def test_an_invalid_sampling_parameter_is_named(
    served: Served, sampling: Json, field: str, expected: str
) -> None:
    check_solve(served, {"question": "6 * 7?", "sampling": sampling}, f"sampling.{field}", expected)
    body = {"model": "scripted@single", "messages": [TURN]} | sampling
    check_chat(served, body, field, expected)


@pytest.mark.parametrize(("fields", "field", "expected"), CHAT_ONLY, ids=ids(CHAT_ONLY))
def test_an_invalid_field_of_chat_is_named(
    served: Served, fields: Json, field: str, expected: str
) -> None:
    body = {"model": "scripted@self_consistency", "messages": [TURN]} | fields
    check_chat(served, body, field, expected)


@pytest.mark.parametrize(("fields", "field", "expected"), SOLVE_ONLY, ids=ids(SOLVE_ONLY))
def test_an_invalid_field_of_solve_is_named(
    served: Served, fields: Json, field: str, expected: str
) -> None:
    check_solve(served, {"question": "6 * 7?"} | fields, field, expected)


def test_a_passed_deadline_and_an_exhausted_budget_name_their_limit() -> None:
    slow = ScriptedEngine(constant_reply("word " * 100), first_token=0.2)
    with serving(slow) as served:
        for budget, status in (({"deadline_ms": 20}, 504), ({"max_prompt_tokens": 1}, 422)):
            (name,) = budget
            solve = served.solve(budget=budget)
            assert (solve.status_code, solve.json()["field"]) == (status, f"budget.{name}")
            chat = {"model": "scripted", "messages": [TURN], "secondpass": {"budget": budget}}
            reply = served.post(CHAT, chat)
            assert reply.status_code == status
            assert reply.json()["error"]["param"] == f"secondpass.budget.{name}"

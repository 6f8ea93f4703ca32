"""Statuses of runs without an answer: 502 and 503 for the engine's faults, 422 and 504 for limits."""

import time
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.upstream import (
    DONE,
    Body,
    Handler,
    Upstream,
    chunk,
    endless,
    event,
    in_turn,
    plain,
    refuses,
    streams,
)
from tests.http.faults.breaking import CHAT, MESSAGES, WAYS, breaks, counted, in_front_of
from tests.http.serving import Json, Served, events_of
from tests.http.upstreams import generations

BUDGETS: tuple[Json, ...] = (
    {},
    {"max_calls": 1},
    {"max_calls": 2},
    {"max_tokens": 4},
    {"max_tokens": 30},
    {"max_samples": 1},
    {"deadline_ms": 300},
    {"max_tokens": 30, "deadline_ms": 600_000},
)
STRATEGIES: tuple[Any, ...] = (
    "single",
    {"name": "self_consistency", "params": {"n": 3}},
    {"name": "self_consistency", "params": {"n": 3, "width": 1}},
    "self_refine",
    "critic_retry",
)


def reasoning(*words: str, finish: str | None = None) -> Body:
    """Return a chunk of reasoning with its token count."""
    choice = {"index": 0, "delta": {"reasoning": "".join(words)}, "finish_reason": finish}
    return {"choices": [choice]}


def long_drafts(tokens: int) -> Handler:
    """Return a handler whose completions have `tokens` words, each counted, and reach the length limit."""
    return streams(*map(counted, range(tokens)), event(chunk(finish="length")), DONE)


@pytest.fixture(scope="module", params=[plain, long_drafts(2)], ids=["uncounted", "counted"])
def upstream(request: pytest.FixtureRequest) -> Upstream:
    """An upstream that counts tokens only at the end, or while it streams."""
    return Upstream(chat=request.param)


@pytest.fixture(scope="module")
def front(upstream: Upstream) -> Any:
    with in_front_of(upstream) as served:
        yield served


def test_an_engine_that_breaks_every_stream_is_always_a_502_with_its_role(
    front: Served, upstream: Upstream
) -> None:
    @settings(max_examples=30)
    @given(
        st.sampled_from(WAYS),
        st.integers(0, 3),
        st.sampled_from(BUDGETS),
        st.sampled_from(STRATEGIES),
        st.booleans(),
    )
    def check(how: str, after: int, budget: Json, strategy: Any, is_stream: bool) -> None:
        upstream.chat = breaks(after, how)
        reply = front.solve(strategy=strategy, budget=budget, stream=is_stream)
        problem = events_of(reply.text)[-1][2] if is_stream else reply.json()
        found = (problem["status"], problem["code"], problem.get("role"))
        assert found == (502, "engine_failed", "actor"), problem
        assert "engine 'default'" in problem["detail"]
        assert problem["usage"]["actor"]["calls"] >= 1
        assert "budget" in problem
        assert "x-should-retry" not in reply.headers

    check()


def test_a_budget_spent_by_an_engine_that_breaks_is_a_502() -> None:
    """The upstream counts tokens while it streams, so that the retry gets the rest of the budget."""
    upstream = Upstream(chat=long_drafts(8))
    with in_front_of(upstream) as front:
        upstream.chat = streams(*map(counted, range(12)))
        for limit in (12, 13, 20, 24, 30):
            reply = front.solve(strategy="single", budget={"max_tokens": limit})
            assert (reply.status_code, reply.json().get("role")) == (502, "actor"), limit
        upstream.chat = long_drafts(1000)
        reply = front.solve(strategy="single", budget={"max_tokens": 20}, task={"kind": "math"})
        assert (reply.status_code, reply.json()["code"]) == (422, "budget_exhausted")


def test_a_draft_that_the_budget_truncates_after_a_shorter_one_broke_is_a_422() -> None:
    upstream = Upstream(chat=long_drafts(8))
    with in_front_of(upstream) as front:
        upstream.chat = in_turn([breaks(1, "close"), *[long_drafts(1000)] * 9])
        reply = front.solve(strategy="single", budget={"max_tokens": 40}, task={"kind": "math"})
        assert (reply.status_code, reply.json()["code"]) == (422, "budget_exhausted")
        assert reply.headers["x-should-retry"] == "false"


def test_a_slow_engine_without_an_error_is_a_504(front: Served, upstream: Upstream) -> None:
    upstream.chat = endless
    reply = front.solve(strategy="single", task={"kind": "math"}, budget={"deadline_ms": 200})
    assert (reply.status_code, reply.json()["code"]) == (504, "deadline")
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405])
@pytest.mark.parametrize("path", ["/solve", CHAT])
def test_a_refused_key_and_a_missing_model_are_a_502_without_a_retry(
    status: int, path: str, front: Served, upstream: Upstream
) -> None:
    upstream.chat = refuses(status, {"error": {"message": "no such thing"}})
    upstream.requests.clear()
    body: Json = {"question": "?", "strategy": "single"}
    if path == CHAT:
        body = {"model": "model@single", "messages": MESSAGES}
    reply = front.post(path, body)
    problem = reply.json() if path == "/solve" else reply.json()["error"]
    assert (reply.status_code, problem["code"]) == (502, "engine_failed")
    message = problem["detail" if path == "/solve" else "message"]
    assert "engine 'default'" in message
    assert ("refuses the API key" in message) == (status in (401, 403))
    assert len(generations(upstream)) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_call_that_the_engine_rejects_is_the_clients_fault(
    status: int, front: Served, upstream: Upstream
) -> None:
    upstream.chat = refuses(status, {"error": {"message": "the prompt is too long"}})
    reply = front.solve(strategy="single")
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert "the prompt is too long" in reply.json()["detail"]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", ["math", "open"])
def test_a_token_limit_spent_on_reasoning_is_a_422_that_names_it(
    kind: str, n: int, front: Served, upstream: Upstream
) -> None:
    upstream.chat = streams(
        event(reasoning("Let me see. ") | {"usage": None}), event(reasoning(finish="length")), DONE
    )
    strategy = {"name": "self_consistency", "params": {"n": n}} if n > 1 else "single"
    reply = front.solve(strategy=strategy, task={"kind": kind}, sampling={"max_tokens": 77})
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (422, "reasoning_truncated")
    assert problem["field"] == "sampling.max_tokens"
    assert "all 77 tokens" in problem["detail"]
    assert problem["usage"]["actor"]["calls"] == n
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("path", ["/solve", CHAT])
def test_reasoning_that_repeats_itself_is_not_the_engines_fault(
    path: str, n: int, front: Served, upstream: Upstream
) -> None:
    loop = reasoning("Wait, let me check that again. " * 400) | {"usage": None}
    upstream.chat = streams(event(loop), *[event(reasoning("Wait. "))] * 9, DONE)
    strategy = {"name": "self_consistency", "params": {"n": n}}
    body: Json = {"question": "?", "strategy": strategy}
    if path == CHAT:
        extension = {"strategy": strategy}
        body = {"model": "model", "messages": MESSAGES, "secondpass": extension}
    reply = front.post(path, body)
    problem = reply.json() if path == "/solve" else reply.json()["error"]
    assert problem["code"] == "reasoning_truncated"
    assert reply.status_code == (422 if path == "/solve" else 400)
    assert problem.get("field") is problem.get("param") is None
    assert "repeated itself" in problem["detail" if path == "/solve" else "message"]


@pytest.mark.parametrize(
    ("tokens", "code"), [(77, "reasoning_truncated"), (0, "engine_failed")], ids=["hidden", "none"]
)
def test_a_token_limit_spent_on_hidden_reasoning_is_a_422(
    tokens: int, code: str, front: Served, upstream: Upstream
) -> None:
    usage = {"usage": {"prompt_tokens": 5, "completion_tokens": tokens}}
    upstream.chat = streams(event(chunk("")), event(chunk("", "length") | usage), DONE)
    reply = front.solve(strategy="single", sampling={"max_tokens": 77})
    assert reply.json()["code"] == code
    assert reply.status_code == (422 if tokens else 502)
    assert reply.json().get("field") == ("sampling.max_tokens" if tokens else None)


@pytest.mark.parametrize("kind", ["math", "open"])
@pytest.mark.parametrize("is_partial", [False, True])
def test_a_finished_completion_whose_usage_is_late_is_the_answer_at_the_deadline(
    is_partial: bool, kind: str, front: Served, upstream: Upstream
) -> None:
    upstream.chat = streams(
        event(chunk("The answer is \\boxed{42}.")), event(chunk("", "stop")), pause=0.4
    )
    reply = front.solve(
        strategy="single",
        task={"kind": kind},
        budget={"deadline_ms": 650, "partial": is_partial},
    )
    document = reply.json()
    assert reply.status_code == 200, reply.text
    assert document["text"] == "The answer is \\boxed{42}."
    assert (document["finish_reason"], document["stop_reason"]) == ("stop", "deadline")
    assert "partial" not in document["notes"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_chat_names_the_token_limit_by_the_field_of_the_request(
    is_stream: bool, field: str, front: Served, upstream: Upstream
) -> None:
    upstream.chat = streams(
        event(reasoning("Let me see. ")), event(reasoning(finish="length")), DONE
    )
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none") as sdk:
        limit: Any = {field: 77}
        with pytest.raises(openai.BadRequestError) as raised:
            sdk.chat.completions.create(
                model="model@single",
                messages=MESSAGES,
                stream=is_stream,
                **limit,
            )
    assert (raised.value.param, raised.value.code) == (field, "reasoning_truncated")
    assert "all 77 tokens" in str(raised.value)


def test_a_run_survives_a_broken_stream(front: Served, upstream: Upstream) -> None:
    upstream.chat = in_turn([breaks(2, "close"), plain])
    start = time.monotonic()
    assert front.solve(strategy="single").json()["text"] == "Hello"
    assert time.monotonic() - start < 5

"""The error of a defective strategy names the strategy and contains the usage so far."""

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.registry import Params
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate
from tests.http.serving import Json, Served, events_of

CHAT = "/v1/chat/completions"
TURN: Json = {"role": "user", "content": "What is 6 times 7?"}

Body = Callable[[Run, Params], Awaitable[Any]]


async def raises(run: Run, params: Params) -> Candidate:
    candidate = run.candidate(await run.ask(SOLVE))
    raise KeyError(candidate.text)


async def raises_in_a_group(run: Run, params: Params) -> Candidate:
    async def work(index: int) -> None:
        await run.ask(SOLVE, index=index)
        raise KeyError(index)

    await run.map(work, range(2))
    return run.best


async def returns_nothing(run: Run, params: Params) -> None:
    await run.ask(SOLVE)


async def scores_nan(run: Run, params: Params) -> Candidate:
    draft = await run.ask(SOLVE)
    run.propose(run.candidate(draft))
    return run.candidate(draft, score=math.nan, score_kind="mine")


async def scores_infinity(run: Run, params: Params) -> Candidate:
    candidate = run.candidate(await run.ask(SOLVE))
    return replace(candidate, score=-math.inf)


BODIES: list[Body] = [raises, raises_in_a_group, returns_nothing, scores_nan, scores_infinity]


@pytest.fixture(params=BODIES, ids=lambda body: body.__name__)
def defective(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = replace(STRATEGIES["single"], name="odd", body=request.param)
    monkeypatch.setattr("secondpass.service.http.resolve.STRATEGIES", {"odd": strategy})


def check(detail: str, members: Json) -> None:
    assert "strategy 'odd' failed" in detail
    assert "Error" not in detail
    usage = members["usage"]["actor"]
    assert usage["calls"] >= 1
    assert usage["prompt"] >= 9
    assert usage["completion"] > 0
    assert members["budget"]["max_calls"]["spent"] >= 1


@pytest.mark.usefixtures("defective")
@pytest.mark.parametrize("is_stream", [False, True])
def test_solve_names_the_strategy_and_its_usage(served: Served, is_stream: bool) -> None:
    reply = served.solve(strategy="odd", stream=is_stream)
    problem = events_of(reply.text)[-1][2] if is_stream else reply.json()
    assert reply.status_code == (200 if is_stream else 500)
    assert (problem["status"], problem["code"]) == (500, "internal")
    check(problem["detail"], problem)


@pytest.mark.usefixtures("defective")
@pytest.mark.parametrize("is_stream", [False, True])
def test_chat_names_the_strategy_and_its_usage(served: Served, is_stream: bool) -> None:
    body = {"model": "scripted", "messages": [TURN], "secondpass": {"strategy": "odd"}}
    reply = served.post(CHAT, body | {"stream": is_stream})
    error = json.loads(reply.text.removeprefix("data: "))["error"]
    assert reply.status_code == 500
    assert (error["type"], error["code"], error["param"]) == ("server_error", "internal", None)
    check(error["message"], error["secondpass"])


def test_a_strategy_whose_needs_cannot_be_read_is_named(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needs(params: Params, task: Any) -> Any:
        raise ZeroDivisionError

    strategy = replace(STRATEGIES["single"], name="odd", needs=needs)
    monkeypatch.setattr("secondpass.service.http.resolve.STRATEGIES", {"odd": strategy})
    reply = served.solve(strategy="odd")
    assert reply.status_code == 500
    assert "strategy 'odd' failed" in reply.json()["detail"]
    assert reply.json()["usage"] == {}

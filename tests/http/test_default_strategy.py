"""The default strategy of a request that does not choose one. Open questions have their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.strategies.api.engine import Call
from tests.http.serving import Json, Served, serving

POEM = "Write a line about roses."
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def _poet(call: Call, index: int) -> Reply:
    if call.purpose == "meta_rm":
        return Reply("Scores: \\boxed{9, 2}")
    return Reply(("Roses are red.", "Roses are blue.")[index % 2])


@pytest.fixture(scope="module")
def poet() -> Iterator[Served]:
    with serving(ScriptedEngine(_poet)) as served:
        yield served


def turn(text: Any, role: str = "user") -> Json:
    return {"role": role, "content": text}


def solved(served: Served, **fields: Any) -> Json:
    reply = served.post("/solve", {"question": POEM} | fields)
    assert reply.status_code == 200, reply.text
    document: Json = reply.json()
    return document


def test_an_open_question_gets_the_open_default_and_the_response_names_it(poet: Served) -> None:
    answer = solved(poet)
    assert answer["strategy"] == "meta_rm"
    assert answer["params"]["n"] == 4
    assert answer["task"] == {"kind": "open", "guessed": True}
    assert answer["usage"]["judge"]["calls"] >= 2
    assert solved(poet, task={"kind": "open"})["strategy"] == "meta_rm"


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "What is 6 times 7?"},
        {"task": {"kind": "math"}},
        {"task": {"kind": "choice", "options": ["red", "blue"]}},
        {"strategy": "single"},
    ],
)
def test_other_questions_get_the_general_default(poet: Served, fields: Json) -> None:
    assert solved(poet, **fields)["strategy"] == "single"


@pytest.mark.parametrize(
    "messages",
    [
        [turn(POEM, "system")],
        [turn("Be brief.", "system"), turn(POEM)],
        [turn("Hello."), turn("Hi.", "assistant"), turn(POEM)],
        [turn([{"type": "text", "text": POEM}, PICTURE])],
    ],
)
def test_conversations_and_images_get_the_general_default(
    poet: Served, messages: list[Json]
) -> None:
    reply = poet.post("/solve", {"messages": messages}).json()
    assert reply["strategy"] == "single"
    assert poet.post("/solve", {"messages": [turn(POEM)]}).json()["strategy"] == "meta_rm"


@pytest.mark.parametrize(
    ("body", "strategy"),
    [
        ({"secondpass": {"trace": "none"}}, "meta_rm"),
        ({"secondpass": {}, "temperature": 0}, "meta_rm"),
        ({"model": "scripted@single"}, "single"),
        ({"secondpass": {"strategy": "self_refine"}}, "self_refine"),
    ],
)
def test_a_chat_request_gets_the_same_default(poet: Served, body: Json, strategy: str) -> None:
    whole = {"model": "scripted", "messages": [turn(POEM)]} | body
    reply = poet.post("/v1/chat/completions", whole)
    assert reply.json()["secondpass"]["strategy"] == strategy


def test_a_plain_chat_request_gets_no_strategy(poet: Served) -> None:
    reply = poet.post("/v1/chat/completions", {"model": "scripted", "messages": [turn(POEM)]})
    assert reply.status_code == 200
    assert "secondpass" not in reply.json()


@pytest.mark.parametrize("settings", [{"default_open_strategy": "single"}, {"max_n": 3}])
def test_the_operator_may_change_the_open_default(settings: Json) -> None:
    with serving(ScriptedEngine(_poet), **settings) as served:
        assert solved(served)["strategy"] == "single"


def test_both_defaults_are_listed(poet: Served) -> None:
    listed = poet.get("/strategies").json()
    assert (listed["default"], listed["default_open"]) == ("single", "meta_rm")

"""No error repeats more than 200 characters of any value or name in the request."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http.serving import Json, Served

LETTER = "ж"  # occurs in no message of the service
TURN: Json = {"role": "user", "content": [{"type": "text", "text": "6 times 7?"}]}
OPTIONS: Json = {
    "strategy": {"name": "self_consistency", "params": {"n": 2, "stop": "none", "temperature": 1}},
    "task": {"kind": "choice", "options": ["41", "42"]},
    "models": {"actor": "scripted"},
    "budget": {"max_calls": 5},
    "trace": "summary",
}
SOLVE: Json = OPTIONS | {"messages": [TURN], "sampling": {"stop": ["never"], "temperature": 1}}
CHAT: Json = {
    "model": "scripted@self_consistency",
    "messages": [TURN],
    "stop": ["never"],
    "temperature": 1,
    "stream": True,
    "stream_options": {"include_usage": True},
    "secondpass": OPTIONS,
}
REQUESTS = {"/solve": SOLVE, "/v1/chat/completions": CHAT}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) of a JSON value."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    here = [(value, key) for key in keys]
    return here + [place for key in keys for place in places(value[key])]


def long_values(prefix: str, size: int) -> list[Any]:
    """Values that no field accepts and that contain something long."""
    long, number = prefix + LETTER * size, int("7" * size)
    return [long, number, -number, [long], [[long]], {long: long}, {"type": long}, {"kind": long}]


def check(client: httpx.Client, path: str, body: Json) -> None:
    reply = client.post(path, json=body)
    assert reply.status_code < 500
    if reply.status_code >= 400:
        assert reply.text.count(LETTER) <= 200
        assert not re.search("7{201}", reply.text)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


@pytest.mark.parametrize("path", REQUESTS)
def test_a_long_value_or_name_in_any_one_place_is_not_repeated(
    client: httpx.Client, path: str
) -> None:
    for number in range(len(places(REQUESTS[path]))):
        for value in long_values("", 3000):
            for is_added in (False, True):
                body = copy.deepcopy(REQUESTS[path])
                container, key = places(body)[number]
                if is_added and isinstance(container, dict):
                    container[LETTER * 3000] = value
                else:
                    container[key] = value
                check(client, path, body)


LONG = LETTER * 3000
VOTE: Json = {"name": "self_consistency", "params": {"n": 10**4000, "temperature": 0}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/solve", SOLVE | {"strategy": VOTE}),
        ("/v1/chat/completions", CHAT | {"model": f"scripted@{LONG}"}),
        (
            "/v1/chat/completions",
            CHAT | {"model": "scripted", "secondpass": {"strategy": VOTE}},
        ),
        ("/v1/chat/completions", CHAT | {"model": f"{LONG}@single"}),
    ],
)
def test_long_conflicting_values_are_not_repeated(
    client: httpx.Client, path: str, body: Json
) -> None:
    reply = client.post(path, json=body)
    assert 400 <= reply.status_code < 500
    assert reply.text.count(LETTER) <= 200
    assert "0" * 201 not in reply.text


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Json]:
    """A request with several very long values."""
    path = draw(st.sampled_from(sorted(REQUESTS)))
    body = copy.deepcopy(REQUESTS[path])
    for _ in range(draw(st.integers(2, 3))):
        container, key = draw(st.sampled_from(places(body)))
        prefix = draw(st.sampled_from(["", "scripted@", "data:", "self_", "{" * 101]))
        values = long_values(prefix, draw(st.integers(201, 3000)))
        container[key] = draw(st.sampled_from([*values, 0]))
    return path, body


@given(request=requests())
@settings(max_examples=200)
def test_no_error_repeats_more_than_200_characters(
    client: httpx.Client, request: tuple[str, Json]
) -> None:
    check(client, *request)

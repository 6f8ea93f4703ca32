"""No body of the largest size takes much CPU time or memory to read and refuse."""

from __future__ import annotations

import json
import math
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondpass.service.common import strict_json
from secondpass.service.common.client_messages import without_empty_members
from secondpass.service.common.errors import HttpError, Malformed
from secondpass.service.common.strict_json import MAX_DEPTH, MAX_DIGITS, MAX_VALUES, decode
from secondpass.service.http.chat_schema import validate_chat
from secondpass.service.http.schema import MAX_MEMBERS, SolveRequest, validate
from secondpass.strategies import STRATEGIES
from tests.http.serving import Json, Served

BODY_BYTES = 4 * 2**20
CPU_SECONDS = 0.5
PEAK_BYTES = 100 * 2**20

TURN = '"role":"assistant","content":"hi"'
PLACES = {
    "top": "%s",
    "messages": '"messages":%s',
    "turn": '"messages":[{' + TURN + ',"z":%s}]',
    "content": '"messages":[{"role":"user","content":%s}]',
    "part": '"messages":[{"role":"user","content":[{"type":"text","text":%s}]}]',
    "tool_calls": '"messages":[{"role":"assistant","tool_calls":%s}]',
    "call": '"messages":[{"role":"assistant","tool_calls":[{"id":"1","function":%s}]}]',
    "details": '"messages":[{' + TURN + ',"reasoning_details":%s}]',
    "parsed": '"messages":[{' + TURN + ',"parsed":%s}]',
    "question": '"question":%s',
    "models": '"question":"a","models":%s',
    "params": '"question":"a","strategy":{"name":"self_consistency","params":%s}',
    "stop": '"question":"a","sampling":{"stop":%s}',
    "sampling": '"question":"a","sampling":%s',
    "task": '"question":"a","task":%s',
    "options": '"question":"a","task":{"kind":"choice","options":%s}',
    "budget": '"question":"a","budget":%s',
    "chat": '"model":"m","messages":[{"role":"user","content":"a"}],"tools":%s',
    "chat stop": '"model":"m","messages":[{"role":"user","content":"a"}],"stop":%s',
}
UNITS = [
    *("1", "1e9", "-0.5", "null", '""', '"a"', "{}", "[]", '{"a":1}', '{"a":{}}', "[[]]", "[1,2]"),
    *(
        '{"role":"user","content":"a"}',
        '{"role":"x","z":1}',
        '{"type":"text","text":""}',
        "1" * 255,
    ),
    *('{"type":"image_url","image_url":{"url":""}}', '{"id":"a","function":{}}', '"\\u00e9"'),
    "[" * 60 + "]" * 60,
]
TEXTS = [
    "a",
    "\\n",
    "\\u00e9",
    "\\ud83d\\ude00",
    "é",
    "{",
    "{}",
    " ",
    "\u200b",
    "\x7f",
    ",",
    "[",
    "\\\\",
]


def listed(unit: str, limit: int) -> str:
    values = 1 + sum(map(unit.count, ",[{"))
    number = min(limit // values, BODY_BYTES // (len(unit.encode()) + 1)) - 16
    return f"[{','.join([unit] * max(number, 1))}]"


def named(unit: str, limit: int) -> str:
    members: list[str] = []
    size = 0
    values = 1 + sum(map(unit.count, ",[{"))
    for number in count():
        member = f'"{number:x}":{unit}'
        size += len(member.encode()) + 1
        if size > BODY_BYTES - 1000 or number * values > limit - 16:
            return f"{{{','.join(members)}}}"
        members.append(member)
    raise AssertionError


def long(unit: str) -> str:
    return f'"{unit * ((BODY_BYTES - 1000) // len(unit.encode()))}"'


LIMITS = st.sampled_from([MAX_MEMBERS, MAX_VALUES, math.inf])
VALUES = st.one_of(
    st.builds(listed, st.sampled_from(UNITS), LIMITS.map(lambda n: int(min(n, 10**7)))),
    st.builds(named, st.sampled_from(UNITS), LIMITS.map(lambda n: int(min(n, 10**7)))),
    st.sampled_from(TEXTS).map(long),
)


def read(body: bytes) -> None:
    """Read a body as the routes do."""
    value = decode(body)
    if "model" in value:
        validate_chat(value)
        return
    request = validate(SolveRequest, without_empty_members(value))
    if request.strategy is not None and not isinstance(request.strategy, str):
        name = request.strategy.name
        validate(STRATEGIES[name].params, request.strategy.params, at="strategy.params")


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@settings(max_examples=40, deadline=None)
@given(place=st.sampled_from(sorted(PLACES)), value=VALUES)
def test_reading_any_body_is_cheap(place: str, value: str) -> None:
    inner = value[1:-1] if place == "top" and value[0] == "{" else PLACES[place] % value
    if place == "top" and value[0] != "{":
        inner = f'"question":{value}'
    body = f"{{{inner}}}".encode()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before, began = status("VmRSS"), time.thread_time()
    error = None
    try:
        read(body)
    except HttpError as raised:
        error = raised
    assert time.thread_time() - began < CPU_SECONDS
    assert error is None or len(error.detail) + len(error.field or "") <= 500
    assert status("VmHWM") - before < PEAK_BYTES


# -- general limits ------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def test_the_depth_is_limited() -> None:
    assert decode(nested(MAX_DEPTH))
    with pytest.raises(Malformed, match=f"deeper than {MAX_DEPTH}"):
        decode(nested(MAX_DEPTH + 1))


def test_the_number_of_values_is_limited() -> None:
    items = b",".join([b'","'] * (MAX_VALUES - 2))
    assert len(decode(b'{"a":[' + items + b"]}")["a"]) == MAX_VALUES - 2
    with pytest.raises(Malformed, match=str(MAX_VALUES)):
        decode(b'{"a":[1,1,1,' + items + b"]}")


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.integers() | st.text(',[{"\\}]x', max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(',[{"\\', max_size=3), inner, max_size=3)
        ),
        max_leaves=20,
    ),
    st.integers(0, 40),
)
def test_values_are_counted_outside_strings_only(value: Any, limit: int) -> None:
    def size(each: Any) -> int:
        if not isinstance(each, list | dict):
            return 0
        members = list(each.values() if isinstance(each, dict) else each)
        return max(1, len(members)) + sum(map(size, members))

    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setattr(strict_json, "MAX_VALUES", limit)
        text = json.dumps({"a": value}).encode()
        if size({"a": value}) <= limit:
            decode(text)
        else:
            with pytest.raises(Malformed, match="at most"):
                decode(text)


@pytest.mark.parametrize("number", ["9" * 257, "0." + "1" * 4_000_000, "-" + "9" * 4_000_000])
def test_the_digits_of_a_number_are_limited(number: str) -> None:
    with pytest.raises(Malformed, match=f"more than {MAX_DIGITS} digits"):
        decode(f'{{"a":{number}}}'.encode())


# -- over HTTP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "expected"),
    [
        ({"messages": [1] * 100_000}, "messages.0", "must be an object"),
        (
            {"messages": [{"role": "user", "content": "a"}] * 2049},
            "messages",
            "at most 2048 items, got 2049",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 257}]},
            "messages.0.content",
            "at most 256 items, got 257",
        ),
        ({"question": "a", "sampling": {"stop": ["a"] * 17}}, "sampling.stop", "at most 16 items"),
        (
            {"question": "a", "sampling": {"stop": ["a" * 1025]}},
            "sampling.stop.0",
            "at most 1024 characters",
        ),
        (
            {"question": "a", "models": {f"r{n}": "m" for n in range(1025)}},
            "models",
            "at most 1024 members, got 1025",
        ),
    ],
)
def test_an_error_names_the_field_and_the_allowed_size(
    served: Served, fields: Json, field: str, expected: str
) -> None:
    reply = served.post("/solve", fields)
    assert reply.status_code == 422
    assert reply.json()["field"] == field
    assert expected in reply.json()["detail"]
    assert len(reply.content) < 1000


def test_the_general_limits_hold_for_forwarded_requests(served: Served) -> None:
    chat: Json = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
    path = "/v1/chat/completions"
    assert served.post(path, chat | {"allowed_token_ids": [1] * 130_000}).status_code == 200
    reply = served.post(path, chat | {"allowed_token_ids": [1] * (MAX_VALUES + 1)})
    assert reply.status_code == 400
    assert str(MAX_VALUES) in reply.json()["error"]["message"]

"""Plain chat with the scripted engine: the replies, streams and errors of OpenAI's server."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.engines.scripted.tokens import tokens_of
from secondpass.strategies.api.engine import Call, PlainRequest
from tests.http.serving import Json, Served, serving

CHAT = "/v1/chat/completions"
TURN: Json = {"role": "user", "content": "Count."}
TEXT = "one two three four five"


def count(call: Call, index: int) -> Reply:
    """Reply with the numbers; the prompts name faults."""
    text = call.messages[-1].text
    faults: dict[str, Any] = {"refuse": "refuse", "fail": "unavailable", "break": "interrupt"}
    return Reply(TEXT, fault=faults.get(text))


@pytest.fixture(scope="module")
def counting() -> Iterator[Served]:
    with serving(ScriptedEngine(count, tokens_per_delta=2)) as running:
        yield running


@pytest.fixture
async def client(counting: Served) -> AsyncIterator[AsyncOpenAI]:
    url = f"{counting.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def post(served: Served, **fields: Any) -> Any:
    return served.post(CHAT, {"model": "scripted", "messages": [TURN]} | fields)


def whole(served: Served, **fields: Any) -> Json:
    reply = post(served, **fields)
    assert reply.status_code == 200, reply.text
    document: Json = reply.json()
    return document


def chunks(served: Served, **fields: Any) -> list[Json]:
    reply = post(served, stream=True, **fields)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, done, end = reply.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_reply_has_the_fields_of_openais(counting: Served) -> None:
    document = whole(counting)
    assert document["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert document["usage"] == {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    assert document["object"] == "chat.completion"
    assert document["model"] == "scripted"


@pytest.mark.parametrize("n", [1, 3])
def test_each_choice_of_a_stream_has_a_role_its_text_and_a_finish_reason(
    counting: Served, n: int
) -> None:
    found = chunks(counting, n=n)
    assert all("usage" not in chunk for chunk in found)
    for index in range(n):
        own = [c for chunk in found for c in chunk["choices"] if c["index"] == index]
        first, *texts, last = own
        assert first["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert [list(each["delta"]) for each in texts] == [["content"]] * 3
        assert "".join(each["delta"]["content"] for each in texts) == TEXT
        assert last["delta"] == {}
        assert [each["finish_reason"] for each in own] == [None] * 4 + ["stop"]


def test_the_usage_is_in_the_last_chunk_and_null_in_the_others(counting: Served) -> None:
    *others, last = chunks(counting, stream_options={"include_usage": True}, n=2)
    assert {chunk["usage"] for chunk in others} == {None}
    assert last["choices"] == []
    assert last["usage"] == whole(counting, n=2)["usage"]
    assert last["usage"]["completion_tokens"] == 10


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"max_tokens": 2}, "one two", "length"),
        ({"max_completion_tokens": 2}, "one two", "length"),
        ({"max_tokens": 5}, TEXT, "stop"),
        ({"max_tokens": 9, "temperature": 0}, TEXT, "stop"),
        ({"stop": "three"}, "one two ", "stop"),
        ({"stop": ["four", "two"]}, "one ", "stop"),
        ({"stop": ["none", "e t"]}, "on", "stop"),
        ({"stop": "five", "max_tokens": 4}, "one two three four", "length"),
        ({"stop": "one"}, "", "stop"),
        ({"stop": None, "max_tokens": None, "n": None, "seed": None}, TEXT, "stop"),
    ],
)
def test_stop_strings_and_token_limits_end_a_completion(
    counting: Served, fields: Json, text: str, reason: str
) -> None:
    (choice,) = whole(counting, **fields)["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, reason)
    found = [chunk["choices"][0] for chunk in chunks(counting, **fields)]
    assert "".join(each["delta"].get("content", "") for each in found) == text
    assert found[-1]["finish_reason"] == reason


def test_a_seed_reaches_the_script_and_replies_are_reproducible() -> None:
    with serving() as served:
        texts = [whole(served, seed=seed)["choices"][0]["message"]["content"] for seed in (2, 3, 2)]
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.parametrize("top", [None, 0, 3])
def test_log_probabilities_are_returned_for_each_token(counting: Served, top: int | None) -> None:
    fields = {"logprobs": True, "top_logprobs": top, "max_tokens": 3}
    (choice,) = whole(counting, **fields)["choices"]
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks(counting, **fields)]
    content = choice["logprobs"]["content"]
    assert [entry["token"] for entry in content] == tokens_of("one two three")
    assert all(entry["logprob"] < 0 for entry in content)
    assert all(bytes(entry["bytes"]).decode() == entry["token"] for entry in content)
    assert {len(entry["top_logprobs"]) for entry in content} == {1 if top else 0}
    assert [entry for each in streamed if each for entry in each["content"]] == content


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
        {"tools": []},
        {"response_format": {"type": "text"}},
        {"temperature": 2, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2},
        {"user": "somebody", "store": False, "metadata": {}, "made_up": 1},
        {"messages": [TURN, {"role": "assistant", "content": None, "reasoning": "Hm."}, TURN]},
        {"messages": [TURN | {"mood": "good"}]},
    ],
)
def test_a_field_without_effect_is_accepted(counting: Served, fields: Json) -> None:
    assert whole(counting, **fields)["choices"][0]["message"]["content"] == TEXT


def test_a_response_format_reaches_the_script(counting: Served) -> None:
    schema = {"type": "object"}
    kind = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    whole(counting, response_format=kind)
    assert counting.engine.calls[-1].schema == json.dumps(schema)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"content": "hi"}]}, "messages.0.role"),
        ({"messages": [TURN, {"role": "boss", "content": "hi"}]}, "messages.1.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [TURN, {"role": "user", "content": None}]}, "messages.1.content"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages.0.content.0.type"),
        ({"messages": [TURN, {"role": "tool", "content": "1"}]}, "messages.1.tool_call_id"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 1.5}, "n"),
        ({"seed": "a"}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", 5]}, "stop.1"),
        ({"logprobs": 5}, "logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": "f"}, "tools"),
        ({"tools": [{}], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [{}], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": 5}},
            "response_format.json_schema",
        ),
        ({"stream_options": []}, "stream_options"),
    ],
)
def test_an_invalid_field_is_a_400_that_names_it(
    counting: Served, fields: Json, param: str, is_stream: bool
) -> None:
    before = len(counting.engine.calls)
    reply = post(counting, **{"stream": is_stream} | fields)
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert (error["param"], error["code"]) == (param, None)
    assert error["message"].startswith(f"{param}: ")
    assert len(counting.engine.calls) == before


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_an_invalid_choice_of_stream_is_a_400(counting: Served, fields: Json, param: str) -> None:
    reply = post(counting, **fields)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("text", "status", "kind"),
    [
        ("refuse", 400, "invalid_request_error"),
        ("fail", 503, "server_error"),
        ("word " * 40_000, 400, "invalid_request_error"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failure_before_the_first_token_has_a_status_of_its_own(
    counting: Served, text: str, status: int, kind: str, is_stream: bool
) -> None:
    reply = post(counting, messages=[TURN | {"content": text}], stream=is_stream)
    assert (reply.status_code, reply.json()["error"]["type"]) == (status, kind)


def test_a_broken_completion_is_a_500(counting: Served) -> None:
    reply = post(counting, messages=[TURN | {"content": "break"}])
    assert (reply.status_code, reply.json()["error"]["type"]) == (500, "server_error")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"\xff", 400, None),
        (b'{"model": "other", "messages": [{"role": "user", "content": "a"}]}', 404, "model"),
        (b'{"model": 5, "messages": [{"role": "user", "content": "a"}]}', 400, "model"),
        (b"{}", 400, "messages"),
    ],
)
async def test_a_malformed_body_and_an_unknown_model_are_rejected(
    body: bytes, status: int, param: str | None
) -> None:
    async with ScriptedEngine().forward(PlainRequest("chat/completions", body)) as reply:
        error = json.loads(b"".join([chunk async for chunk in reply.chunks]))["error"]
    assert (reply.status, error["param"]) == (status, param)
    assert error["code"] == ("model_not_found" if status == 404 else None)


@given(
    cap=st.none() | st.integers(1, 8),
    stop=st.none() | st.lists(st.sampled_from(["two", "e", " f", "nowhere", "ve"]), max_size=3),
    n=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_stream_always_joins_to_the_whole_reply(
    counting: Served, cap: int | None, stop: list[str] | None, n: int
) -> None:
    fields = {"max_tokens": cap, "stop": stop, "n": n}
    document = whole(counting, **fields)
    *streamed, last = chunks(counting, stream_options={"include_usage": True}, **fields)
    assert last["usage"] == document["usage"]
    assert document["usage"]["completion_tokens"] <= n * (cap or 5)
    for choice in document["choices"]:
        own = [c for chunk in streamed for c in chunk["choices"] if c["index"] == choice["index"]]
        text = "".join(each["delta"].get("content", "") for each in own)
        assert text == choice["message"]["content"]
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        assert not any(each in text for each in stop or ()) or choice["finish_reason"] == "length"


@pytest.mark.anyio
@pytest.mark.compat
async def test_openais_client_reads_replies_streams_and_errors(client: AsyncOpenAI) -> None:
    messages: Any = [TURN]
    reply = await client.chat.completions.create(
        model="scripted", messages=messages, n=2, stop=["four"], logprobs=True, top_logprobs=1
    )
    assert [choice.message.content for choice in reply.choices] == ["one two three "] * 2
    assert reply.choices[0].logprobs
    assert reply.usage
    async with client.chat.completions.stream(
        model="scripted", messages=messages, stream_options={"include_usage": True}
    ) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == TEXT
    assert final.choices[0].finish_reason == "stop"
    assert final.usage
    assert final.usage.completion_tokens == 5
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="other", messages=messages)
    with pytest.raises(openai.BadRequestError) as invalid:
        await client.chat.completions.create(model="scripted", messages=messages, temperature=3)
    with pytest.raises(openai.InternalServerError) as failed:
        await client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "fail"}], stream=True
        )
    assert unknown.value.code == "model_not_found"
    assert invalid.value.param == "temperature"
    assert failed.value.status_code == 503

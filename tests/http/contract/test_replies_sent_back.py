"""Clients append whole replies to a conversation. Engines get their text, and no reasoning."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from secondpass.strategies.api.values import Message, ToolCall
from tests.engines.upstream import DONE, Upstream, chunk, event, streams
from tests.http.serving import Json, Served, serving
from tests.http.upstreams import generations, running
from tests.polling import wait_until

CHAT = "/v1/chat/completions"
TURN: Json = {"role": "user", "content": "What is 6 times 7?"}
AGAIN: Json = {"role": "user", "content": "Are you sure?"}
STRATEGY = "scripted@self_consistency"


def replies() -> Iterator[tuple[str, Json]]:
    """Replies of servers by name, as clients send them back."""
    yield "secondpass", {"content": "42", "refusal": None, "annotations": []}
    yield (
        "OpenAI",
        {
            "content": "42",
            "refusal": None,
            "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "title": "t"}}],
            "audio": None,
            "function_call": None,
            "tool_calls": None,
        },
    )
    yield "OpenAI, refused", {"content": None, "refusal": "I cannot help.", "annotations": []}
    yield (
        "vLLM",
        {
            "content": "42",
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": [],
            "reasoning": "SECRET",
            "reasoning_content": "SECRET",
        },
    )
    yield "vLLM, without reasoning", {"content": "42", "tool_calls": [], "reasoning": None}
    yield "DeepSeek", {"content": "42", "reasoning_content": "SECRET"}
    yield "DeepSeek, truncated in its reasoning", {"content": "", "reasoning_content": "SECRET"}
    yield "vLLM, truncated in its reasoning", {"content": None, "reasoning": "SECRET"}
    yield (
        "OpenRouter",
        {
            "content": "42",
            "reasoning": "SECRET",
            "reasoning_details": [{"type": "reasoning.text", "text": "SECRET"}],
        },
    )
    yield "LiteLLM", {"content": "42", "provider_specific_fields": {"refusal": None}}
    yield "OpenAI, parsed", {"content": "42", "parsed": {"answer": 42}, "tool_calls": None}
    yield "parts", {"content": [{"type": "text", "text": "42"}]}
    yield "refusal parts", {"content": [{"type": "refusal", "refusal": "I cannot help."}]}
    yield "a name", {"content": "42", "name": "solver"}
    yield "unknown nulls and empty lists", {"content": "42", "images": [], "thinking": None}


REPLIES = dict(replies())


def conversation(reply: Json) -> list[Json]:
    return [
        {"role": "developer", "content": "Be brief.", "name": None},
        TURN,
        {"role": "assistant"} | reply,
        AGAIN,
    ]


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_accepted_as_a_turn(served: Served, name: str) -> None:
    messages = conversation(REPLIES[name])
    for model in ("scripted", "scripted@single", STRATEGY):
        reply = served.post(CHAT, {"model": model, "messages": messages})
        assert reply.status_code == 200, reply.text
    solve = served.post("/solve", {"messages": messages, "strategy": "self_refine"})
    assert solve.status_code == 200, solve.text


@pytest.mark.parametrize("name", REPLIES)
def test_engines_get_the_text_of_a_reply_without_its_reasoning(served: Served, name: str) -> None:
    reply = REPLIES[name]
    body = {"messages": conversation(reply), "trace": "full", "strategy": "single"}
    document = served.post("/solve", body).json()
    (call,) = document["trace"]
    turn = served.engine.calls[-1].messages[2]
    assert turn.role == "assistant"
    is_empty = "truncated" in name
    assert turn.text == ("I cannot help." if "refus" in name else "" if is_empty else "42")
    assert turn.content is not None
    assert turn.name == reply.get("name")
    assert "SECRET" not in json.dumps(document)
    assert set(call["messages"][2]) <= {"role", "content", "name"}


@pytest.mark.parametrize("path", ["/solve", CHAT])
def test_a_note_reports_that_engines_do_not_get_the_reasoning(served: Served, path: str) -> None:
    messages = [*conversation(REPLIES["vLLM"])[:-1], *conversation(REPLIES["DeepSeek"])]
    reply = served.post(path, {"messages": messages} | body_of(path)).json()
    notes = reply.get("secondpass", reply)["notes"]
    assert notes["earlier reasoning"] == (
        "engines do not get the reasoning of earlier turns (2 in this conversation)"
    )
    plain = served.post(path, {"messages": conversation(REPLIES["OpenAI"])} | body_of(path)).json()
    assert "earlier reasoning" not in plain.get("secondpass", plain)["notes"]


def body_of(path: str) -> Json:
    return {"strategy": "single"} if path == "/solve" else {"model": "scripted@single"}


@given(
    reasoning=st.dictionaries(
        st.sampled_from(["reasoning", "reasoning_content"]),
        st.text(min_size=8, alphabet=st.characters(categories=["Lu"])),
        min_size=1,
    ),
    content=st.none() | st.just("") | st.just("forty-two"),
)
@settings(max_examples=50, deadline=None)
def test_reasoning_is_never_part_of_a_prompt(
    served: Served, reasoning: dict[str, str], content: str | None
) -> None:
    turn = {"content": content} | reasoning
    before = len(served.engine.calls)
    reply = served.post(CHAT, {"model": STRATEGY, "messages": conversation(turn)})
    assert reply.status_code == 200
    calls = served.engine.calls[before:]
    assert calls
    for each in calls:
        sent = "".join(message.model_dump_json() for message in each.messages)
        assert not any(text in sent for text in reasoning.values())


@pytest.mark.parametrize("model", ["scripted", "scripted@single"])
@pytest.mark.parametrize("is_parsed", [False, True])
def test_tool_calls_of_a_reply_are_sent(served: Served, model: str, is_parsed: bool) -> None:
    function = {"name": "multiply", "arguments": '{"a": 6, "b": 7}'}
    call: Json = {"id": "1", "type": "function", "function": function}
    parsed = call | {"index": 0, "function": function | {"parsed_arguments": {"a": 6, "b": 7}}}
    reply = {"content": None, "refusal": None, "tool_calls": [parsed if is_parsed else call]}
    result = {"role": "tool", "tool_call_id": "1", "content": "42"}
    messages = [*conversation(reply)[:-1], result]
    assert served.post(CHAT, {"model": model, "messages": messages}).status_code == 200
    turns = served.engine.calls[-1].messages
    assert turns[2] == Message.model_validate({"role": "assistant", "tool_calls": [call]})
    assert type(turns[2].tool_calls[0]) is ToolCall if turns[2].tool_calls else False
    assert turns[3] == Message.model_validate(result)


@pytest.fixture(scope="module")
def reasoner() -> Iterator[tuple[Upstream, Served]]:
    """A service in front of a server whose replies have reasoning."""
    delta = {"role": "assistant", "reasoning": "SECRET"}
    first = chunk("", None)
    first["choices"][0]["delta"] = delta
    with (
        running(Upstream()) as upstream,
        serving(engine="http", engine_url=upstream.url, model="model") as front,
    ):
        wait_until(lambda: front.get("/readyz").status_code == 200)
        upstream.chat = streams(event(first), event(chunk("The answer is 42.", "stop")), DONE)
        yield upstream, front


def test_an_upstream_gets_no_reasoning_from_earlier_turns(
    reasoner: tuple[Upstream, Served],
) -> None:
    upstream, front = reasoner
    upstream.requests.clear()
    messages = conversation(REPLIES["OpenRouter"])
    reply = front.post(CHAT, {"model": "model@self_consistency", "messages": messages})
    assert reply.status_code == 200, reply.text
    bodies = [body for _, body in generations(upstream)]
    assert bodies
    for body in bodies:
        assert body["messages"][2] == {"role": "assistant", "content": "42"}


@pytest.mark.anyio
@pytest.mark.compat
@pytest.mark.parametrize("model", ["scripted", "scripted@single", STRATEGY])
@pytest.mark.parametrize("how", ["object", "dump", "dump without nulls", "text"])
async def test_openais_client_sends_a_reply_back(served: Served, model: str, how: str) -> None:
    messages: list[Any] = [TURN]
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        for _ in range(3):
            reply = await client.chat.completions.create(model=model, messages=messages)
            messages += [sent_back(reply, how), AGAIN]
    assert served.engine.calls[-1].messages[1].text == reply.choices[0].message.content


def sent_back(reply: ChatCompletion, how: str) -> Any:
    message = reply.choices[0].message
    if how == "object":
        return message
    if how == "text":
        return {"role": message.role, "content": message.content}
    return message.model_dump(exclude_none=how == "dump without nulls")


@pytest.mark.anyio
@pytest.mark.compat
@pytest.mark.parametrize("name", [name for name in REPLIES if "parts" not in name])
async def test_openais_client_sends_the_replies_of_other_servers_back(
    served: Served, name: str
) -> None:
    message: Any = ChatCompletionMessage.construct(role="assistant", **REPLIES[name])
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        for turn in (message, message.model_dump(), message.model_dump(exclude_none=True)):
            again: Any = [TURN, turn, AGAIN]
            reply = await client.chat.completions.create(model="scripted@single", messages=again)
            assert reply.choices[0].message.refusal is None
            assert reply.choices[0].message.annotations == []


@pytest.mark.anyio
@pytest.mark.compat
@pytest.mark.parametrize("model", ["scripted", "scripted@single", STRATEGY])
async def test_openais_client_sends_the_reply_of_a_stream_back(served: Served, model: str) -> None:
    messages: list[Any] = [TURN]
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        async with client.chat.completions.stream(model=model, messages=messages) as stream:
            message = (await stream.get_final_completion()).choices[0].message
        for turn in (message, message.model_dump(), message.model_dump(exclude_none=True)):
            again: Any = [TURN, turn, AGAIN]
            reply = await client.chat.completions.create(model="scripted@single", messages=again)
            assert reply.choices[0].message.content
    assert served.engine.calls[-1].messages[1].text == message.content

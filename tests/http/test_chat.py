"""POST /v1/chat/completions, through OpenAI's client and as raw requests."""

import json
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from openai import AsyncOpenAI

from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.strategies import STRATEGIES
from secondpass.testing.support import constant_reply
from tests.http.serving import Json, Served, serving

USER: Json = {"role": "user", "content": "What is 6 times 7?"}
PATH = "/v1/chat/completions"
ASK: Json = {"model": "scripted@self_consistency", "messages": [USER]}


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as made:
        yield made


@pytest.mark.anyio
@pytest.mark.compat
async def test_the_model_suffix_selects_the_strategy(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(
        model="scripted@self_consistency", messages=[{"role": "user", "content": "6 times 7?"}]
    )
    assert reply.id.startswith("chatcmpl-")
    assert reply.model == "scripted@self_consistency"
    assert reply.choices[0].finish_reason == "stop"
    assert "42" in (reply.choices[0].message.content or "")
    assert reply.usage
    assert reply.usage.completion_tokens == 15
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 15
    assert reply.usage.completion_tokens_details
    assert reply.usage.completion_tokens_details.reasoning_tokens
    assert reply.model_extra
    assert reply.model_extra["secondpass"]["confidence_kind"] == "vote_share"


@pytest.mark.anyio
@pytest.mark.compat
async def test_the_body_selects_the_strategy(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(
        model="scripted",
        messages=[{"role": "user", "content": "6 times 7?"}],
        seed=7,
        stop="never",
        max_completion_tokens=100,
        extra_body={
            "secondpass": {
                "strategy": "self_consistency",
                "params": {"n": 3, "stop": "none"},
                "task": {"kind": "math"},
                "budget": {"max_calls": 5},
                "trace": "summary",
            }
        },
    )
    assert reply.model_extra
    report = reply.model_extra["secondpass"]
    assert report["params"]["n"] == 3
    assert report["task"] == {"kind": "math", "guessed": False}
    assert report["budget"]["max_calls"]["limit"] == 5
    assert len(report["candidates"]) == 3


@pytest.mark.anyio
@pytest.mark.compat
async def test_a_stream_contains_role_text_finish_reason_and_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="scripted@single",
        messages=[{"role": "user", "content": "6 times 7?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    assert len({chunk.id for chunk in chunks}) == 1
    assert choices[0].delta.role == "assistant"
    assert text.endswith("\\boxed{42}.")
    assert len(choices) > 4  # `single` streams while it generates
    assert choices[-1].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 15


@pytest.mark.anyio
@pytest.mark.compat
async def test_requested_progress_is_streamed_as_reasoning(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="scripted@self_consistency",
        messages=[{"role": "user", "content": "What is 6 times 7?"}],
        stream=True,
        extra_body={"secondpass": {"progress": True}},
    )
    deltas = [chunk.choices[0].delta async for chunk in stream]
    reasoning = [(d.model_extra or {}).get("reasoning_content") for d in deltas]
    assert "best: 42; vote_share 1.00" in "".join(filter(None, reasoning))
    assert next(d.content for d in deltas if d.content).endswith("\\boxed{42}.")


@pytest.mark.anyio
@pytest.mark.compat
async def test_a_plain_request_is_answered_by_the_engine(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "hi"}], n=2
    )
    assert len(reply.choices) == 2
    assert not (reply.model_extra or {}).get("secondpass")
    stream = await client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text.endswith("\\boxed{42}.")


@pytest.mark.anyio
@pytest.mark.compat
async def test_errors_are_raised_as_the_sdks_types(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="gpt-0", messages=[])
    with pytest.raises(openai.BadRequestError) as several:
        await client.chat.completions.create(
            model="scripted@single", messages=[{"role": "user", "content": "hi"}], n=2
        )
    assert unknown.value.code == "model_not_found"
    assert several.value.param == "n"


@pytest.mark.anyio
@pytest.mark.compat
async def test_an_error_before_the_first_chunk_has_its_own_status(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as spent:
        await client.chat.completions.create(
            model="scripted@single",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            extra_body={"secondpass": {"budget": {"max_prompt_tokens": 1}}},
        )
    assert spent.value.code == "budget_exhausted"
    assert spent.value.param == "secondpass.budget.max_prompt_tokens"
    assert spent.value.response.headers["x-should-retry"] == "false"


@pytest.mark.anyio
@pytest.mark.compat
async def test_an_error_after_the_first_chunk_is_an_error_chunk() -> None:
    engine = ScriptedEngine(constant_reply("word " * 100), first_token=0.3)
    with serving(engine, keep_alive_seconds=0.1) as served:
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
            stream = await client.chat.completions.create(
                model="scripted@single",
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
                extra_body={"secondpass": {"budget": {"deadline_ms": 200}}},
            )
            with pytest.raises(openai.APIError, match="200 ms"):
                async for _ in stream:
                    pass
        assert len(engine.calls) == 1


@pytest.mark.anyio
@pytest.mark.compat
async def test_the_models_are_listed_plain_and_with_each_strategy(client: AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert names == ["scripted", *(f"scripted@{strategy}" for strategy in STRATEGIES)]


def test_a_plain_request_is_forwarded_byte_for_byte(served: Served) -> None:
    raw = b'{ "model":"scripted" , "messages":[{"role":"user","content":"hi"}], "made_up": 1}'
    with served.client() as client:
        reply = client.post(PATH, content=raw, headers={"content-type": "application/json"})
    assert reply.status_code == 200
    assert reply.json()["id"] == "chatcmpl-scripted"
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"guided_json": {}}, "guided_json"),
        ({"made_up": 1}, "made_up"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "boss", "content": "a"}]}, "messages.0.role"),
        ({"model": None}, "model"),
        ({"secondpass": {"strategy": "single"}}, "secondpass.strategy"),
        ({"secondpass": {"params": {"n": 0}}}, "secondpass.params.n"),
        ({"secondpass": {"params": {"n": 1000}}}, "secondpass.params.n"),
        ({"secondpass": {"budget": {"max_tokens": 0}}}, "secondpass.budget.max_tokens"),
        ({"secondpass": {"budget": {"max_cost": 1}}}, "secondpass.budget.max_cost"),
        ({"secondpass": {"mood": 1}}, "secondpass.mood"),
        ({"secondpass": {"task": {"kind": "code", "tests": "x"}}}, "secondpass.task.tests"),
        ({"secondpass": {"models": {"actor": "other"}}}, "secondpass.models.actor"),
        ({"secondpass": 5}, "secondpass"),
        ({"secondpass": {"progress": True}}, "secondpass.progress"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop.1"),
        ({"max_tokens": 131_073}, "max_tokens"),
        ({"max_completion_tokens": 131_073}, "max_completion_tokens"),
    ],
)
def test_an_invalid_or_unsupported_field_is_a_400_that_names_it(
    served: Served, fields: Json, param: str
) -> None:
    before = len(served.engine.calls)
    reply = served.post(PATH, ASK | fields)
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param in error["message"]
    assert not {"Tuple", "False"} & set(error["message"].split())
    assert len(served.engine.calls) == before


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "scripted@guessing"}, "model"),
        ({"model": "scripted@"}, "model"),
        ({"model": "scripted", "secondpass": {"strategy": ""}}, "secondpass.strategy"),
        ({"model": "other@single"}, "model"),
        ({"model": "other"}, "model"),
        ({"model": "scripted", "secondpass": {"strategy": "guessing"}}, "secondpass.strategy"),
        ({"secondpass": {"models": {"judge": "other"}}}, "secondpass.models.judge"),
    ],
)
def test_unknown_names_are_404s(served: Served, fields: Json, param: str) -> None:
    reply = served.post(PATH, ASK | fields)
    assert reply.status_code == 404
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}},
        {"logprobs": False, "top_p": None, "user": "someone", "stop": ["x"], "top_k": 5},
        {"messages": [USER, {"role": "assistant", "content": "42", "refusal": None}, USER]},
        {"secondpass": {"strategy": "self_consistency"}},
        {"secondpass": {"strategy": {"name": "self_consistency", "params": {"n": 2}}}},
        {"secondpass": {"models": {"actor": "scripted"}}},
        {"temperature": 0, "secondpass": {"params": {"n": 1}}},
    ],
)
def test_neutral_values_and_strategy_options_are_accepted(served: Served, fields: Json) -> None:
    assert served.post(PATH, ASK | fields).status_code == 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": -1}, "n: "),
        ({"n": 0}, "n: "),
        ({"n": 129}, "n: "),
        ({"max_tokens": -1}, "max_tokens: "),
        ({"seed": -1}, "seed: "),
        ({"messages": "none"}, "messages: "),
    ],
)
def test_an_invalid_plain_request_is_a_400(served: Served, fields: Json, message: str) -> None:
    reply = served.post(PATH, ASK | {"model": "scripted"} | fields)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(message)


@pytest.fixture
def at_sign() -> Iterator[Served]:
    with serving(ScriptedEngine(model="a@single"), model="a@single") as running:
        yield running


def test_an_exact_model_name_takes_precedence_over_a_suffix(at_sign: Served) -> None:
    plain = at_sign.post(PATH, {"model": "a@single", "messages": [USER]}).json()
    solved = at_sign.post(PATH, {"model": "a@single@single", "messages": [USER]}).json()
    assert "secondpass" not in plain
    assert solved["secondpass"]["strategy"] == "single"


def test_a_malformed_body_is_an_openai_error(served: Served) -> None:
    with served.client() as client:
        reply = client.post(PATH, content=b"{", headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert json.loads(reply.text)["error"]["code"] == "malformed"

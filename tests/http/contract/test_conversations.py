"""Conversations without a user turn are answered; those without any visible text are rejected."""

from typing import Any

import pytest

from secondpass.strategies import STRATEGIES
from tests.http.serving import Json, Served

CHAT = "/v1/chat/completions"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
CALLED = {
    "role": "assistant",
    "tool_calls": [{"id": "1", "function": {"name": "multiply", "arguments": "{}"}}],
}


def turn(role: str, content: Any, **more: Any) -> Json:
    return {"role": role, "content": content} | more


ANSWERED: list[list[Json]] = [
    [turn("system", "What is 6 times 7?")],
    [turn("developer", "What is 6 times 7?")],
    [turn("system", "Be brief."), turn("system", "What is 6 times 7?")],
    [turn("system", "What is 6 times 7?"), turn("system", " ")],
    [turn("system", [{"type": "text", "text": "What is 6 times 7?"}])],
    [turn("assistant", "What is 6 times 7?")],
    [turn("system", "What is 6 times 7?"), turn("assistant", "41")],
    [turn("user", "What is 6 times 7?"), turn("assistant", "41")],
    [turn("user", "What is 6 times 7?"), CALLED, turn("tool", "42", tool_call_id="1")],
    [turn("user", "What is 6 times 7?"), CALLED, turn("tool", "", tool_call_id="1")],
    [turn("system", ""), turn("user", "What is 6 times 7?")],
    [turn("user", " "), turn("user", "What is 6 times 7?")],
    [turn("user", [PICTURE])],
]


@pytest.mark.parametrize("messages", ANSWERED)
def test_a_conversation_with_visible_text_is_answered(served: Served, messages: list[Json]) -> None:
    for model in ("scripted", "scripted@single", "scripted@self_consistency"):
        reply = served.post(CHAT, {"model": model, "messages": messages})
        assert reply.status_code == 200, reply.text
    assert served.post("/solve", {"messages": messages}).status_code == 200


@pytest.mark.parametrize(
    "task", [None, {"kind": "math"}, {"kind": "choice", "options": ["1", "2"]}]
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers_a_system_turn_alone(
    served: Served, strategy: str, task: Json | None
) -> None:
    body = {"messages": [turn("system", "What is 6 times 7?")], "strategy": strategy, "task": task}
    reply = served.post("/solve", body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["task"]["kind"] == ("math" if task is None else task["kind"])


def test_a_prompt_without_a_user_turn_gets_its_instruction_as_one(served: Served) -> None:
    messages = [turn("system", "What is 6 times 7?")]
    body = {"messages": messages, "task": {"kind": "math"}, "strategy": "single"}
    assert served.post("/solve", body).status_code == 200
    system, instruction = served.engine.calls[-1].messages
    assert (system.role, system.text) == ("system", "What is 6 times 7?")
    assert instruction.role == "user"
    assert "boxed" in instruction.text


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([turn("system", "")], "messages.0.content"),
        ([turn("system", "\u200b\n")], "messages.0.content"),
        ([turn("system", None)], "messages.0.content"),
        ([turn("system", [])], "messages.0.content"),
        ([turn("system", " "), turn("assistant", " ")], "messages.1.content"),
        ([turn("system", "Be brief."), turn("user", "")], "messages.1.content"),
        ([turn("system", "Be brief."), turn("user", []), CALLED], "messages.1.content"),
        ([turn("user", "What is 6 times 7?"), turn("user", "\u2060")], "messages.1.content"),
        ([CALLED], "messages.0.content"),
        ([turn("assistant", None, reasoning="Hm.")], "messages.0.content"),
    ],
)
def test_a_conversation_without_visible_text_is_rejected(
    served: Served, messages: list[Json], field: str
) -> None:
    before = len(served.engine.calls)
    solve = served.post("/solve", {"messages": messages})
    assert (solve.status_code, solve.json()["field"]) == (422, field)
    chat = served.post(CHAT, {"model": "scripted@single", "messages": messages})
    assert (chat.status_code, chat.json()["error"]["param"]) == (400, field)
    assert len(served.engine.calls) == before

"""Dialects that differ in their finish reasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.engines.dialects.speech import Ask, Chunks, Speech, Stream, chunk


def _ending(reason: Any, **delta: Any) -> Stream:
    """Return the stream with the finish reason `reason`, except in replies that a token limit truncated."""

    def last(ask: Ask, index: int) -> Chunks:
        given = "length" if ask.is_probe else reason
        yield chunk(delta, given, index)

    return Stream(last=last)


ANSWERED = {
    "eos": "Together",
    "eos_token": "TGI",
    "stop_sequence": "TGI, Anthropic",
    "STOP": "Gemini",
    "end_turn": "Anthropic",
    "COMPLETE": "Cohere",
    "FINISH": "Bedrock",
    "length": "OpenAI",
    "max_length": "older servers",
    "max_tokens": "Anthropic, watsonx",
    "MAX_TOKENS": "Gemini, Cohere",
    "model_length": "Mistral",
    "repetition": "vLLM",
    "content_filter": "OpenAI, Azure",
    "SAFETY": "Gemini",
    "function_call": "older OpenAI",
    "tool_calls": "OpenAI",
    "tool_call": "older servers",
    "tool_use": "Anthropic",
    " Stop ": "some gateways",
}
REFUSED = {
    "abort": ("vLLM, SGLang", "interrupted the completion (abort)"),
    "cancelled": ("watsonx", "interrupted the completion (cancelled)"),
    "error": ("OpenRouter, vLLM", "failed during generation (finish reason 'error')"),
    "insufficient_system_resource": ("DeepSeek", "failed during generation"),
    "network_error": ("Zhipu", "failed during generation"),
    "unknown": ("some gateways", "unknown finish reason 'unknown'"),
    "": ("some gateways", "have no finish reason"),
    None: ("some gateways", "have no finish reason"),
    7: ("some gateways", "unknown finish reason '7'"),
}


def _speeches() -> Iterator[Speech]:
    for reason, servers in ANSWERED.items():
        name = "finish_" + reason.strip().replace(" ", "_") + ("_upper" if reason.isupper() else "")
        what = f"finish reason `{reason}`"
        yield Speech(name=name, servers=servers, what=what, stream=_ending(reason))
    for given, (servers, error) in REFUSED.items():
        name = f"finish_{given}" if given != "" else "finish_empty"
        what = (
            f"finish reason `{'null' if given is None else given}`"
            if given != ""
            else "an empty finish reason"
        )
        yield Speech(name=name, servers=servers, what=what, refused=error, stream=_ending(given))


def _unfinished(value: Any) -> Stream:
    """Return the stream whose chunks have `value` as the finish reason until the end."""

    def word(_: Ask, index: int, text: str, __: int) -> Chunks:
        yield chunk({"content": text}, value, index)

    return Stream(word=word)


def _without_key(_: Ask, index: int, text: str, __: int) -> Chunks:
    yield {"choices": [{"index": index, "delta": {"content": text}}]}


def _with_text(ask: Ask, index: int) -> Chunks:
    yield chunk({"content": " Done."}, ask.reason(), index)


FINISH = (
    *_speeches(),
    Speech(
        name="unfinished_empty",
        servers="older Ollama",
        what="empty finish reason until the end",
        stream=_unfinished(""),
    ),
    Speech(
        name="unfinished_null_text",
        servers="DashScope",
        what='finish reason `"null"` until the end',
        stream=_unfinished("null"),
    ),
    Speech(
        name="unfinished_no_key",
        servers="TGI",
        what="no `finish_reason` until the end",
        stream=Stream(word=_without_key),
    ),
    Speech(
        name="finish_with_text",
        servers="several",
        what="text in the finish chunk",
        stream=Stream(last=_with_text),
    ),
    Speech(
        name="finish_twice",
        servers="gateways",
        what="a second finish chunk",
        stream=Stream(
            closing=lambda ask: [chunk({}, "stop"), {"choices": [], "usage": ask.usage()}]
        ),
    ),
    Speech(
        name="text_after_finish",
        servers="gateways",
        what="text after the finish reason, which is ignored",
        stream=Stream(
            closing=lambda ask: [
                chunk({"content": "\\boxed{7}"}),
                {"choices": [], "usage": ask.usage()},
            ]
        ),
    ),
)

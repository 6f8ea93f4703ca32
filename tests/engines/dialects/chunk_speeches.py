"""Dialects that differ in the shape of their chunks, or in their framing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.engines.dialects.speech import (
    REASONING,
    Ask,
    Chunks,
    Speech,
    Stream,
    chunk,
    nothing,
    stop,
)


def _words(delta: Callable[[str], Any], **more: Any) -> Callable[[Ask, int, str, int], Chunks]:
    """Return the chunks of a word with the delta that `delta` returns."""
    return lambda _, index, text, __: [chunk(delta(text), index=index, **more)]


def _first(*deltas: Any) -> Callable[[Ask, int], Chunks]:
    return lambda _, index: [chunk(delta, index=index) for delta in deltas]


def _no_index(_: Ask, __: int, text: str, ___: int) -> Chunks:
    yield {"choices": [{"delta": {"content": text}, "finish_reason": None}]}


def _no_index_last(ask: Ask, _: int) -> Chunks:
    yield {"choices": [{"delta": {}, "finish_reason": ask.reason()}]}


def _null_index(_: Ask, __: int, text: str, ___: int) -> Chunks:
    yield {"choices": [{"index": None, "delta": {"content": text}}]}


def _without_delta(ask: Ask, index: int) -> Chunks:
    yield {"choices": [{"index": index, "finish_reason": ask.reason()}]}


def _null_delta(ask: Ask, index: int) -> Chunks:
    yield {"choices": [{"index": index, "delta": None, "finish_reason": ask.reason()}]}


def _after(count: int, extra: bytes) -> Callable[[Ask, int, str, int], Chunks]:
    """Return the chunks of a word, with bytes before word `count` + 1."""

    def word(_: Ask, index: int, text: str, position: int) -> Chunks:
        if position == count + 1:
            yield extra
        yield chunk({"content": text}, index=index)

    return word


_PARTS = {"type": "thinking", "thinking": [{"type": "text", "text": REASONING}]}
_DETAILS = {"reasoning_details": [{"type": "reasoning.text", "text": REASONING}], "content": ""}
_CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _text_parts(kind: str) -> Callable[[str], Any]:
    return lambda text: {"content": [{"type": kind, "text": text}]}


def _spoken(name: str, servers: str, what: str, **stream: Any) -> Speech:
    return Speech(name=name, servers=servers, what=what, stream=Stream(**stream))


def _silent(name: str, servers: str, what: str, error: str, **stream: Any) -> Speech:
    return Speech(name=name, servers=servers, what=what, refused=error, stream=Stream(**stream))


NO_INDEX = Speech(
    name="no_index",
    servers="some gateways",
    what="no `index` in choices",
    n_requests=3,
    stream=Stream(first=nothing, word=_no_index, last=_no_index_last),
)

CHUNKS = (
    NO_INDEX,
    Speech(
        name="null_index",
        servers="some gateways",
        what="null `index` in choices",
        n_requests=3,
        stream=Stream(first=nothing, word=_null_index, last=_no_index_last),
    ),
    _spoken(
        "text_parts",
        "Mistral",
        "content as typed parts, with a part of reasoning",
        first=_first({"content": [_PARTS]}),
        word=_words(_text_parts("text")),
    ),
    _spoken(
        "output_text_parts",
        "some gateways",
        "content as parts of type `output_text`",
        word=_words(_text_parts("output_text")),
    ),
    _spoken(
        "one_part",
        "some gateways",
        "content as one part, without a list",
        word=_words(lambda text: {"content": {"type": "text", "text": text}}),
    ),
    _spoken(
        "reference_parts",
        "Mistral",
        "parts without text, such as references",
        word=_words(
            lambda text: {
                "content": [
                    {"type": "text", "text": text},
                    {"type": "reference", "reference_ids": [1]},
                ]
            }
        ),
    ),
    _silent(
        "image_parts",
        "some gateways",
        "parts of an unknown type",
        "unknown type 'image'",
        word=_words(lambda _: {"content": [{"type": "image", "data": ""}]}),
    ),
    _silent(
        "untyped_parts",
        "some gateways",
        "content as a list of strings",
        "neither a string nor a list of typed parts",
        word=_words(lambda text: {"content": [text]}),
    ),
    _spoken(
        "reasoning",
        "vLLM, OpenRouter",
        "reasoning in `reasoning`",
        first=_first({"reasoning": REASONING}, {"reasoning": "", "content": ""}),
    ),
    _spoken(
        "reasoning_content",
        "SGLang, DeepSeek",
        "reasoning in `reasoning_content`",
        first=_first({"reasoning_content": REASONING, "content": None}),
    ),
    _spoken(
        "reasoning_details",
        "OpenRouter",
        "reasoning in `reasoning_details` only",
        first=_first(_DETAILS),
    ),
    _spoken(
        "reasoning_twice",
        "gateways",
        "the same reasoning in two fields",
        first=_first({"reasoning": REASONING, "reasoning_content": REASONING}),
    ),
    _silent(
        "reasoning_only",
        "several",
        "reasoning without text",
        "only reasoning or whitespace",
        first=_first({"reasoning": REASONING}),
        word=nothing,
    ),
    _silent("no_text", "several", "no text at all", "only reasoning or whitespace", word=nothing),
    Speech(
        name="refusal",
        servers="OpenAI",
        what="text in `refusal`, which is the text",
        answer=None,
        stream=Stream(word=_words(lambda _: {"refusal": "No. ", "content": None})),
    ),
    _silent(
        "tool_call",
        "OpenAI",
        "a tool call that was not offered",
        "returned a tool call instead of text",
        first=_first({"content": None, "tool_calls": [_CALL]}),
        word=nothing,
        last=lambda _, index: [chunk({}, "tool_calls", index)],
    ),
    _spoken(
        "text_and_tool_call",
        "OpenAI",
        "a tool call after text; only the text is used",
        last=lambda ask, index: [chunk({"tool_calls": [_CALL]}, index=index), *stop(ask, index)],
    ),
    _spoken(
        "null_role_content",
        "llama.cpp",
        "null content in the first chunk",
        first=_first({"role": "assistant", "content": None}),
    ),
    _spoken(
        "no_role",
        "newer Ollama",
        "the role in each chunk",
        first=nothing,
        word=_words(lambda text: {"role": "assistant", "content": text}),
    ),
    _spoken(
        "no_delta_at_end", "some gateways", "no `delta` in the finish chunk", last=_without_delta
    ),
    _spoken(
        "null_delta_at_end", "some gateways", "null `delta` in the finish chunk", last=_null_delta
    ),
    _spoken(
        "null_error",
        "some gateways",
        "a null `error` in each chunk",
        word=_words(lambda text: {"content": text}, error=None),
    ),
    _spoken(
        "null_data",
        "some gateways",
        "`data: null` among the chunks",
        word=_after(2, b"data: null\n\n"),
    ),
    _spoken("empty_data", "some gateways", "`data:` without data", word=_after(2, b"data:\n\n")),
    _spoken(
        "empty_choices",
        "several",
        "chunks without choices among the others",
        word=_after(2, b'data: {"choices": []}\n\n'),
    ),
    _spoken(
        "no_choices",
        "several",
        "chunks of another kind among the others",
        word=_after(2, b'data: {"type": "ping"}\n\n'),
    ),
    _silent(
        "no_json",
        "broken proxies",
        "a chunk that is not JSON",
        "expected a JSON chunk",
        word=_after(2, b"data: {not json\n\n"),
    ),
    _silent(
        "json_list",
        "broken proxies",
        "a chunk that is a list",
        "expected a JSON object",
        word=_after(2, b"data: [1]\n\n"),
    ),
)

FRAMING = (
    _spoken("crlf", "several", "lines that end with CR LF", newline="\r\n"),
    _spoken("cr", "several", "lines that end with CR", newline="\r"),
    _spoken("no_space", "several", "no space after `data:`", prefix="data:"),
    _spoken(
        "event_fields",
        "several",
        "`retry`, `id` and `event` lines",
        word=_after(0, b"retry: 3000\nid: 1\nevent: message\n"),
    ),
    _spoken(
        "comments",
        "OpenRouter",
        "comments before and between chunks",
        opening=lambda _: [b": PROCESSING\n\n"],
        word=_after(2, b": still here\n\n"),
    ),
    _spoken(
        "blank_lines",
        "several",
        "blank lines before the first chunk",
        opening=lambda _: [b"\n\n\r\n"],
    ),
    _spoken(
        "byte_order_mark",
        "broken proxies",
        "a byte order mark",
        opening=lambda _: [b"\xef\xbb\xbf"],
    ),
    _spoken("done_with_blanks", "several", "blanks around `[DONE]`", done=b"data:  [DONE] \n\n"),
    _spoken("no_done", "several", "no `[DONE]`", done=b""),
    _spoken(
        "no_blank_line_at_end", "several", "no blank line after `[DONE]`", done=b"data: [DONE]"
    ),
    _spoken(
        "media_type_charset",
        "several",
        "`text/event-stream; charset=utf-8`",
        media_type="text/event-stream; charset=utf-8",
    ),
    _spoken("media_type_upper", "several", "`Text/Event-Stream`", media_type="Text/Event-Stream"),
    _spoken(
        "media_type_text", "several", "an event stream as `text/plain`", media_type="text/plain"
    ),
    _spoken(
        "media_type_json",
        "several",
        "an event stream as `application/json`",
        media_type="application/json",
    ),
    _spoken(
        "media_type_octets",
        "several",
        "an event stream as `application/octet-stream`",
        media_type="application/octet-stream",
    ),
    _spoken("gzip", "some proxies", "a reply compressed with gzip, unasked", is_compressed=True),
    _silent(
        "json_lines",
        "Ollama's own API",
        "JSON lines instead of events",
        "expected an event stream, got application/x-ndjson",
        prefix="",
        newline="\n",
        media_type="application/x-ndjson",
        done=b"",
    ),
)

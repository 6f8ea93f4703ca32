"""Dialects that differ in where and how they report usage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.engines.dialects.speech import (
    CACHED_TOKENS,
    REASONING,
    Ask,
    Chunks,
    Json,
    Speech,
    Stream,
    chunk,
    final_usage,
    nothing,
    stop,
    words_of,
)


def closing(usage: Callable[[Ask], Any], **more: Any) -> Stream:
    """Return the stream whose last chunk has no choices and `usage`."""
    return Stream(closing=lambda ask: [{"choices": [], "usage": usage(ask)} | more])


def _running(count: Callable[[Ask, int], int]) -> Callable[[Ask, int, str, int], Chunks]:
    def word(ask: Ask, index: int, text: str, position: int) -> Chunks:
        usage = ask.usage(count(ask, position))
        yield chunk({"content": text}, index=index, usage=usage)

    return word


def _finish_usage(ask: Ask, index: int) -> Chunks:
    usage = ask.usage(len(ask.words()))
    yield chunk({"content": ""}, ask.reason(), index, usage=usage)


def _last_finish_usage(ask: Ask, index: int) -> Chunks:
    more = {"usage": ask.usage()} if index == ask.n - 1 else {}
    yield chunk({"content": ""}, ask.reason(), index, **more)


def _choice_usage(ask: Ask, index: int) -> Chunks:
    (each,) = stop(ask, index)
    each["choices"][0]["usage"] = ask.usage(len(ask.words()))
    yield each


def _deepseek_first(ask: Ask, index: int) -> Chunks:
    for text in words_of(REASONING)[:-1]:
        ask.completion += 1
        yield chunk({"reasoning_content": text, "content": None}, index=index)


def _deepseek_last(ask: Ask, index: int) -> Chunks:
    usage = ask.usage() | {"prompt_cache_hit_tokens": CACHED_TOKENS}
    yield chunk({"content": ""}, ask.reason(), index, usage=usage)


def _perplexity_word(ask: Ask, index: int, text: str, count: int) -> Chunks:
    message = {"role": "assistant", "content": "".join(ask.words()[:count])}
    (each,) = _running(lambda _, position: position)(ask, index, text, count)
    each["choices"][0]["message"] = message
    yield each


def _filter_then_usage(ask: Ask) -> Chunks:
    notice: Json = {"index": 0, "finish_reason": None, "content_filter_results": {}}
    yield {"choices": [notice]}
    yield from final_usage(ask)


def _openrouter(ask: Ask) -> Chunks:
    yield chunk({"role": "assistant", "content": ""}, usage=ask.usage())


def _two_reports(ask: Ask) -> Chunks:
    yield {"choices": [], "usage": ask.usage()}
    yield {"choices": [], "usage": ask.usage()}


def _corrected(ask: Ask) -> Chunks:
    yield {"choices": [], "usage": ask.usage(1)}
    yield {"choices": [], "usage": ask.usage()}


def _before_finish(ask: Ask, index: int) -> Chunks:
    yield {"choices": [], "usage": ask.usage()}
    yield from stop(ask, index)


def _only(**values: Any) -> Callable[[Ask], Any]:
    return lambda ask: {"prompt_tokens": 10, "completion_tokens": ask.completion} | values


def _thinking(ask: Ask) -> Chunks:
    ask.completion += 4
    yield from final_usage(ask)


def _detailed(**details: Any) -> Stream:
    return closing(lambda ask: ask.usage() | details)


EXACT: Iterable[Speech] = (
    Speech(
        name="openai",
        servers="OpenAI, vLLM, SGLang, llama.cpp",
        what="usage in a last chunk without choices, if requested",
    ),
    Speech(
        name="usage_with_choice",
        servers="OpenRouter",
        what="usage in a chunk with a choice, after the finish reason",
        stream=Stream(closing=_openrouter),
    ),
    Speech(
        name="usage_with_second_finish",
        servers="LiteLLM",
        what="usage in a second chunk with a finish reason",
        stream=Stream(closing=lambda ask: [chunk({}, "stop", usage=ask.usage())]),
    ),
    Speech(
        name="usage_on_finish",
        servers="Mistral",
        what="usage on the finish chunk, of each choice",
        stream=Stream(last=_finish_usage, closing=nothing),
    ),
    Speech(
        name="usage_on_last_finish",
        servers="Fireworks",
        what="usage on the last finish chunk, of the whole reply",
        stream=Stream(last=_last_finish_usage, closing=nothing),
    ),
    Speech(
        name="usage_in_choice",
        servers="Moonshot",
        what="usage inside the choice of the finish chunk",
        stream=Stream(last=_choice_usage, closing=nothing),
    ),
    Speech(
        name="deepseek",
        servers="DeepSeek",
        what="usage and `prompt_cache_hit_tokens` on the finish chunk; `reasoning_content`",
        n_requests=3,
        stream=Stream(first=_deepseek_first, last=_deepseek_last, closing=nothing),
        refuse=lambda ask: (400, {"error": {"message": "n: only 1"}}) if ask.n > 1 else None,
    ),
    Speech(
        name="usage_in_x_groq",
        servers="Groq",
        what="usage in `x_groq`",
        stream=Stream(
            closing=lambda ask: [{"choices": [], "x_groq": {"id": "r", "usage": ask.usage()}}]
        ),
    ),
    Speech(
        name="running_usage",
        servers="vLLM behind a gateway, SGLang",
        what="running count of each choice in each chunk",
        stream=Stream(word=_running(lambda _, position: position), closing=nothing),
    ),
    Speech(
        name="running_usage_of_reply",
        servers="Gemini, Databricks",
        what="running count of the whole reply in each chunk",
        stream=Stream(word=_running(lambda ask, _: ask.completion), closing=nothing),
    ),
    Speech(
        name="running_then_final",
        servers="xAI",
        what="running counts and a final usage",
        stream=Stream(word=_running(lambda _, position: position)),
    ),
    Speech(
        name="running_then_larger_final",
        servers="servers that hide reasoning",
        what="running counts and a larger final usage, which wins",
        stream=Stream(word=_running(lambda _, position: position), closing=_thinking),
    ),
    Speech(
        name="message_and_delta",
        servers="Perplexity",
        what="the text so far in `message` beside each delta; running counts; no `[DONE]`",
        stream=Stream(word=_perplexity_word, closing=nothing, done=b""),
    ),
    Speech(
        name="total_in_each_chunk",
        servers="replayed replies",
        what="the same total in each chunk",
        stream=Stream(word=_running(lambda ask, _: len(ask.words()) * ask.n)),
    ),
    Speech(
        name="filter_notice",
        servers="Azure OpenAI",
        what="a content filter notice between finish reason and usage",
        stream=Stream(
            closing=_filter_then_usage,
            opening=lambda _: [{"choices": [], "usage": None, "prompt_filter_results": []}],
        ),
    ),
    Speech(
        name="usage_null_choices",
        servers="gateways",
        what="usage in a chunk with null choices",
        stream=closing(_only(), choices=None),
    ),
    Speech(
        name="usage_without_choices",
        servers="gateways",
        what="usage in a chunk without `choices`",
        stream=Stream(closing=lambda ask: [{"usage": ask.usage()}]),
    ),
    Speech(
        name="usage_twice",
        servers="gateways",
        what="the same usage twice",
        stream=Stream(closing=_two_reports),
    ),
    Speech(
        name="usage_corrected",
        servers="gateways",
        what="two usages of which the last is right",
        stream=Stream(closing=_corrected),
    ),
    Speech(
        name="usage_before_finish",
        servers="gateways",
        what="usage in a chunk without choices before the finish reason",
        n_requests=1,
        stream=Stream(last=_before_finish, closing=nothing),
    ),
    Speech(
        name="usage_null_details",
        servers="several",
        what="null details in the usage",
        stream=_detailed(prompt_tokens_details=None, completion_tokens_details=None),
    ),
    Speech(
        name="usage_cached",
        servers="OpenAI, vLLM",
        what="cached tokens in `prompt_tokens_details`",
        stream=_detailed(prompt_tokens_details={"cached_tokens": CACHED_TOKENS}),
    ),
    Speech(
        name="usage_null_until_end",
        servers="OpenAI",
        what="null usage in each chunk but the last",
        stream=Stream(
            word=lambda _, index, text, __: [chunk({"content": text}, index=index, usage=None)]
        ),
    ),
)


def _estimated(name: str, servers: str, what: str, usage: Callable[[Ask], Any]) -> Speech:
    return Speech(name=name, servers=servers, what=what, usage="estimated", stream=closing(usage))


ESTIMATED: Iterable[Speech] = (
    Speech(
        name="no_usage",
        servers="older servers",
        what="no usage",
        usage="estimated",
        stream=Stream(closing=nothing),
    ),
    Speech(
        name="no_stream_options",
        servers="older servers",
        what="rejects `stream_options`, reports no usage",
        usage="estimated",
        refuse=lambda ask: (
            (
                422,
                {
                    "detail": [
                        {"loc": ["body", "stream_options"], "msg": "extra fields not permitted"}
                    ]
                },
            )
            if "stream_options" in ask.body
            else None
        ),
    ),
    Speech(
        name="zero_in_each_chunk",
        servers="some gateways",
        what="0 completion tokens in each chunk",
        usage="prompt exact, completion estimated",
        stream=Stream(word=_running(lambda *_: 0), closing=nothing),
    ),
    Speech(
        name="one_in_each_chunk",
        servers="some gateways",
        what="1 completion token in each chunk: no running count",
        usage="prompt exact, completion estimated",
        stream=Stream(word=_running(lambda *_: 1), closing=nothing),
    ),
    Speech(
        name="zero_at_end",
        servers="some gateways",
        what="0 completion tokens at the end",
        usage="prompt exact, completion estimated",
        stream=closing(lambda ask: ask.usage(0)),
    ),
    Speech(
        name="usage_only_completion",
        servers="TGI",
        what="no prompt tokens in the usage",
        usage="completion exact, prompt estimated",
        stream=closing(lambda ask: {"completion_tokens": ask.completion}),
    ),
    Speech(
        name="usage_only_prompt",
        servers="some gateways",
        what="no completion tokens in the usage",
        usage="prompt exact, completion estimated",
        stream=closing(_only(completion_tokens=None)),
    ),
    _estimated(
        "usage_null_figures",
        "some gateways",
        "null figures",
        _only(prompt_tokens=None, completion_tokens=None),
    ),
    _estimated(
        "usage_text_figures",
        "some gateways",
        "figures as text",
        _only(prompt_tokens="10", completion_tokens="7"),
    ),
    _estimated(
        "usage_float_figures",
        "some gateways",
        "figures with a decimal point, even 10.0",
        lambda ask: {"prompt_tokens": 10.0, "completion_tokens": float(ask.completion)},
    ),
    _estimated(
        "usage_negative_figures",
        "some gateways",
        "negative figures",
        _only(prompt_tokens=-1, completion_tokens=-7),
    ),
    _estimated(
        "usage_boolean_figures",
        "some gateways",
        "booleans as figures",
        _only(prompt_tokens=True, completion_tokens=True),
    ),
    _estimated(
        "usage_huge_figures",
        "some gateways",
        "figures above 10⁹",
        _only(prompt_tokens=2**40, completion_tokens=10**40),
    ),
    _estimated("usage_empty", "some gateways", "an empty usage", lambda _: {}),
    _estimated(
        "usage_list", "some gateways", "a list in place of the usage", lambda ask: [ask.completion]
    ),
)

USAGE = (*EXACT, *ESTIMATED)

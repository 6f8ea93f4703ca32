"""Capability probe of an OpenAI-compatible server, by calls of one or a few tokens.

Most features are detected by their effect on the reply, because many servers ignore unknown fields.
`seed`, `schema` and `repetition` have no visible effect: they count as supported if the server accepts the fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio

from secondpass.service.engines.common.json_text import parse_json
from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.labels import TOP_LOGPROBS
from secondpass.service.engines.openai.model_list import context_window, fetch_model
from secondpass.service.engines.openai.reply_counts import (
    PROBE_TOKENS,
    Chunks,
    CountProbe,
    choices_of,
    read_counts,
)
from secondpass.service.engines.openai.tokenizer_info import fetch_control_tokens
from secondpass.service.engines.openai.usage import token_ids_of, usage_of
from secondpass.service.engines.openai.wire import REPETITION_DETECTION, Dialect
from secondpass.strategies.api.engine import MAX_TEMPLATE_TOKENS
from secondpass.strategies.api.errors import (
    CallRejected,
    EngineError,
    EngineUnavailable,
    StreamInterrupted,
)
from secondpass.strategies.api.values import Capability

HEALTH_SECONDS = 10.0
_MAX_CHUNKS = 1_000
PROBE_MESSAGES = [{"role": "user", "content": "Is water wet?"}]
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "reply", "strict": True, "schema": {"type": "integer"}},
}
_FINAL_USAGE = ("include_usage",)
_CONTINUOUS_USAGE = ("include_usage", "continuous_usage_stats")
# These servers continue an open assistant turn. Others would silently start a new turn.
_CONTINUES_TEXT = frozenset(("vllm", "llamacpp"))


@dataclass(frozen=True, slots=True)
class Feature:
    """An optional feature: the request fields that enable it, and its detection in the reply."""

    name: str
    fields: Mapping[str, Any]
    is_supported: Callable[[Chunks], bool]


async def probe(connection: Connection, requested: str | None) -> Dialect:
    """Return the server's dialect for the model `requested`; None for its only model.

    Raises:
        EngineError: the server does not answer or does not serve the model; the message contains the reason.
    """
    model, lists_models = await fetch_model(connection, requested)
    with connection.parsing(None):
        owner = str(model.get("owned_by"))
        window = model.get("max_model_len")
        dialect = Dialect(
            model=model["id"],
            is_vllm=owner == "vllm"
            or (window is not None and await _has_version_route(connection)),
            context_window=context_window(model),
            lists_models=lists_models,
        )
    ids = await _probe_prompt_ids(connection, dialect) if dialect.is_vllm else None
    features = list(_vllm_features(ids) if dialect.is_vllm else _plain_features())
    max_tokens, supported = await _detect_features(connection, dialect.model, features)
    capabilities: set[Capability] = {
        name for name in ("labels", "schema", "logprobs", "seed") if name in supported
    }
    has_token_ids = "token_ids" in supported
    counts = CountProbe(has_n=True, is_running=True, per_choice=True)
    if not (dialect.is_vllm and has_token_ids):
        counts = await _probe_counts(connection, dialect, max_tokens, _stream_options(supported))
    if has_token_ids or counts.is_running:
        capabilities.add("token_counts")
    else:
        supported -= {"continuous_usage"}
    if counts.has_n:
        capabilities.add("n")
    if ids:
        capabilities.add("tokenize")
        if await _continues_tokens(connection, dialect, ids):
            capabilities.add("prefix")
    elif owner in _CONTINUES_TEXT:
        capabilities.add("prefix")
    return replace(
        dialect,
        capabilities=frozenset(capabilities),
        max_tokens=max_tokens,
        stream_options=_stream_options(supported),
        has_token_ids=has_token_ids,
        counts_per_choice=counts.per_choice,
        splits_tokens=counts.splits_tokens,
        template_tokens=_template_tokens(counts.prompt, dialect.context_window),
        detects_repetition="repetition" in supported,
        control_tokens=await fetch_control_tokens(connection) if dialect.is_vllm else frozenset(),
    )


async def check_health(connection: Connection, dialect: Dialect) -> None:
    """Send the cheapest request that the server answers while it is alive.

    Raises EngineError if it fails or takes longer than HEALTH_SECONDS.
    """
    is_vllm = dialect.is_vllm and "tokenize" in dialect.capabilities
    url = f"{connection.root}/health" if is_vllm else f"{connection.url}/models"
    with anyio.move_on_after(HEALTH_SECONDS):
        try:
            await connection.fetch_json("GET", url)
        except CallRejected:
            if dialect.lists_models:
                raise
        return
    raise EngineUnavailable(
        f"no reply to the health check within {HEALTH_SECONDS:g} s", engine=connection.engine
    )


async def _has_version_route(connection: Connection) -> bool:
    with suppress(EngineError):
        reply = await connection.fetch("GET", f"{connection.root}/version")
        return "version" in reply
    return False


async def _probe_prompt_ids(connection: Connection, dialect: Dialect) -> list[int] | None:
    """Return the token ids of the probe's prompt; None if /tokenize is unavailable."""
    body = {"model": dialect.model, "messages": PROBE_MESSAGES}
    with suppress(CallRejected, StreamInterrupted):
        reply = await connection.fetch("POST", f"{connection.root}/tokenize", body)
        with connection.parsing(None):
            return list(token_ids_of(reply["tokens"]))
    return None


def _vllm_features(ids: list[int] | None) -> Iterator[Feature]:
    options = dict.fromkeys(_CONTINUOUS_USAGE, True)
    yield Feature("continuous_usage", {"stream_options": options}, _has_usage)
    yield Feature("token_ids", {"return_token_ids": True, "stream_interval": 2}, _has("token_ids"))
    yield Feature("logprobs", {"logprobs": True}, _has("logprobs"))
    yield Feature("seed", {"seed": 1}, bool)
    yield Feature("schema", {"response_format": _SCHEMA}, bool)
    yield Feature("repetition", {"repetition_detection": REPETITION_DETECTION}, bool)
    if ids:
        fields = {
            "logprobs": True,
            "logprob_token_ids": ids[:1],
            "return_tokens_as_token_ids": True,
        }
        name = f"token_id:{ids[0]}"
        yield Feature("labels", fields, lambda chunks: name in _top_tokens(chunks))


def _plain_features() -> Iterator[Feature]:
    for name, options in (
        ("usage", _FINAL_USAGE),
        ("continuous_usage", _CONTINUOUS_USAGE),
    ):
        yield Feature(name, {"stream_options": dict.fromkeys(options, True)}, _has_usage)
    alternatives = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    yield Feature("logprobs", alternatives, _has("logprobs"))
    yield Feature("labels", alternatives, lambda chunks: len(_top_tokens(chunks)) > 1)
    yield Feature("seed", {"seed": 1}, bool)
    yield Feature("schema", {"response_format": _SCHEMA}, bool)


async def _detect_features(
    connection: Connection, model: str, features: Sequence[Feature]
) -> tuple[str, set[str]]:
    """Return the name of the token limit field and the names of the supported features.

    One call requests all features. If the server rejects it, each feature has its own call.
    """
    fields: dict[str, Any] = {}
    for feature in features:
        fields |= feature.fields
    with suppress(EngineError):  # some servers fail on an unknown field
        chunks = await _probe_chat(connection, model, "max_tokens", fields)
        return "max_tokens", {feature.name for feature in features if feature.is_supported(chunks)}
    max_tokens = "max_tokens"
    try:
        await _probe_chat(connection, model, max_tokens, {})
    except CallRejected:
        max_tokens = "max_completion_tokens"
        await _probe_chat(connection, model, max_tokens, {})
    supported = set()
    for feature in features:
        with suppress(EngineError):
            chunks = await _probe_chat(connection, model, max_tokens, feature.fields)
            if feature.is_supported(chunks):
                supported.add(feature.name)
    return max_tokens, supported


async def _probe_counts(
    connection: Connection, dialect: Dialect, max_tokens: str, options: tuple[str, ...]
) -> CountProbe:
    """Request two completions of several tokens, or one if the server rejects or fails the request."""
    fields = {max_tokens: PROBE_TOKENS}
    more = {"stream_options": dict.fromkeys(options, True)} if options else {}
    for n in ({},) if dialect.is_vllm else ({"n": 2}, {}):
        with suppress(EngineError):
            chunks = await _probe_chat(connection, dialect.model, max_tokens, fields | more | n)
            with connection.parsing(None):
                counts = read_counts(chunks)
            return replace(counts, has_n=True, per_choice=True) if dialect.is_vllm else counts
    return CountProbe(has_n=dialect.is_vllm, per_choice=dialect.is_vllm)


async def _probe_chat(
    connection: Connection, model: str, max_tokens: str, fields: Mapping[str, Any]
) -> Chunks:
    body = {"model": model, "messages": PROBE_MESSAGES, max_tokens: 1, "stream": True, **fields}
    return await _stream(connection, "chat/completions", body)


async def _continues_tokens(connection: Connection, dialect: Dialect, ids: list[int]) -> bool:
    body = {"model": dialect.model, "prompt": ids, "max_tokens": 1, "stream": True}
    with suppress(CallRejected, StreamInterrupted):
        chunks = await _stream(connection, "completions", body | {"return_token_ids": True})
        detokenize = {"model": dialect.model, "tokens": ids}
        reply = await connection.fetch("POST", f"{connection.root}/detokenize", detokenize)
        return _has("token_ids")(chunks) and "prompt" in reply
    return False


async def _stream(connection: Connection, route: str, body: Mapping[str, Any]) -> Chunks:
    content = json.dumps(body).encode()
    chunks = []
    async with connection.open("POST", f"{connection.url}/{route}", content) as response:
        with connection.parsing(None):
            async for payloads in connection.events(response):
                for chunk in map(parse_json, payloads):
                    if chunk is not None:
                        connection.raise_if_error(chunk, None)
                        chunks.append(chunk)
                if len(chunks) > _MAX_CHUNKS:  # the server ignores the token limit
                    break
    return chunks


def _template_tokens(prompt: int | None, window: int | None) -> int | None:
    """Return the tokens of the chat template from those of the probe's prompt; None if implausible."""
    if prompt is None or prompt > min(MAX_TEMPLATE_TOKENS, window or MAX_TEMPLATE_TOKENS):
        return None
    return max(0, prompt - 1)


def _has(name: str) -> Callable[[Chunks], bool]:
    return lambda chunks: any(choice.get(name) for chunk in chunks for choice in choices_of(chunk))


def _has_usage(chunks: Chunks) -> bool:
    return any(usage_of(each) for chunk in chunks for each in (chunk, *choices_of(chunk)))


def _top_tokens(chunks: Chunks) -> set[str]:
    """Return all tokens in the `top_logprobs` of the reply."""
    return {
        entry["token"]
        for chunk in chunks
        for choice in choices_of(chunk)
        for token in (choice.get("logprobs") or {}).get("content") or ()
        for entry in token.get("top_logprobs") or ()
    }


def _stream_options(supported: set[str]) -> tuple[str, ...]:
    if "continuous_usage" in supported:
        return _CONTINUOUS_USAGE
    return _FINAL_USAGE if "usage" in supported else ()

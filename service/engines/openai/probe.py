"""What can this server do? Asked once with calls of one token, since versions and gateways differ.

A feature counts only when its effect was seen in the reply: many servers ignore the fields that they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio

from secondpass.service.engines.common.status_codes import short
from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.labels import TOP
from secondpass.service.engines.openai.wire import Dialect
from secondpass.strategies.api.errors import (
    CallRejected,
    EngineError,
    EngineUnavailable,
    StreamInterrupted,
)
from secondpass.strategies.api.values import Capability

HEALTH_SECONDS = 10.0
QUESTION = [{"role": "user", "content": "Is water wet?"}]
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "reply", "strict": True, "schema": {"type": "integer"}},
}
_FINAL_USAGE = ("include_usage",)
_CONTINUOUS_USAGE = ("include_usage", "continuous_usage_stats")
# These continue an assistant turn that a request leaves open; others would begin a new turn in silence.
_CONTINUES_TEXT = frozenset(("vllm", "llamacpp"))

Chunks = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Feature:
    """Fields that ask for something, and how the reply shows that it was understood."""

    name: str
    fields: Mapping[str, Any]
    is_shown: Callable[[Chunks], bool]


async def probe(connection: Connection, wanted: str | None) -> Dialect:
    """What the server understands. Raises EngineError saying why it cannot serve the model `wanted`.

    Without `wanted` the only model that is served is taken.
    """
    listed = await connection.fetch("GET", f"{connection.url}/models")
    with connection.readable(None):
        model = find_model(listed["data"], wanted, connection.engine)
        owner = str(model.get("owned_by"))
        window = model.get("max_model_len")
        dialect = Dialect(
            model=model["id"],
            is_vllm=owner == "vllm" or (window is not None and await _tells_version(connection)),
            context_window=window if isinstance(window, int) else None,
        )
    ids = await _question_ids(connection, dialect) if dialect.is_vllm else None
    offered = list(_vllm_features(ids) if dialect.is_vllm else _plain_features())
    max_tokens, shown = await _try(connection, dialect.model, offered)
    found: set[Capability] = {
        name for name in ("labels", "schema", "logprobs", "seed") if name in shown
    }
    if {"token_ids", "continuous_usage"} & shown:
        found.add("token_counts")
    if ids:
        found.add("tokenize")
        if await _continues_tokens(connection, dialect, ids):
            found.add("prefix")
    elif owner in _CONTINUES_TEXT:
        found.add("prefix")
    return replace(
        dialect,
        capabilities=frozenset(found),
        max_tokens=max_tokens,
        stream_options=_stream_options(shown),
        has_token_ids="token_ids" in shown,
    )


async def check_health(connection: Connection, dialect: Dialect) -> None:
    """The cheapest question that shows a server alive. Raises EngineError, also for HEALTH_SECONDS of silence."""
    is_vllm = dialect.is_vllm and "tokenize" in dialect.capabilities
    url = f"{connection.root}/health" if is_vllm else f"{connection.url}/models"
    with anyio.move_on_after(HEALTH_SECONDS):
        await connection.fetch("GET", url)
        return
    raise EngineUnavailable(f"silent for {HEALTH_SECONDS:g} s", engine=connection.engine)


def find_model(
    served: Sequence[Mapping[str, Any]], wanted: str | None, engine: str
) -> Mapping[str, Any]:
    """The entry of the model `wanted` (None: the only one there is). Raises CallRejected, which lists those served."""
    names = [str(model["id"]) for model in served]
    if wanted is None and len(served) == 1:
        return served[0]
    if wanted in names:
        return served[names.index(wanted)]
    asked = "no model was named" if wanted is None else f"not {wanted!r}"
    said = short(", ".join(names)) or "no model"
    raise CallRejected(f"it serves {said}; {asked}", engine=engine, status=404)


async def _tells_version(connection: Connection) -> bool:
    with suppress(EngineError):
        reply = await connection.fetch("GET", f"{connection.root}/version")
        return "version" in reply
    return False


async def _question_ids(connection: Connection, dialect: Dialect) -> list[int] | None:
    """The probe's own prompt as token ids; None where /tokenize is not to be reached."""
    body = {"model": dialect.model, "messages": QUESTION}
    with suppress(CallRejected, StreamInterrupted):
        reply = await connection.fetch("POST", f"{connection.root}/tokenize", body)
        with connection.readable(None):
            return [int(token) for token in reply["tokens"]]
    return None


def _vllm_features(ids: list[int] | None) -> Iterator[Feature]:
    options = dict.fromkeys(_CONTINUOUS_USAGE, True)
    yield Feature("continuous_usage", {"stream_options": options}, _counts_as_it_goes)
    yield Feature("token_ids", {"return_token_ids": True, "stream_interval": 2}, _has("token_ids"))
    yield Feature("logprobs", {"logprobs": True}, _has("logprobs"))
    yield Feature("seed", {"seed": 1}, bool)
    yield Feature("schema", {"response_format": _SCHEMA}, bool)
    if ids:
        asked = {"logprob_token_ids": ids[:1], "return_tokens_as_token_ids": True}
        name = f"token_id:{ids[0]}"
        yield Feature("labels", {"logprobs": True, **asked}, lambda chunks: name in _tops(chunks))


def _plain_features() -> Iterator[Feature]:
    for name, options, is_shown in (
        ("usage", _FINAL_USAGE, _counts),
        ("continuous_usage", _CONTINUOUS_USAGE, _counts_as_it_goes),
    ):
        yield Feature(name, {"stream_options": dict.fromkeys(options, True)}, is_shown)
    alternatives = {"logprobs": True, "top_logprobs": TOP}
    yield Feature("logprobs", alternatives, _has("logprobs"))
    yield Feature("labels", alternatives, lambda chunks: len(_tops(chunks)) > 1)
    yield Feature("seed", {"seed": 1}, bool)
    yield Feature("schema", {"response_format": _SCHEMA}, bool)


async def _try(
    connection: Connection, model: str, offered: Sequence[Feature]
) -> tuple[str, set[str]]:
    """The name of the token limit, and the features that showed: all in one call, else each alone."""
    every: dict[str, Any] = {}
    for feature in offered:
        every |= feature.fields
    with suppress(CallRejected):
        chunks = await _ask(connection, model, "max_tokens", every)
        return "max_tokens", {feature.name for feature in offered if feature.is_shown(chunks)}
    max_tokens = "max_tokens"
    try:
        await _ask(connection, model, max_tokens, {})
    except CallRejected:
        max_tokens = "max_completion_tokens"
        await _ask(connection, model, max_tokens, {})
    shown = set()
    for feature in offered:
        with suppress(CallRejected, StreamInterrupted):
            if feature.is_shown(await _ask(connection, model, max_tokens, feature.fields)):
                shown.add(feature.name)
    return max_tokens, shown


async def _ask(
    connection: Connection, model: str, max_tokens: str, fields: Mapping[str, Any]
) -> Chunks:
    body = {"model": model, "messages": QUESTION, max_tokens: 1, "stream": True, **fields}
    return await _stream(connection, "chat/completions", body)


async def _continues_tokens(connection: Connection, dialect: Dialect, ids: list[int]) -> bool:
    body = {"model": dialect.model, "prompt": ids, "max_tokens": 1, "stream": True}
    with suppress(CallRejected, StreamInterrupted):
        chunks = await _stream(connection, "completions", body | {"return_token_ids": True})
        asked = {"model": dialect.model, "tokens": ids}
        text = await connection.fetch("POST", f"{connection.root}/detokenize", asked)
        return _has("token_ids")(chunks) and "prompt" in text
    return False


async def _stream(connection: Connection, route: str, body: Mapping[str, Any]) -> Chunks:
    content = json.dumps(body).encode()
    chunks = []
    async with connection.open("POST", f"{connection.url}/{route}", content) as response:
        with connection.readable(None):
            async for payloads in connection.events(response):
                for chunk in map(json.loads, payloads):
                    connection.raise_if_error(chunk, None)
                    chunks.append(chunk)
    return chunks


def _choices(chunks: Chunks) -> Iterator[Mapping[str, Any]]:
    for chunk in chunks:
        yield from chunk.get("choices") or ()


def _has(name: str) -> Callable[[Chunks], bool]:
    return lambda chunks: any(choice.get(name) for choice in _choices(chunks))


def _counts(chunks: Chunks) -> bool:
    return any(chunk.get("usage") for chunk in chunks)


def _counts_as_it_goes(chunks: Chunks) -> bool:
    return any(chunk.get("usage") and chunk.get("choices") for chunk in chunks)


def _tops(chunks: Chunks) -> set[str]:
    """Every token among the alternatives of the reply's tokens."""
    return {
        entry["token"]
        for choice in _choices(chunks)
        for token in (choice.get("logprobs") or {}).get("content") or ()
        for entry in token.get("top_logprobs") or ()
    }


def _stream_options(shown: set[str]) -> tuple[str, ...]:
    if "continuous_usage" in shown:
        return _CONTINUOUS_USAGE
    return _FINAL_USAGE if "usage" in shown else ()

"""Label reads: the probability of each label as the next token.

A label read generates one token and reads its log probabilities. On vLLM it requests the log probabilities of the
labels' token ids, which is exact. Other servers return only the 20 most probable tokens: a label outside them has
probability 0, so the labels sum to less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from secondpass.service.engines.common.codec import Codec
from secondpass.service.engines.common.prefix_ids import prefix_ids
from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.logprobs import log_probability
from secondpass.service.engines.openai.token_cache import Tokenizer
from secondpass.service.engines.openai.wire import Dialect, chat_body, completion_body
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CallRejected

TOP_LOGPROBS = 20
_ID_FORMAT = "token_id:{}"
# Some servers return probabilities after temperature and truncation. These values disable both.
_NEUTRAL_SAMPLING = {"temperature": 1.0, "top_p": 1.0}
_NEUTRAL_SAMPLING_VLLM = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}

Token = TypeVar("Token", int, str)
"""A token id, or a token's name in a reply."""


async def label_variants(call: Call, codec: Codec, engine: str) -> dict[str, tuple[int, ...]]:
    """Return the token ids that count for each label.

    They are the label's first token, and the token of the label with a leading space if that is a single token.

    Raises:
        CallRejected: two labels share a token, so their probabilities cannot be separated.
    """
    variants: dict[str, tuple[int, ...]] = {}
    owners: dict[int, str] = {}
    for label in call.labels:
        bare = await codec.encode(label, call)
        spaced = await codec.encode(f" {label}", call)
        ids = dict.fromkeys([*bare[:1], *(spaced if len(spaced) == 1 else ())])
        for token in ids:
            if (owner := owners.setdefault(token, label)) != label:
                raise CallRejected(
                    f"labels: {owner!r} and {label!r} begin with the same token; "
                    f"choose labels that differ in their first token",
                    engine=engine,
                    role=call.role,
                )
        variants[label] = tuple(ids)
    return variants


def label_body(
    call: Call, dialect: Dialect, prompt: list[int] | None, ids: list[int]
) -> dict[str, Any]:
    """Return the body of a label read.

    Args:
        call: the call with the labels.
        dialect: the server's dialect.
        prompt: prompt token ids for /completions; None for /chat/completions.
        ids: token ids whose log probabilities to request; empty for the most probable tokens.
    """
    body = chat_body(call, dialect) if prompt is None else completion_body(call, dialect, prompt)
    body.pop("stop", None)
    body |= (
        _NEUTRAL_SAMPLING
        | (_NEUTRAL_SAMPLING_VLLM if dialect.is_vllm else {})
        | {dialect.max_tokens: 1}
    )
    body["logprobs"] = True if prompt is None else 1
    if ids:
        return body | {"logprob_token_ids": ids, "return_tokens_as_token_ids": True}
    return body | {"top_logprobs": TOP_LOGPROBS}


def sum_variants(
    probabilities: Mapping[Token, float], variants: Mapping[str, Sequence[Token]]
) -> dict[str, float]:
    """Return the probability of each label, summed over its tokens; a missing token counts as 0."""
    return {
        label: sum(probabilities.get(token, 0.0) for token in tokens)
        for label, tokens in variants.items()
    }


def read_labels(
    call: Call, reply: dict[str, Any], variants: Mapping[str, tuple[int, ...]] | None
) -> dict[str, float]:
    """Return the probability of each label from the reply to a label read.

    Probabilities are over the whole vocabulary, so they sum to at most 1. `variants` contains the labels' token ids;
    None where the server identifies tokens by their text. Call within a `Connection.parsing` block.
    """
    probabilities = _token_probabilities(reply["choices"][0]["logprobs"])
    if variants is None:
        return sum_variants(probabilities, {label: (label, f" {label}") for label in call.labels})
    names = {label: [*map(_ID_FORMAT.format, ids)] for label, ids in variants.items()}
    return sum_variants(probabilities, names)


def _token_probabilities(logprobs: dict[str, Any]) -> dict[str, float]:
    """Return token -> probability from the logprobs of either route."""
    if "content" in logprobs:
        first = logprobs["content"][0]
        entries = [(entry["token"], entry["logprob"]) for entry in first["top_logprobs"]]
    else:
        entries = list(logprobs["top_logprobs"][0].items())
    return {token: math.exp(log_probability(logprob)) for token, logprob in entries}


async def fetch_labels(
    call: Call,
    connection: Connection,
    dialect: Dialect,
    tokenizer: Tokenizer | None,
    headers: Mapping[str, str],
) -> tuple[dict[str, float], dict[str, Any]]:
    """Request a label read; return the label probabilities and the whole reply.

    `tokenizer` is None where the server has no /tokenize. Raises EngineError.
    """
    variants = prompt = None
    ids: list[int] = []
    if tokenizer is not None:
        variants = await label_variants(call, tokenizer, connection.engine)
        ids = [token for tokens in variants.values() for token in tokens]
        if isinstance(call.prefix, tuple):
            prompt = [*await tokenizer.render(call), *await prefix_ids(call, tokenizer)]
    route = "chat/completions" if prompt is None else "completions"
    body = label_body(call, dialect, prompt, ids)
    reply = await connection.fetch(
        "POST", f"{connection.url}/{route}", body, headers=headers, role=call.role
    )
    with connection.parsing(call.role):
        return read_labels(call, reply, variants), reply

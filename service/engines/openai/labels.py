"""How probable is each label as the next token: one token is written, and its alternatives are read.

On vLLM the labels' own token ids are asked for, which is exact. Elsewhere only the 20 most probable tokens can be
seen; a label that is not among them counts as 0, and what is missing shows in the mass of the read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from secondpass.service.engines.common.codec import Codec
from secondpass.service.engines.common.prefix_ids import prefix_ids
from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.token_cache import Tokenizer
from secondpass.service.engines.openai.wire import Dialect, chat_body, completion_body
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.errors import CallRejected

TOP = 20
_BY_ID = "token_id:{}"
# Some servers report probabilities after temperature and truncation: these values leave both out.
_UNTOUCHED = {"temperature": 1.0, "top_p": 1.0}
_UNTOUCHED_VLLM = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}

Token = TypeVar("Token", int, str)
"""A token by its id or by its name."""


async def label_variants(call: Call, codec: Codec, engine: str) -> dict[str, tuple[int, ...]]:
    """The token ids that stand for each label: its first token, and " label" where that is one token.

    Raises CallRejected, naming them, when two labels share a token and so cannot be told apart.
    """
    variants: dict[str, tuple[int, ...]] = {}
    owners: dict[int, str] = {}
    for label in call.labels:
        bare = await codec.split(label, call)
        spaced = await codec.split(f" {label}", call)
        ids = dict.fromkeys([*bare[:1], *(spaced if len(spaced) == 1 else ())])
        for token in ids:
            if (owner := owners.setdefault(token, label)) != label:
                raise CallRejected(
                    f"the labels {owner!r} and {label!r} begin with the same token",
                    engine=engine,
                    role=call.role,
                )
        variants[label] = tuple(ids)
    return variants


def label_body(
    call: Call, dialect: Dialect, prompt: list[int] | None, ids: list[int]
) -> dict[str, Any]:
    """The body that asks for one token and the probabilities of `ids` (empty: of the most probable).

    With a `prompt` of token ids it is for /completions, else for /chat/completions.
    """
    body = chat_body(call, dialect) if prompt is None else completion_body(call, dialect, prompt)
    body.pop("stop", None)
    body |= _UNTOUCHED | (_UNTOUCHED_VLLM if dialect.is_vllm else {}) | {dialect.max_tokens: 1}
    body["logprobs"] = True if prompt is None else 1
    if ids:
        return body | {"logprob_token_ids": ids, "return_tokens_as_token_ids": True}
    return body | {"top_logprobs": TOP}


def summed(
    seen: Mapping[Token, float], variants: Mapping[str, Sequence[Token]]
) -> dict[str, float]:
    """The probability of each label: of all tokens that stand for it together. One that was not seen has none."""
    return {
        label: sum(seen.get(token, 0.0) for token in tokens) for label, tokens in variants.items()
    }


def read_labels(
    call: Call, reply: dict[str, Any], variants: Mapping[str, tuple[int, ...]] | None
) -> dict[str, float]:
    """The probability of each label over the whole vocabulary, summed over its variants. Raises on other shapes."""
    seen = _seen(reply["choices"][0]["logprobs"])
    if variants is None:
        return summed(seen, {label: (label, f" {label}") for label in call.labels})
    return summed(seen, {label: [*map(_BY_ID.format, ids)] for label, ids in variants.items()})


def _seen(logprobs: dict[str, Any]) -> dict[str, float]:
    """Token -> probability, from the logprobs of either route."""
    if "content" in logprobs:
        first = logprobs["content"][0]
        entries = [(entry["token"], entry["logprob"]) for entry in first["top_logprobs"]]
    else:
        entries = list(logprobs["top_logprobs"][0].items())
    return {token: math.exp(logprob) for token, logprob in entries}


async def fetch_labels(
    call: Call,
    connection: Connection,
    dialect: Dialect,
    tokenizer: Tokenizer | None,
    headers: Mapping[str, str],
) -> tuple[dict[str, float], dict[str, Any]]:
    """Ask with these headers for the probabilities, and the whole reply for its usage. Raises EngineError and its kinds."""
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
    with connection.readable(call.role):
        return read_labels(call, reply, variants), reply

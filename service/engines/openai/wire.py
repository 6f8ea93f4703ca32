"""Requests in the JSON of OpenAI's API, with vLLM's extensions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import Capability

REPETITION_DETECTION = {"max_pattern_size": 31, "min_pattern_size": 16, "min_count": 64}
"""vLLM's `repetition_detection`: loops of patterns of up to 31 tokens.

A loop has 1,024 to 1,984 tokens. Every pattern of fewer than 16 tokens has a multiple of 16 to 31 tokens. vLLM compares a token for each size, so that more sizes would delay every step.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Request fields and features that a server supports, as probed.

    Attributes:
        model: name of the model in requests.
        is_vllm: whether the server is vLLM.
        capabilities: the server's capabilities.
        context_window: most tokens of prompt and completion together; None if unknown.
        max_tokens: name of the token limit field.
        stream_options: options to enable in `stream_options`.
        has_token_ids: whether the server returns token ids.
        detects_repetition: whether the server ends completions that repeat themselves, on request.
        counts_per_choice: whether the usage of a chunk counts the tokens of its choice, rather than of the whole reply.
        splits_tokens: whether the server sends several deltas for a token, or ignores the token limit.
        lists_models: whether the server has the route /models.
        template_tokens: upper bound of the tokens that the chat template adds to one message; None if unknown.
        control_tokens: control tokens of the tokenizer, beyond those of the known model families.
    """

    model: str
    is_vllm: bool = False
    capabilities: frozenset[Capability] = frozenset()
    context_window: int | None = None
    max_tokens: str = "max_tokens"
    stream_options: tuple[str, ...] = ()
    has_token_ids: bool = False
    detects_repetition: bool = False
    counts_per_choice: bool = False
    splits_tokens: bool = False
    lists_models: bool = True
    template_tokens: int | None = None
    control_tokens: frozenset[str] = frozenset()

    @property
    def continues_tokens(self) -> bool:
        """True if completions are continued from token ids, false if from text."""
        return {"prefix", "tokenize"} <= self.capabilities


def chat_body(call: Call, dialect: Dialect) -> dict[str, Any]:
    """Return the body for /chat/completions; a text prefix becomes an open assistant turn."""
    messages = [message.model_dump(exclude_none=True) for message in call.messages]
    body = _shared_fields(call, dialect) | {"messages": messages}
    if isinstance(call.prefix, str):
        messages.append({"role": "assistant", "content": call.prefix})
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    if template := template_arguments(call, dialect):
        body["chat_template_kwargs"] = template
    if call.schema is not None:
        schema = {"name": "reply", "schema": json.loads(call.schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if call.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": call.logprobs}
    return body


def completion_body(call: Call, dialect: Dialect, prompt: Sequence[int]) -> dict[str, Any]:
    """Return the body for /completions; `prompt` contains the rendered messages and the prefix."""
    body = _shared_fields(call, dialect) | {"prompt": list(prompt)}
    if dialect.max_tokens not in body and dialect.context_window is not None:
        # The server's default for /completions is 16 tokens.
        body[dialect.max_tokens] = max(1, dialect.context_window - len(prompt))
    if call.logprobs is not None:
        body["logprobs"] = call.logprobs
    return body


def with_streaming(body: dict[str, Any], call: Call, dialect: Dialect) -> dict[str, Any]:
    """Enable streaming in `body`, with usage and token ids where supported, and return `body`."""
    body["stream"] = True
    if dialect.stream_options:
        body["stream_options"] = dict.fromkeys(dialect.stream_options, True)
    if dialect.has_token_ids:
        body["return_token_ids"] = True
        if call.stream_interval > 1:
            body["stream_interval"] = call.stream_interval
    return body


def template_arguments(call: Call, dialect: Dialect) -> dict[str, Any]:
    """Return the arguments of vLLM's chat template.

    Label reads disable reasoning, because the label must be the first token.
    """
    is_off = call.thinking is False or bool(call.labels)
    return {"enable_thinking": False} if is_off and dialect.is_vllm else {}


def _shared_fields(call: Call, dialect: Dialect) -> dict[str, Any]:
    """Return the fields of both routes; unset sampling values are left to the server."""
    body: dict[str, Any] = {"model": dialect.model} | call.sampling.model_dump(exclude_none=True)
    if "max_tokens" in body:
        body[dialect.max_tokens] = body.pop("max_tokens")
    if call.n > 1:
        body["n"] = call.n
    if dialect.detects_repetition and not call.labels:
        body["repetition_detection"] = REPETITION_DETECTION
    if dialect.is_vllm:
        if call.resumable and call.sampling.stop:
            body["include_stop_str_in_output"] = True
        if call.routing.session is not None:
            body["session_id"] = call.routing.session
        if call.cache_salt is not None:
            body["cache_salt"] = call.cache_salt
    return body

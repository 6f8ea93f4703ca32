"""Conversion between calls, deltas and the JSON of OpenAI's API, with vLLM's extensions.

Replies are read with json.loads into plain dicts. Validating each chunk with a pydantic model would cost more than
all other processing of a delta.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from secondpass.service.engines.common.status_codes import excerpt
from secondpass.service.engines.openai.connection import Connection
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Capability, FinishReason, ReportedUsage

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "repetition": "repetition",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}

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
        template_tokens: upper bound of the tokens that the chat template adds to one message; None if unknown.
    """

    model: str
    is_vllm: bool = False
    capabilities: frozenset[Capability] = frozenset()
    context_window: int | None = None
    max_tokens: str = "max_tokens"
    stream_options: tuple[str, ...] = ()
    has_token_ids: bool = False
    detects_repetition: bool = False
    template_tokens: int | None = None

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


def usage_of(reply: dict[str, Any]) -> ReportedUsage | None:
    """Return the usage in a reply or its last chunk; None if there is none."""
    if not (usage := reply.get("usage")):
        return None
    return ReportedUsage(
        _token_count(usage["prompt_tokens"]), _cached_tokens(usage), _completion_tokens(usage)
    )


class ReplyReader:
    """Reader of the chunks of one streamed reply to `call`.

    Continuous usage counts the tokens of one choice in each chunk. The reader sums them, so that the usage of a delta
    covers the whole call. `prompt_ids` contains the rendered prompt if the server returns it.
    """

    def __init__(self, call: Call, connection: Connection) -> None:
        self.prompt_ids: list[int] | None = None
        self._call = call
        self._connection = connection
        self._counts = [0] * call.n
        self._unfinished = set(range(call.n))
        self._prompt: int | None = None
        self._cached = 0

    def read(self, payload: bytes) -> Iterator[Delta]:
        """Yield the deltas of one chunk. Call within a `Connection.parsing` block.

        Raises:
            StreamInterrupted: the chunk is not JSON.
            CallRejected, EngineUnavailable: the chunk is an error object.
        """
        try:
            chunk = json.loads(payload)
        except ValueError:
            text = excerpt(payload.decode(errors="replace"))
            raise self._interrupted(f"expected a JSON chunk, got {text}") from None
        if "error" in chunk:
            self._connection.raise_if_error(chunk, self._call.role)
        if ids := chunk.get("prompt_token_ids"):
            self.prompt_ids = ids
        if choices := chunk.get("choices"):
            usage = chunk.get("usage")
            for choice in choices:
                yield from self._read(choice, usage)
        elif total := usage_of(chunk):
            yield Delta(usage=total)

    @property
    def is_finished(self) -> bool:
        """True if every completion has its finish reason."""
        return not self._unfinished

    def finish(self) -> None:
        """Raise StreamInterrupted unless every completion has its finish reason."""
        if self._unfinished:
            missing = len(self._unfinished)
            raise self._interrupted(
                f"{missing} of {self._call.n} completions have no finish reason"
            )

    def _read(self, choice: dict[str, Any], usage: dict[str, Any] | None) -> Iterator[Delta]:
        index = choice["index"]
        if index not in self._unfinished:
            raise IndexError(f"unexpected choice index {index} with n={self._call.n}")
        text, reasoning = _text_of(choice)
        ids = tuple(choice.get("token_ids") or ())
        tokens = len(ids)
        total = None
        is_first = self._prompt is None
        if usage:
            count = max(_completion_tokens(usage), self._counts[index])
            tokens = tokens or count - self._counts[index]
            self._counts[index] = count
            self._prompt = _token_count(usage["prompt_tokens"])
            self._cached = _cached_tokens(usage) or self._cached
            total = ReportedUsage(self._prompt, self._cached, sum(self._counts))
        reason = choice.get("finish_reason")
        if reason is not None:
            reason = self._finish_reason(reason)
            self._unfinished.discard(index)
        if text or reasoning or tokens or reason or (total and is_first):
            k = self._call.logprobs
            logprobs = _logprobs_of(choice) if k is not None else ()
            confidences = _confidences_of(choice, k) if k else ()
            yield Delta(
                index, text, reasoning, tokens, ids, reason, total, None, logprobs, confidences
            )

    def _finish_reason(self, reason: str) -> FinishReason:
        if reason in _FINISH:
            return _FINISH[reason]
        if reason == "error":
            name, role = self._connection.engine, self._call.role
            raise EngineUnavailable(
                f"engine {name!r} failed during generation", engine=name, role=role
            )
        raise self._interrupted(f"unknown finish reason {excerpt(str(reason))!r}")

    def _interrupted(self, message: str) -> StreamInterrupted:
        return StreamInterrupted(message, engine=self._connection.engine, role=self._call.role)


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


def _text_of(choice: dict[str, Any]) -> tuple[str, str]:
    """Return the text and the reasoning of a choice, from either route."""
    message = choice.get("delta")
    if message is None:
        text, reasoning = choice.get("text") or "", ""
    else:
        text = message.get("content") or ""
        reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
    if not (isinstance(text, str) and isinstance(reasoning, str)):
        raise TypeError("the text is not a string")
    return text, reasoning


def _logprobs_of(choice: dict[str, Any]) -> tuple[float, ...]:
    """Return the natural log probabilities of the generated tokens, from either route."""
    logprobs = choice.get("logprobs") or {}
    if (content := logprobs.get("content")) is not None:
        return tuple(token["logprob"] for token in content)
    return tuple(logprobs.get("token_logprobs") or ())


def confidence(alternatives: Sequence[float], k: int) -> float:
    """Return minus the mean of the `k` largest log probabilities, or of all if fewer; see `Delta`."""
    top = sorted(alternatives, reverse=True)[:k]
    return -sum(top) / len(top)


def _confidences_of(choice: dict[str, Any], k: int) -> tuple[float, ...]:
    """Return the confidences of the generated tokens over the `k` most probable ones, from either route.

    vLLM's chat route includes the sampled token in the k, so a less probable sampled token displaces the last of them.
    """
    logprobs = choice.get("logprobs") or {}
    if (content := logprobs.get("content")) is not None:
        positions = [[entry["logprob"] for entry in token["top_logprobs"]] for token in content]
    else:
        positions = [list(entry.values()) for entry in logprobs.get("top_logprobs") or ()]
    return tuple(confidence(position, k) for position in positions)


def _cached_tokens(usage: dict[str, Any]) -> int:
    details = usage.get("prompt_tokens_details")
    return _token_count(details.get("cached_tokens") or 0) if details else 0


def _completion_tokens(usage: dict[str, Any]) -> int:
    return _token_count(usage.get("completion_tokens") or 0)


def _token_count(value: Any) -> int:
    """Return `value` if it is a valid number of tokens.

    Raises TypeError for anything else, which would corrupt a run's token accounting.
    """
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r} is not a number of tokens")
    return value

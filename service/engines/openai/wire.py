"""The JSON of OpenAI's API, in vLLM's dialect and in plainer ones: a Call out, Deltas in.

Replies are read with json.loads and plain dicts: validating every chunk of every stream with a model would cost more
than all the rest of a delta's way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from secondpass.service.engines.common.status_codes import short
from secondpass.service.engines.openai.connection import Connection
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import Capability, FinishReason, Usage

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a server was found to understand. `stream_options` is sent as it stands."""

    model: str
    is_vllm: bool = False
    capabilities: frozenset[Capability] = frozenset()
    context_window: int | None = None
    max_tokens: str = "max_tokens"
    stream_options: tuple[str, ...] = ()
    has_token_ids: bool = False

    @property
    def continues_tokens(self) -> bool:
        """Whether a completion is continued from its token ids; else from its text."""
        return {"prefix", "tokenize"} <= self.capabilities


def chat_body(call: Call, dialect: Dialect) -> dict[str, Any]:
    """The body for /chat/completions; a prefix of text becomes an open assistant turn."""
    messages = [message.model_dump(exclude_none=True) for message in call.messages]
    body = _common(call, dialect) | {"messages": messages}
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
    """The body for /completions, whose prompt is token ids: rendered messages and prefix together."""
    body = _common(call, dialect) | {"prompt": list(prompt)}
    if dialect.max_tokens not in body and dialect.context_window is not None:
        # Here the server's own default would be 16.
        body[dialect.max_tokens] = max(1, dialect.context_window - len(prompt))
    if call.logprobs is not None:
        body["logprobs"] = call.logprobs
    return body


def streamed(body: dict[str, Any], call: Call, dialect: Dialect) -> dict[str, Any]:
    """`body` with what asks for a stream that states its usage and token ids."""
    body["stream"] = True
    if dialect.stream_options:
        body["stream_options"] = dict.fromkeys(dialect.stream_options, True)
    if dialect.has_token_ids:
        body["return_token_ids"] = True
        if call.stream_interval > 1:
            body["stream_interval"] = call.stream_interval
    return body


def template_arguments(call: Call, dialect: Dialect) -> dict[str, Any]:
    """Arguments of vLLM's chat template. Labels are the first token, so nothing may be thought before."""
    is_off = call.thinking is False or bool(call.labels)
    return {"enable_thinking": False} if is_off and dialect.is_vllm else {}


def usage_of(reply: dict[str, Any]) -> Usage | None:
    """The usage that a reply or its last chunk states, if any."""
    if not (usage := reply.get("usage")):
        return None
    return Usage(_count(usage["prompt_tokens"]), _cached(usage), _written(usage))


class ReplyReader:
    """Reads the chunks of one streamed reply to `call`.

    Continuous usage counts the tokens of one choice in each chunk; here they are added up, so that what a delta
    states is always the whole call. `prompt_ids` is the rendered prompt, where the server tells it.
    """

    def __init__(self, call: Call, connection: Connection) -> None:
        self.prompt_ids: list[int] | None = None
        self._call = call
        self._connection = connection
        self._counts = [0] * call.n
        self._open = set(range(call.n))
        self._prompt: int | None = None
        self._cached = 0

    def read(self, payload: bytes) -> Iterator[Delta]:
        """The deltas of one chunk. Raises StreamInterrupted for what is no JSON, or what an error object stands for.

        Within a `Connection.readable` block, for a chunk of another shape fails anyhow.
        """
        try:
            chunk = json.loads(payload)
        except ValueError:
            raise self._cut(f"not JSON: {short(payload.decode(errors='replace'))}") from None
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
        """Whether every completion has its finish reason."""
        return not self._open

    def finish(self) -> None:
        """Raise StreamInterrupted unless every completion has its finish reason."""
        if self._open:
            missing = len(self._open)
            raise self._cut(f"{missing} of {self._call.n} completions have no finish reason")

    def _read(self, choice: dict[str, Any], usage: dict[str, Any] | None) -> Iterator[Delta]:
        index = choice["index"]
        if index not in self._open:
            raise IndexError(f"choice {index} of {self._call.n}")
        text, reasoning = _text_of(choice)
        ids = tuple(choice.get("token_ids") or ())
        tokens = len(ids)
        total = None
        is_first = self._prompt is None
        if usage:
            written = max(_written(usage), self._counts[index])
            tokens = tokens or written - self._counts[index]
            self._counts[index] = written
            self._prompt = _count(usage["prompt_tokens"])
            self._cached = _cached(usage) or self._cached
            total = Usage(self._prompt, self._cached, sum(self._counts))
        reason = choice.get("finish_reason")
        if reason is not None:
            reason = self._finish_reason(reason)
            self._open.discard(index)
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
            raise EngineUnavailable("the engine failed while writing", engine=name, role=role)
        raise self._cut(f"finish reason {short(str(reason))!r}")

    def _cut(self, message: str) -> StreamInterrupted:
        return StreamInterrupted(message, engine=self._connection.engine, role=self._call.role)


def _common(call: Call, dialect: Dialect) -> dict[str, Any]:
    """Fields of both routes. Values of `sampling` that are not set stay the server's own."""
    body: dict[str, Any] = {"model": dialect.model} | call.sampling.model_dump(exclude_none=True)
    if "max_tokens" in body:
        body[dialect.max_tokens] = body.pop("max_tokens")
    if call.n > 1:
        body["n"] = call.n
    if dialect.is_vllm:
        if call.resumable and call.sampling.stop:
            body["include_stop_str_in_output"] = True
        if call.routing.session is not None:
            body["session_id"] = call.routing.session
        if call.cache_salt is not None:
            body["cache_salt"] = call.cache_salt
    return body


def _text_of(choice: dict[str, Any]) -> tuple[str, str]:
    """Text and reasoning of a chunk's choice, of either route."""
    message = choice.get("delta")
    if message is None:
        text, reasoning = choice.get("text") or "", ""
    else:
        text = message.get("content") or ""
        reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
    if not (isinstance(text, str) and isinstance(reasoning, str)):
        raise TypeError("a text that is no string")
    return text, reasoning


def _logprobs_of(choice: dict[str, Any]) -> tuple[float, ...]:
    """Log probabilities (natural) of the written tokens, of either route."""
    logprobs = choice.get("logprobs") or {}
    if (content := logprobs.get("content")) is not None:
        return tuple(token["logprob"] for token in content)
    return tuple(logprobs.get("token_logprobs") or ())


def confidence(alternatives: Sequence[float], k: int) -> float:
    """Minus the mean of the `k` largest of these log probabilities; see `Delta`. Fewer than `k` are taken as they are."""
    top = sorted(alternatives, reverse=True)[:k]
    return -sum(top) / len(top)


def _confidences_of(choice: dict[str, Any], k: int) -> tuple[float, ...]:
    """Confidences of the written tokens over the `k` most probable ones, of either route.

    vLLM's chat route counts the token that was drawn among the k, so one that is not among the most probable displaces
    the last of them.
    """
    logprobs = choice.get("logprobs") or {}
    if (content := logprobs.get("content")) is not None:
        places = [[entry["logprob"] for entry in token["top_logprobs"]] for token in content]
    else:
        places = [list(entry.values()) for entry in logprobs.get("top_logprobs") or ()]
    return tuple(confidence(place, k) for place in places)


def _cached(usage: dict[str, Any]) -> int:
    details = usage.get("prompt_tokens_details")
    return _count(details.get("cached_tokens") or 0) if details else 0


def _written(usage: dict[str, Any]) -> int:
    return _count(usage.get("completion_tokens") or 0)


def _count(value: Any) -> int:
    """A number of tokens. Raises TypeError for anything else, which would corrupt the accounts of a run."""
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r} is not a number of tokens")
    return value

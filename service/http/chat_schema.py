"""The request of POST /v1/chat/completions with a strategy. Plain requests are not validated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from secondpass.service.common.client_messages import ClientMessages, without_empty_members
from secondpass.service.common.errors import InvalidRequest
from secondpass.service.common.limits import RequestBudget
from secondpass.service.common.validation import shorten_name
from secondpass.service.http.problems import Unsupported
from secondpass.service.http.schema import (
    Strategy,
    StrategyChoice,
    TraceLevel,
    validate,
)
from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.values import Role, Sampling

_NEUTRAL_VALUES: Mapping[str, Any] = {
    "n": 1,
    "tools": [],
    "tool_choice": "none",
    "response_format": {"type": "text"},
    "logprobs": False,
    "top_logprobs": 0,
    "store": False,
    "modalities": ["text"],
    "logit_bias": {},
    "metadata": {},
}
"""Fields that no strategy supports, with the value that has no effect."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StreamOptions(_Request):
    """OpenAI's stream options. `include_usage` adds a final chunk with the usage.

    `include_obfuscation` is accepted and has no effect.
    """

    include_usage: bool = False
    include_obfuscation: bool = False


class Extension(_Request):
    """The `secondpass` field: the options of POST /solve that OpenAI's protocol does not have."""

    strategy: Strategy | None = None
    params: dict[str, Any] | None = None
    task: TaskRequest | None = None
    models: dict[Role, str] = Field(default_factory=dict)
    budget: RequestBudget = RequestBudget()
    trace: TraceLevel = "none"
    progress: bool = False


class ChatRequest(Sampling):
    """A chat request that a strategy answers."""

    model: str
    messages: ClientMessages = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: str | None = None
    prompt_cache_key: str | None = None
    secondpass: Extension = Extension()

    @property
    def max_tokens_field(self) -> str:
        """Name of the field that caps the completion tokens of a call."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def sampling(self) -> Sampling:
        """The sampling parameters. Raises InvalidRequest if the two token caps differ."""
        values = {name: getattr(self, name) for name in Sampling.model_fields}
        if self.max_completion_tokens is not None:
            if self.max_tokens not in (None, self.max_completion_tokens):
                raise InvalidRequest(
                    "must equal max_completion_tokens, or be omitted", field="max_tokens"
                )
            values["max_tokens"] = self.max_completion_tokens
        return Sampling(**values)


def validate_chat(body: Mapping[str, Any]) -> ChatRequest:
    """Validate `body` as a chat request with a strategy.

    Raises Unsupported for a field that no strategy supports, and InvalidRequest for an invalid value.
    """
    values: dict[str, Any] = {}
    for name, value in body.items():
        if value is None:
            continue
        if name in _NEUTRAL_VALUES:
            neutral = _NEUTRAL_VALUES[name]
            if type(value) is not type(neutral) or value != neutral:
                raise Unsupported(
                    f"must be {json.dumps(neutral)} with a strategy, or be omitted", field=name
                )
        elif name not in ChatRequest.model_fields:
            raise Unsupported("is not supported with a strategy", field=shorten_name(name))
        else:
            values[name] = value
    if "stream_options" in values and values.get("stream") is not True:
        raise Unsupported("requires stream to be true", field="stream_options")
    if isinstance(stop := values.get("stop"), str):
        if not stop:
            raise InvalidRequest("must not be an empty string", field="stop")
        values["stop"] = [stop]
    chat_request = validate(ChatRequest, without_empty_members(values))
    if chat_request.secondpass.progress and not chat_request.stream:
        raise Unsupported("requires stream to be true", field="secondpass.progress")
    return chat_request


@dataclass(frozen=True, slots=True)
class SelectedStrategy:
    """The strategy of a chat request, and the paths that name it and its params."""

    name: str
    params: dict[str, Any]
    name_field: str
    params_field: str


def select_strategy(
    chat_request: ChatRequest, suffix: str | None, default: Callable[[], str]
) -> SelectedStrategy:
    """Return the strategy that the model's suffix or the body names, else the default.

    Raises InvalidRequest if the two disagree.
    """
    choice, params = chat_request.secondpass.strategy, chat_request.secondpass.params
    field, params_field = "secondpass.strategy", "secondpass.params"
    name = choice if isinstance(choice, str) else None
    if isinstance(choice, StrategyChoice):
        name, field = choice.name, "secondpass.strategy.name"
        if params is not None and choice.params:
            raise InvalidRequest(
                "cannot be combined with secondpass.strategy.params: give one of the two",
                field="secondpass.params",
            )
        if params is None:
            params, params_field = choice.params, "secondpass.strategy.params"
    if suffix is not None:
        if name not in (None, suffix):
            raise InvalidRequest(
                f"must equal the strategy in model ({shorten_name(suffix)}), or be omitted",
                field=field,
            )
        name, field = suffix, "model"
    return SelectedStrategy(default() if name is None else name, params or {}, field, params_field)

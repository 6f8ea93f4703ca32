"""What POST /v1/chat/completions takes where a strategy answers; a plain request is not looked into."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from secondpass.service.common.errors import InvalidRequest, NotFound
from secondpass.service.common.limits import Limits
from secondpass.service.http.problems import Unsupported
from secondpass.service.http.schema import (
    Strategy,
    StrategyChoice,
    TraceLevel,
    choose,
    excerpt_of,
    read,
)
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.values import Message, Role, Sampling

_NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "tools": [],
    "tool_choice": "none",
    "response_format": {"type": "text"},
    "logprobs": False,
    "top_logprobs": 0,
    "store": False,
    "modalities": ["text"],
    "logit_bias": {},
}
"""Fields that a strategy cannot honour, with the value that asks for nothing."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StreamOptions(_Request):
    """`include_usage` adds a last chunk with the usage; obfuscation is OpenAI's own and means nothing here."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Extension(_Request):
    """The field `secondpass`: what POST /solve has and OpenAI's protocol has no place for."""

    strategy: Strategy | None = None
    params: dict[str, Any] | None = None
    task: TaskRequest | None = None
    models: dict[Role, str] = Field(default_factory=dict)
    budget: Limits = Limits()
    trace: TraceLevel = "none"
    progress: bool = False


class ChatRequest(Sampling):
    """A chat request that a strategy can honour."""

    model: str
    messages: tuple[Message, ...] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: str | None = None
    prompt_cache_key: str | None = None
    secondpass: Extension = Extension()

    @property
    def cap_field(self) -> str:
        """Which of the two names for it the cap of completion tokens has here."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def sampling(self) -> Sampling:
        """The part that says how tokens are drawn. Raises InvalidRequest when it contradicts itself."""
        values = {name: getattr(self, name) for name in Sampling.model_fields}
        if self.max_completion_tokens is not None:
            if self.max_tokens not in (None, self.max_completion_tokens):
                raise InvalidRequest("differs from max_completion_tokens", field="max_tokens")
            values["max_tokens"] = self.max_completion_tokens
        return Sampling(**values)


def read_chat(body: Mapping[str, Any]) -> ChatRequest:
    """The request in `body`. Raises InvalidRequest, which names what a strategy cannot honour."""
    asked: dict[str, Any] = {}
    for name, value in body.items():
        if value is None:
            continue
        if name in _NEUTRAL:
            neutral = _NEUTRAL[name]
            if type(value) is not type(neutral) or value != neutral:
                raise Unsupported(
                    f"only {json.dumps(neutral)} can be honoured with a strategy", field=name
                )
        elif name not in ChatRequest.model_fields:
            raise Unsupported("cannot be honoured with a strategy", field=excerpt_of(name))
        else:
            asked[name] = value
    if "stream_options" in asked and asked.get("stream") is not True:
        raise Unsupported("has no effect without stream", field="stream_options")
    if isinstance(asked.get("stop"), str):
        asked["stop"] = [asked["stop"]]
    if isinstance(asked.get("messages"), list):
        asked["messages"] = [_without_blanks(message) for message in asked["messages"]]
    wanted = read(ChatRequest, asked)
    if wanted.secondpass.progress and not wanted.stream:
        raise Unsupported("has no effect without stream", field="secondpass.progress")
    return wanted


def strategy_of(
    wanted: ChatRequest, suffix: str | None, default: Callable[[], str]
) -> tuple[str, dict[str, Any]]:
    """The strategy's name and its params, from the model's suffix or the body. Raises InvalidRequest."""
    choice, beside = wanted.secondpass.strategy, wanted.secondpass.params
    named, inside = choice, dict[str, Any]()
    if isinstance(choice, StrategyChoice):
        named, inside = choice.name, choice.params
    if beside is not None and inside:
        raise InvalidRequest("stands here and in strategy", field="secondpass.params")
    if suffix is not None and named is not None and named != suffix:
        raise InvalidRequest(
            f"differs from the model's @{excerpt_of(suffix)}", field="secondpass.strategy"
        )
    said = [name for name in (suffix, named) if isinstance(name, str)]
    name = said[0] if said else default()
    if name not in STRATEGIES:
        where = "secondpass.strategy" if suffix is None else "model"
        raise NotFound(choose(name, STRATEGIES, "strategy"), field=where)
    return name, beside or inside


def _without_blanks(message: Any) -> Any:
    """What SDKs put into a turn that they send back: nulls and empty lists say nothing."""
    if not isinstance(message, dict):
        return message
    return {key: value for key, value in message.items() if value is not None and value != []}

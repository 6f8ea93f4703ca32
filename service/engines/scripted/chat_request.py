"""Validation of plain chat requests to the scripted engine, as OpenAI's server performs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from secondpass.service.common.client_messages import (
    MAX_MESSAGES,
    ClientMessage,
    without_empty_members,
)
from secondpass.service.common.locations import explain
from secondpass.service.engines.common.status_codes import excerpt
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.values import Sampling

_OPTIONAL_TOOL_CHOICES = (None, "auto", "none")


class InvalidChat(Exception):
    """A chat request that is rejected; `param` names the field, and `status` is the HTTP status."""

    def __init__(self, param: str | None, message: str, status: int = 400) -> None:
        super().__init__(message if param is None else f"{param}: {message}")
        self.param, self.status = param, status


class _Turn(ClientMessage):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _StreamOptions(BaseModel):
    include_usage: bool = False


class _ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] = {}


class ScriptedChat(Sampling):
    """A chat request to the scripted engine. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str | None = None
    messages: tuple[_Turn, ...] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    n: int = Field(default=1, ge=1, le=128)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: tuple[dict[str, Any], ...] = Field(default=(), fail_fast=True)
    tool_choice: str | dict[str, Any] | None = None
    response_format: _ResponseFormat | None = None

    @property
    def includes_usage(self) -> bool:
        """True if the last chunk of the stream contains the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def to_call(self) -> Call:
        """Return the call of the engine. It is visible if the reply is streamed."""
        values = {name: getattr(self, name) for name in Sampling.model_fields}
        caps = [c for c in (self.max_tokens, self.max_completion_tokens) if c is not None]
        schema = self.response_format and self.response_format.json_schema.get("schema")
        return Call(
            role="actor",
            purpose="chat",
            messages=tuple(turn.to_message() for turn in self.messages),
            n=self.n,
            sampling=Sampling(**values | {"max_tokens": min(caps, default=None)}),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            schema=None if schema is None else json.dumps(schema),
            visible=self.stream,
        )


def parse_chat(body: bytes, model: str) -> ScriptedChat:
    """Parse a request for `model`. Raises InvalidChat."""
    try:
        values = json.loads(body)
    except ValueError as error:
        raise InvalidChat(None, f"the body is not JSON: {excerpt(str(error))}") from error
    if not isinstance(values, dict):
        raise InvalidChat(None, "the body must be a JSON object")
    values = {name: value for name, value in values.items() if value is not None}
    if isinstance(stop := values.get("stop"), str):
        values["stop"] = [stop]
    try:
        chat = ScriptedChat.model_validate_json(
            json.dumps(without_empty_members(values)), strict=True
        )
    except ValidationError as error:
        path, message = explain(error, ScriptedChat)
        is_one_stop = isinstance(stop, str) and path[:1] == ("stop",)
        raise InvalidChat("stop" if is_one_stop else ".".join(path), message) from error
    if chat.model not in (None, model):
        raise InvalidChat(
            "model", f"{excerpt(str(chat.model))!r} does not exist; use {model!r}", 404
        )
    _check(chat, values)
    return chat


def _check(chat: ScriptedChat, values: Mapping[str, Any]) -> None:
    """Check the rules of several fields. Raises InvalidChat."""
    if chat.max_completion_tokens is not None and chat.max_tokens is not None:
        raise InvalidChat("max_tokens", "cannot be combined with max_completion_tokens")
    if chat.stream_options is not None and not chat.stream:
        raise InvalidChat("stream_options", "requires stream to be true")
    if chat.top_logprobs is not None and not chat.logprobs:
        raise InvalidChat("top_logprobs", "requires logprobs to be true")
    if chat.tool_choice is not None and not chat.tools:
        raise InvalidChat("tool_choice", "requires tools")
    if chat.tool_choice not in _OPTIONAL_TOOL_CHOICES:
        raise InvalidChat(
            "tool_choice", "must be 'auto' or 'none': the scripted model has no tools"
        )
    for position, turn in enumerate(chat.messages):
        if turn.content is None and turn.role != "assistant":
            raise InvalidChat(f"messages.{position}.content", "is missing")
        if turn.role == "tool" and turn.tool_call_id is None:
            raise InvalidChat(f"messages.{position}.tool_call_id", "is missing")

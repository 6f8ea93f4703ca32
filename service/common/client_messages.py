"""Turns of a conversation as clients send them, with the fields that servers add to their replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from secondpass.strategies.api.values import (
    ContentPart,
    FunctionCall,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
)

MAX_MESSAGES = 2048
MAX_PARTS = 256
MAX_TOOL_CALLS = 128
MAX_DETAILS = 16_384
"""Maximum reasoning details and annotations of a turn. Some gateways send one detail for each token."""

_REASONING = ("reasoning", "reasoning_content", "reasoning_details")
_OF_ASSISTANTS = (*_REASONING, "refusal", "annotations", "parsed", "provider_specific_fields")


class RefusalPart(BaseModel):
    """A part of an assistant turn in which the model declined to answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["refusal"]
    refusal: str


class ClientFunctionCall(FunctionCall):
    """A function call, with the field that OpenAI's client adds when it parses the arguments."""

    parsed_arguments: Any = Field(default=None, description="not sent to engines")


class ClientToolCall(ToolCall):
    """A tool call, with the position that it had in a stream."""

    function: ClientFunctionCall
    index: int | None = Field(default=None, description="not sent to engines")

    def to_tool_call(self) -> ToolCall:
        """Return the tool call as engines get it."""
        function = FunctionCall(name=self.function.name, arguments=self.function.arguments)
        return ToolCall(id=self.id, type=self.type, function=function)


ClientPart = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]
ClientParts = Annotated[tuple[ClientPart, ...], Field(max_length=MAX_PARTS, fail_fast=True)]
ClientToolCalls = Annotated[
    tuple[ClientToolCall, ...], Field(max_length=MAX_TOOL_CALLS, fail_fast=True)
]
_Details = Annotated[tuple[dict[str, Any], ...], Field(max_length=MAX_DETAILS, fail_fast=True)]


class ClientMessage(BaseModel):
    """One turn of a conversation, in the OpenAI format.

    An assistant turn may have every field of a reply, so that clients can send replies back. Engines get its text, its
    refusal and its tool calls. They get neither its reasoning, which chat templates remove too, nor its annotations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | ClientParts | None = None
    name: str | None = None
    tool_calls: ClientToolCalls | None = None
    tool_call_id: str | None = None
    refusal: str | None = Field(default=None, description="sent to engines as text")
    reasoning: str | None = Field(default=None, description="not sent to engines")
    reasoning_content: str | None = Field(default=None, description="not sent to engines")
    reasoning_details: _Details | None = Field(default=None, description="not sent to engines")
    annotations: _Details | None = Field(default=None, description="not sent to engines")
    parsed: Any = Field(default=None, description="not sent to engines")
    provider_specific_fields: dict[str, Any] | None = Field(
        default=None, description="not sent to engines"
    )
    audio: None = Field(default=None, description="not supported; must be null")
    function_call: None = Field(default=None, description="replaced by tool_calls; must be null")

    @model_validator(mode="after")
    def _only_assistants_reply(self) -> Self:
        if self.role == "assistant":
            return self
        for name in _OF_ASSISTANTS:
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: only assistant turns have it, not role {self.role!r}")
        parts = self.content if isinstance(self.content, tuple) else ()
        if any(isinstance(part, RefusalPart) for part in parts):
            raise ValueError(
                f"content: only assistant turns have refusal parts, not role {self.role!r}"
            )
        return self

    @property
    def has_reasoning(self) -> bool:
        """True if the turn has reasoning, which engines do not get."""
        return any(getattr(self, name) for name in _REASONING)

    def to_message(self) -> Message:
        """Return the turn as engines get it."""
        turn = Message(
            role=self.role,
            content=_content(self.content, self.refusal),
            name=self.name,
            tool_calls=self.tool_calls and tuple(c.to_tool_call() for c in self.tool_calls),
            tool_call_id=self.tool_call_id,
        )
        is_empty = turn.content is None and turn.role == "assistant" and not turn.tool_calls
        # Chat templates join the content of such a turn to other text.
        return turn.model_copy(update={"content": ""}) if is_empty else turn


def _content(
    content: str | Sequence[ClientPart] | None, refusal: str | None
) -> str | tuple[ContentPart, ...] | None:
    """Return the content with the refusal of the turn and its refusal parts as text."""
    if content is None or isinstance(content, str):
        return "\n".join(filter(None, (content, refusal))) if refusal else content
    parts = (*content, *([RefusalPart(type="refusal", refusal=refusal)] if refusal else ()))
    return tuple(
        TextPart(type="text", text=part.refusal) if isinstance(part, RefusalPart) else part
        for part in parts
    )


ClientMessages = Annotated[
    tuple[ClientMessage, ...], Field(max_length=MAX_MESSAGES, fail_fast=True)
]
"""A conversation. Its first invalid turn ends its validation."""


def without_empty_members(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a request without the nulls and empty lists of its turns, which SDKs send back."""
    turns = body.get("messages")
    return {**body, "messages": list(map(_given, turns))} if isinstance(turns, list) else body


def _given(turn: Any) -> Any:
    if not isinstance(turn, dict):
        return turn
    return {key: value for key, value in turn.items() if value is not None and value != []}

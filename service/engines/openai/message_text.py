"""Text and reasoning in the choices of a reply, as a string or as typed parts, from either route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_TEXT_PARTS = frozenset(("text", "output_text", "input_text", "refusal"))
_REASONING_PARTS = frozenset(
    ("thinking", "reasoning", "reasoning_text", "reasoning.text", "summary_text")
)
_SILENT_PARTS = frozenset(
    (
        "reference",
        "tool_use",
        "tool_call",
        "function_call",
        "redacted_thinking",
        "reasoning.encrypted",
    )
)
_TEXT_FIELDS = ("text", "output_text", "refusal", "content")
_REASONING_FIELDS = ("thinking", "reasoning", "text", "summary", "content")
_MAX_DEPTH = 3


class ChoiceText(NamedTuple):
    """The text and the reasoning of a choice; `has_tool_call` is True if it also has a tool call."""

    text: str = ""
    reasoning: str = ""
    has_tool_call: bool = False


def text_of(choice: Mapping[str, Any]) -> ChoiceText:
    """Return the text and reasoning of a choice; the text of a refusal is text.

    A chunk has a `delta`, and a whole reply a `message`. A message beside a delta repeats the text so far.

    Raises TypeError if they are neither strings nor typed parts.
    """
    message = choice.get("delta")
    if message is None:
        message = choice.get("message")
    if message is None:
        text = choice.get("text")
        if text is None or isinstance(text, str):
            return ChoiceText(text or "")
        raise TypeError("the text is not a string")
    content = message.get("content")
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    if type(content) is str and not reasoning and len(message) <= 2:  # hot path: role and content
        return ChoiceText(content)
    has_tool_call = bool(message.get("tool_calls") or message.get("function_call"))
    text, inner = _split(content, is_reasoning=False)
    outer = "".join(_split(reasoning or message.get("reasoning_details"), is_reasoning=True))
    refusal = "".join(_split(message.get("refusal"), is_reasoning=False))
    return ChoiceText(text + refusal, outer + inner, has_tool_call)


def _split(content: Any, *, is_reasoning: bool, depth: int = 0) -> tuple[str, str]:
    """Return the text and the reasoning in `content`: a string, a typed part or a list of typed parts."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return ("", content) if is_reasoning else (content, "")
    if depth > _MAX_DEPTH:
        raise TypeError("the parts of the text are nested too deeply")
    if isinstance(content, list):
        parts = [_split_part(part, is_reasoning=is_reasoning, depth=depth) for part in content]
    else:
        parts = [_split_part(content, is_reasoning=is_reasoning, depth=depth)]
    return "".join([text for text, _ in parts]), "".join([reasoning for _, reasoning in parts])


def _split_part(part: Any, *, is_reasoning: bool, depth: int) -> tuple[str, str]:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise TypeError("the text is neither a string nor a list of typed parts")
    if kind in _SILENT_PARTS:
        return "", ""
    fields: tuple[str, ...] = _TEXT_FIELDS
    if kind in _REASONING_PARTS:
        fields, is_reasoning = _REASONING_FIELDS, True
    elif kind not in _TEXT_PARTS:
        raise TypeError(f"the text has a part of the unknown type {kind[:40]!r}")
    inner = next((part[name] for name in fields if part.get(name) is not None), None)
    return _split(inner, is_reasoning=is_reasoning, depth=depth + 1)

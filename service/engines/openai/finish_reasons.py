"""Finish reasons of servers with OpenAI's API, in lower case; servers spell them in either case."""

from __future__ import annotations

from typing import Any

from secondpass.strategies.api.values import FinishReason

_UNFINISHED = frozenset(("", "null", "none", "not_finished", "finish_reason_unspecified"))

_SPELLINGS: dict[FinishReason, tuple[str, ...]] = {
    "stop": (
        "stop",
        "eos",
        "eos_token",
        "end_of_sequence",
        "endoftext",
        "stop_sequence",
        "stop_string",
        "stop_token",
        "stop_word",
        "stop_criteria_met",
        "end_turn",
        "complete",
        "completed",
        "finish",
        "finished",
        "done",
    ),
    "length": (
        "length",
        "max_length",
        "max_tokens",
        "max_new_tokens",
        "max_output_tokens",
        "model_length",
        "context_length",
        "context_length_exceeded",
        "model_context_window_exceeded",
        "token_limit",
    ),
    "repetition": ("repetition",),
    "tool_calls": ("tool_calls", "tool_call", "tool_use", "function_call", "function_calls"),
    "content_filter": (
        "content_filter",
        "content_filtered",
        "safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "sensitive",
        "refusal",
        "guardrail_intervened",
        "error_toxic",
    ),
}
FINISH_REASONS = {each: reason for reason, names in _SPELLINGS.items() for each in names}
"""The finish reason for each spelling."""


def is_unfinished(value: Any) -> bool:
    """Return whether a finish reason means that the completion is not finished."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _UNFINISHED)


FAILED = frozenset(
    (
        "error",
        "failed",
        "internal_error",
        "server_error",
        "network_error",
        "insufficient_system_resource",
        "overloaded",
        "malformed_function_call",
    )
)
"""Values of a completion that the server failed to generate."""

INTERRUPTED = frozenset(
    (
        "abort",
        "aborted",
        "cancel",
        "canceled",
        "cancelled",
        "user_cancel",
        "interrupted",
        "timeout",
        "time_limit",
    )
)
"""Values of a completion that the server aborted."""

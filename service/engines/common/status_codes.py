"""Translation of a server's error replies to engine errors, retryable or not.

A server reports an error as a reply with an HTTP status, or as a chunk of a stream without one.
"""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from secondpass.service.engines.common.json_text import parse_json
from secondpass.strategies.api.errors import CallRejected, EngineError, EngineUnavailable
from secondpass.strategies.api.values import Role

MAX_ECHO_CHARS = 200
"""Most characters of a server's reply in an error message: the reply may contain a prompt."""

DROPPED_REASON_HEADER = "x-llm-d-request-dropped-reason"
"""Header with the reason why llm-d's endpoint picker dropped a request."""

KEY_STATUSES = frozenset((401, 403))
"""Statuses of an engine that refuses the API key."""

_MESSAGES = ("message", "detail", "error_msg")
_CLIENT_ERRORS = (
    "invalid",
    "badrequest",
    "bad_request",
    "context_length",
    "unsupported",
    "not_found",
)
_MAX_EXCERPTED = 65_536  # the rest of a text is not read
_RETRYABLE_STATUSES = frozenset((408, 425, 429))
_OVERLOADED_STATUSES = frozenset((429, 503))
_MAX_RETRY_AFTER = 86_400.0
_RETRYABLE_DROPS = frozenset(
    (
        "rejected-saturated",
        "rejected-ttl-expired",
        "rejected-shutting-down",
        "evicted",
        "evicted-queue-pressure",
        "evicted-priority",
    )
)
_FINAL_DROPS = frozenset(("rejected-no-endpoints", "rejected-context-cancelled"))


def excerpt(text: str) -> str:
    """Return `text` on one line, truncated to MAX_ECHO_CHARS characters.

    Control characters and other characters that cannot be printed become replacement characters.
    """
    line = " ".join(text[:_MAX_EXCERPTED].split())
    line = line if len(line) <= MAX_ECHO_CHARS else f"{line[: MAX_ECHO_CHARS - 1]}…"
    if line.isprintable():
        return line
    return "".join([each if each.isprintable() else "\ufffd" for each in line])


def error_for_status(
    status: int,
    message: str,
    *,
    engine: str,
    role: Role | None,
    retry_after: float | None = None,
    dropped: str | None = None,
) -> EngineError:
    """Return the engine error for an HTTP status of 400 or more.

    Args:
        status: the HTTP status.
        message: the server's error message.
        engine: name of the engine.
        role: role of the failed call; None outside a call.
        retry_after: seconds from the Retry-After header, if any.
        dropped: value of DROPPED_REASON_HEADER. A known reason decides whether the error is retryable.
            For an unknown one the status decides.
    """
    details = f"status {status}: {excerpt(message)}"
    is_overloaded = status in _OVERLOADED_STATUSES
    if dropped in _RETRYABLE_DROPS | _FINAL_DROPS:
        return EngineUnavailable(
            f"the router dropped the request ({dropped}): {details}",
            engine=engine,
            role=role,
            retry_after=retry_after,
            may_retry=dropped in _RETRYABLE_DROPS,
            is_overloaded=is_overloaded,
        )
    if status >= 500 or status in _RETRYABLE_STATUSES:
        return EngineUnavailable(
            details,
            engine=engine,
            role=role,
            retry_after=retry_after,
            is_overloaded=is_overloaded,
        )
    if status in KEY_STATUSES:
        details = f"the engine refuses the API key: {details}"
    return CallRejected(details, engine=engine, role=role, status=status)


def parse_object(text: str) -> dict[str, Any]:
    """Parse `text` as a JSON object; return an empty one if it is anything else."""
    try:
        reply = parse_json(text)
    except ValueError:
        return {}
    return reply if isinstance(reply, dict) else {}


def error_in(reply: Mapping[str, Any]) -> Any:
    """Return the error that a reply or a chunk with status 200 contains; None if it contains none."""
    error = reply.get("error")
    if error:
        return reply if error is True else error
    if reply.get("choices"):
        return None
    if reply.get("object") == "error" or reply.get("type") == "error" or reply.get("errors"):
        return reply
    return reply if any(reply.get(name) for name in _MESSAGES) else None


def error_message(reply: Mapping[str, Any]) -> str:
    """Return the message of an error object in OpenAI's or FastAPI's shape; empty if it has none."""
    error = reply.get("error") or reply
    error = reply if error is True else error
    if isinstance(error, dict):
        error = next((error[name] for name in _MESSAGES if error.get(name)), error)
    if isinstance(error, str):
        return error
    if not error:
        return ""
    with suppress(RecursionError):
        return json.dumps(error)
    return "an error object that is nested too deeply"


def error_status(error: Any) -> int:
    """Return the HTTP status that matches an error object without one; 500 if unclear."""
    if not isinstance(error, dict):
        return 500
    for name in ("code", "status", "status_code"):
        with suppress(TypeError, ValueError, OverflowError):
            if 400 <= (status := int(error.get(name) or 0)) < 600:
                return status
    names = (error.get("type"), error.get("code"))
    kind = " ".join(name for name in names if isinstance(name, str)).lower()
    if "rate_limit" in kind:
        return 429
    if "overloaded" in kind:
        return 503
    return 400 if any(word in kind for word in _CLIENT_ERRORS) else 500


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date, from 0 to a day.

    Return None if it is neither.
    """
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        with suppress(ValueError, OverflowError):
            date = email.utils.parsedate_to_datetime(header)
            return min(max(0.0, date.timestamp() - time.time()), _MAX_RETRY_AFTER)
        return None
    return min(max(0.0, seconds), _MAX_RETRY_AFTER) if math.isfinite(seconds) else None

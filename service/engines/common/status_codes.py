"""What does a server's error mean to us: is another attempt worth it, and what did it say?

Servers word errors in many shapes, as a whole reply with a status or as a chunk of a stream without one.
"""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from secondpass.strategies.api.errors import CallRejected, EngineError, EngineUnavailable
from secondpass.strategies.api.values import Role

ECHO = 200
"""Characters of an engine's words that an error repeats at most: they may hold a prompt."""

DROPPED_REASON = "x-llm-d-request-dropped-reason"
"""The header in which llm-d's endpoint picker says why it dropped a request."""

_WORTH_ANOTHER_ATTEMPT = frozenset((408, 425, 429))
_DROPPED_FOR_NOW = frozenset(
    (
        "rejected-saturated",
        "rejected-ttl-expired",
        "rejected-shutting-down",
        "evicted",
        "evicted-queue-pressure",
        "evicted-priority",
    )
)
_DROPPED_FOR_GOOD = frozenset(("rejected-no-endpoints", "rejected-context-cancelled"))


def short(text: str) -> str:
    """`text` in one line, cut to what an error may repeat."""
    line = " ".join(text.split())
    return line if len(line) <= ECHO else f"{line[: ECHO - 1]}…"


def refusal(
    status: int,
    message: str,
    *,
    engine: str,
    role: Role | None,
    retry_after: float | None = None,
    dropped: str | None = None,
) -> EngineError:
    """The error that an HTTP `status` of 400 or more stands for; `retry_after` is in seconds.

    A reason in `dropped`, the value of DROPPED_REASON, decides about another attempt. An unknown one leaves it to the status.
    """
    said = f"status {status}: {short(message)}"
    if dropped in _DROPPED_FOR_NOW | _DROPPED_FOR_GOOD:
        return EngineUnavailable(
            f"dropped before the engine ({dropped}): {said}",
            engine=engine,
            role=role,
            retry_after=retry_after,
            may_retry=dropped in _DROPPED_FOR_NOW,
        )
    if status >= 500 or status in _WORTH_ANOTHER_ATTEMPT:
        return EngineUnavailable(said, engine=engine, role=role, retry_after=retry_after)
    return CallRejected(said, engine=engine, role=role, status=status)


def object_in(text: str) -> dict[str, Any]:
    """The JSON object that `text` is; empty for any other text."""
    try:
        reply = json.loads(text)
    except ValueError:
        return {}
    return reply if isinstance(reply, dict) else {}


def message_of(reply: Mapping[str, Any]) -> str:
    """What an error object says, in OpenAI's shape or FastAPI's; nothing for an empty one."""
    error = reply.get("error") or reply
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return error if isinstance(error, str) else json.dumps(error) if error else ""


def status_of(reply: Mapping[str, Any]) -> int:
    """The HTTP status that an error object within a stream would have had."""
    error = reply["error"]
    if not isinstance(error, dict):
        return 500
    with suppress(TypeError, ValueError):
        if 400 <= (status := int(error.get("code") or 0)) < 600:
            return status
    kind = f"{error.get('type')} {error.get('code')}".lower()
    if "rate_limit" in kind:
        return 429
    is_our_fault = any(word in kind for word in ("invalid", "badrequest", "context_length"))
    return 400 if is_our_fault else 500


def seconds_until(retry_after: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: it holds a number or a date; None for neither."""
    if not retry_after:
        return None
    with suppress(ValueError):
        seconds = float(retry_after)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    with suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    return None

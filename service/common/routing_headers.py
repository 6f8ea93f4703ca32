"""Headers by which routers and schedulers place a request: which a client may send, and what a header may hold.

Sources: llm-d-router, vLLM and vllm-router, AIBrix, SMG, NVIDIA Dynamo, LiteLLM, and the agents that send a session of their own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

SESSION_SOURCES = ("x-session-id", "x-session-affinity", "session-id", "x-claude-code-session-id")
"""Headers that name a client's session, in the order in which they are looked for."""

SESSION_FIELDS = ("prompt_cache_key", "user")
"""Fields of an OpenAI body that name a session where no header does, in their order."""

AFFINITY = frozenset(
    (
        *SESSION_SOURCES,
        "session_id",
        "x-session-token",
        "x-aibrix-session-key",
        "x-smg-routing-key",
        "x-dynamo-session-id",
        "x-dynamo-parent-session-id",
        "x-litellm-session-id",
    )
)
"""Headers that ask for the replica that holds a prefix."""

OBJECTIVE_HEADER = "x-llm-d-inference-objective"
PRIORITY_HEADER = "x-vllm-priority"

PRIORITY = frozenset(
    (
        "x-llm-d-inference-fairness-id",
        "x-gateway-inference-fairness-id",
        OBJECTIVE_HEADER,
        "x-gateway-inference-objective",
        "x-llm-d-slo-ttft-ms",
        "x-llm-d-slo-tpot-ms",
        "x-slo-ttft-ms",
        "x-slo-tpot-ms",
        PRIORITY_HEADER,
        "x-user-id",
        "x-tenant-id",
    )
)
"""Headers that decide who is served first and whose share is charged: for trusted tenants only."""

RESERVED = frozenset(
    (
        *("accept", "accept-encoding", "authorization", "connection", "content-encoding"),
        *("content-length", "content-type", "cookie", "expect", "host", "keep-alive"),
        *("proxy-authorization", "te", "traceparent", "tracestate", "trailer"),
        *("transfer-encoding", "upgrade", "user-agent", "x-request-id"),
    )
)
"""Headers that requests to an engine carry already, or that steer the connection."""

MAX_VALUE = 256
"""Characters of a session; AIBrix takes no more."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def is_token(name: str) -> bool:
    """Whether `name` can be the name of a header (RFC 9110, 5.1)."""
    return _TOKEN.fullmatch(name) is not None


def is_value(text: str) -> bool:
    """Whether every router takes `text` as the value of a header: 1 to 256 printable ASCII characters, not blank at an end."""
    return len(text) <= MAX_VALUE and _VALUE.fullmatch(text) is not None


def session_of(headers: Mapping[str, str], body: Mapping[str, object]) -> str | None:
    """The session that a client names in its headers (names in lower case), else in its body; None without one.

    A name that no header can hold is replaced by its SHA-256, so that equal names remain equal.
    """
    named = [*map(headers.get, SESSION_SOURCES), *map(body.get, SESSION_FIELDS)]
    given = next((text for text in named if isinstance(text, str) and text.strip()), None)
    if given is None or is_value(given):
        return given
    return hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()


def opening_of(body: Mapping[str, object]) -> str | None:
    """A session made of the messages up to the first of the user, which later turns repeat; None without messages."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return None
    roles = [turn.get("role") if isinstance(turn, Mapping) else None for turn in messages]
    end = roles.index("user") + 1 if "user" in roles else len(roles)
    opening = json.dumps([body.get("model"), messages[:end]], sort_keys=True)
    return hashlib.sha256(opening.encode(errors="surrogatepass")).hexdigest()

"""Routing headers of inference routers and schedulers: names, allowed values and session detection.

Sources: llm-d-router, vLLM and vllm-router, AIBrix, SMG, NVIDIA Dynamo, LiteLLM, and agents that send a session header.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

SESSION_SOURCES = ("x-session-id", "x-session-affinity", "session-id", "x-claude-code-session-id")
"""Headers that contain a client's session, in order of precedence."""

SESSION_FIELDS = ("prompt_cache_key", "user")
"""OpenAI body fields that contain a session if no header does, in order of precedence."""

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
"""Headers that request affinity to the replica with a cached prefix."""

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
"""Headers that set priority and fair-share accounting: for trusted tenants only."""

FORWARDED = frozenset(("accept", "content-type"))
"""Headers of a forwarded request that are always passed on."""

DESTINATION = "x-gateway-destination-"
"""Prefix of headers between a gateway and its endpoint picker; clients neither send nor receive them."""

RESERVED = frozenset(
    (
        *("accept", "accept-encoding", "authorization", "connection", "content-encoding"),
        *("content-length", "content-type", "cookie", "expect", "host", "keep-alive"),
        *("proxy-authorization", "te", "traceparent", "tracestate", "trailer"),
        *("transfer-encoding", "upgrade", "user-agent", "x-request-id"),
    )
)
"""Headers that engine requests already have, and headers that control the connection."""

MAX_VALUE = 256
"""Maximum characters of a value, the limit of AIBrix."""

MAX_SESSION = 240
"""Maximum characters of a client's session; a draft group number may be appended."""

_OPENING_TURNS, _OPENING_CHARACTERS = 16, 4096
"""Turns of a conversation's opening, and characters of each, that are hashed."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def is_token(name: str) -> bool:
    """Return whether `name` is a valid header name (RFC 9110, 5.1)."""
    return _TOKEN.fullmatch(name) is not None


def is_value(text: str) -> bool:
    """Return whether all routers accept `text` as a header value.

    A valid value has 1 to 256 printable ASCII characters and neither starts nor ends with a space.
    """
    return len(text) <= MAX_VALUE and _VALUE.fullmatch(text) is not None


def session_of(headers: Mapping[str, str], body: Mapping[str, object]) -> str | None:
    """Return the client's session from its headers (lower-case names) or else its body; None without one.

    A session that is not a valid header value is replaced by its SHA-256 digest.
    """
    named = [*map(headers.get, SESSION_SOURCES), *map(body.get, SESSION_FIELDS)]
    given = next((text for text in named if isinstance(text, str) and text.strip()), None)
    if given is None or (is_value(given) and len(given) <= MAX_SESSION):
        return given
    return hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()


def opening_of(body: Mapping[str, object]) -> str | None:
    """Return a session derived from the messages up to the first user message; None without messages.

    Later turns of a conversation repeat these messages. Only the start of each text is hashed, so that the cost does
    not depend on the body size.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        return None
    digest = hashlib.sha256(_start_of(body.get("model")))
    for turn in messages[:_OPENING_TURNS]:
        if not isinstance(turn, Mapping):
            continue
        content = turn.get("content")
        parts = content[:_OPENING_TURNS] if isinstance(content, list) else [content]
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
        for text in (turn.get("role"), *texts):
            digest.update(b"\0" + _start_of(text))
        if turn.get("role") == "user":
            break
    return digest.hexdigest()


def _start_of(text: object) -> bytes:
    if not isinstance(text, str):
        return b""
    return text[:_OPENING_CHARACTERS].encode(errors="surrogatepass")

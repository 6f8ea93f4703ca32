"""Headers by which routers and schedulers place a request: which a client may send, and what a header may hold.

Sources: llm-d-router, vLLM and vllm-router, AIBrix, SMG, NVIDIA Dynamo, LiteLLM, and the agents that send a session of their own.
"""

from __future__ import annotations

import hashlib
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

FORWARDED = frozenset(("accept", "content-type"))
"""Headers of a plain request that are forwarded whatever the settings."""

DESTINATION = "x-gateway-destination-"
"""Names of headers between a gateway and its endpoint picker begin so: a client neither sends nor sees them."""

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
"""Characters of a value; AIBrix takes no more."""

MAX_SESSION = 240
"""Characters of a client's session, to which the number of a group of drafts may be added."""

_OPENING_TURNS, _OPENING_CHARACTERS = 16, 4096
"""How much of a conversation's opening is read: turns, and characters of each."""

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
    if given is None or (is_value(given) and len(given) <= MAX_SESSION):
        return given
    return hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()


def opening_of(body: Mapping[str, object]) -> str | None:
    """A session made of the messages up to the first of the user, which later turns repeat; None without messages.

    Only the beginnings of texts are read, so that a large body takes no longer than a small one.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        return None
    digest = hashlib.sha256(_beginning(body.get("model")))
    for turn in messages[:_OPENING_TURNS]:
        if not isinstance(turn, Mapping):
            continue
        content = turn.get("content")
        parts = content[:_OPENING_TURNS] if isinstance(content, list) else [content]
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
        for text in (turn.get("role"), *texts):
            digest.update(b"\0" + _beginning(text))
        if turn.get("role") == "user":
            break
    return digest.hexdigest()


def _beginning(text: object) -> bytes:
    if not isinstance(text, str):
        return b""
    return text[:_OPENING_CHARACTERS].encode(errors="surrogatepass")

"""W3C Trace Context: which `traceparent` and `tracestate` headers of a client are valid."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_STATE = 512
"""Maximum characters of a `tracestate`.

The specification requires that at least as many are passed on."""

MAX_STATE_MEMBERS = 32

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_MEMBER = re.compile(r"([a-z0-9][a-z0-9_*/@-]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_INVALID_VERSION, _OWN_VERSION = "ff", "00"
_SAMPLED = 0x01


def valid_context(parents: Sequence[str], states: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the trace context headers to pass on, empty if there is no valid `traceparent`.

    A valid parent has the version 00, lower-case hexadecimal digits and ids that are not zero. One of a later version is
    passed on as version 00, as the specification requires. A `tracestate` that is invalid or too long is dropped.

    Args:
        parents: Values of all `traceparent` headers.
        states: Values of all `tracestate` headers.
    """
    parent = _valid_parent(parents[0]) if len(parents) == 1 else None
    if parent is None:
        return ()
    state = _valid_state(",".join(states))
    return (("traceparent", parent), *([("tracestate", state)] if state else []))


def _valid_parent(text: str) -> str | None:
    found = _PARENT.fullmatch(text)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == _INVALID_VERSION or not (trace.strip("0") and span.strip("0")):
        return None
    if version == _OWN_VERSION:
        return None if more else text
    return f"{_OWN_VERSION}-{trace}-{span}-{int(flags, 16) & _SAMPLED:02x}"


def _valid_state(text: str) -> str | None:
    if len(text) > MAX_STATE:
        return None
    members = [each for member in text.split(",") if (each := member.strip(" \t"))]
    found = [_STATE_MEMBER.fullmatch(member) for member in members]
    keys = [match[1] for match in found if match]
    is_valid = len(keys) == len(set(keys)) == len(members) <= MAX_STATE_MEMBERS
    return ",".join(members) if is_valid else None

"""Request bodies: size limit, content type and strict JSON."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

import anyio
from starlette.requests import Request

from secondpass.service.common.errors import Malformed, TooLarge, excerpt

LINGER_SECONDS = 5.0
"""Maximum time to discard the rest of an oversized body before the 413 is sent."""

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_body(request: Request, limit: int) -> bytes:
    """Read the raw body.

    The rest of an oversized body is read and discarded for up to `LINGER_SECONDS`. Most clients send everything before
    they read a response, and would otherwise see a connection reset.

    Raises:
        TooLarge: The body exceeds `limit` bytes.
        Malformed: The content type is not JSON, or the body is compressed.
    """
    content_type = (
        request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    )
    if content_type != "application/json":
        raise Malformed("must be application/json", field="content-type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Malformed("is not supported: send the body uncompressed", field="content-encoding")
    declared = request.headers.get("content-length", "")
    is_too_large = declared.isdigit() and int(declared) > limit
    if is_too_large and "expect" in request.headers:
        raise _too_large(limit)  # the client waits for this response before sending
    body = bytearray()
    with anyio.move_on_after(LINGER_SECONDS if is_too_large else math.inf) as linger:
        async for chunk in request.stream():
            if not is_too_large and len(body) + len(chunk) > limit:
                is_too_large, linger.deadline = True, anyio.current_time() + LINGER_SECONDS
                body.clear()
            if not is_too_large:
                body += chunk
    if is_too_large:
        raise _too_large(limit)
    return bytes(body)


def decode(body: bytes) -> dict[str, Any]:
    """Parse the JSON object in `body`. Raises Malformed.

    Duplicate keys, NaN, infinities and text that UTF-8 cannot encode are rejected.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant
        )
        if _ESCAPED_SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise Malformed("the body is not valid UTF-8", field="body") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Malformed(f"the body is not JSON: {error.msg} at {where}", field="body") from error
    except RecursionError as error:
        raise Malformed("the body's JSON is nested too deeply", field="body") from error
    except ValueError as error:
        raise Malformed("the body contains a number with too many digits", field="body") from error
    if not isinstance(value, dict):
        raise Malformed("the body must be a JSON object", field="body")
    return value


def without_member(body: bytes, name: str) -> bytes:
    """Return the text of a JSON object without one member. The text of all others is unchanged.

    `body` must be a JSON object that `decode` accepts.
    """
    text = body.decode()
    read = json.JSONDecoder().raw_decode
    kept = []
    at = _next(text, text.index("{") + 1)
    while text[at] != "}":
        start = at
        key, at = read(text, at)
        _, at = read(text, _next(text, at))
        if key != name:
            kept.append(text[start:at])
        at = _next(text, at)
    return f"{{{', '.join(kept)}}}".encode()


def _next(text: str, at: int) -> int:
    """Return the offset of the next value or closing brace of a JSON object."""
    while text[at] in " \t\r\n,:":
        at += 1
    return at


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise Malformed(f"duplicate key {excerpt(key)!r}; each key may occur once", field="body")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise Malformed(f"the body contains {name}, which is not a JSON number", field="body")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body must be at most {limit} bytes", field="body")

"""Reading a request's body: whole, within its limit, and as strictly as JSON is written."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import anyio
from starlette.requests import Request

from secondpass.service.common.errors import Malformed, TooLarge

LINGER_SECONDS = 5.0
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_body(request: Request, limit: int) -> bytes:
    """The raw body. Raises TooLarge over `limit` bytes and Malformed for another type.

    Of too large a body the rest is thrown away as it comes, for a while: most clients read no reply before they have sent
    everything, and would see their connection reset.
    """
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json":
        raise Malformed("the body must be application/json", field="content-type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Malformed("is not supported: send the body as it is", field="content-encoding")
    declared = request.headers.get("content-length", "")
    is_over = declared.isdigit() and int(declared) > limit
    if is_over and "expect" in request.headers:
        raise _too_large(limit)  # the client waits to be told
    body = bytearray()
    with anyio.move_on_after(LINGER_SECONDS if is_over else math.inf) as linger:
        async for chunk in request.stream():
            if not is_over and len(body) + len(chunk) > limit:
                is_over, linger.deadline = True, anyio.current_time() + LINGER_SECONDS
                body.clear()
            if not is_over:
                body += chunk
    if is_over:
        raise _too_large(limit)
    return bytes(body)


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises Malformed.

    Duplicate keys, NaN and infinities are no JSON, and text that UTF-8 cannot carry cannot go anywhere.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
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
        raise Malformed("the body has a number with too many digits", field="body") from error
    if not isinstance(value, dict):
        raise Malformed("the body must be a JSON object", field="body")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise Malformed("the body has the same key twice in one object", field="body")
    return value


def _no_number(name: str) -> NoReturn:
    raise Malformed(f"{name} is not a number in JSON", field="body")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body may have at most {limit} bytes", field="body")

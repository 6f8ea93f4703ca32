"""JSON bodies: strict, and bounded in depth and in the number of values before any value is built."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Any, NoReturn

from secondpass.service.common.errors import Malformed, excerpt

MAX_VALUES = 2**17
"""Maximum list items and object members of a body. An empty list or object counts as one more."""

MAX_DEPTH = 128
"""Maximum depth of nested lists and objects. Python's parser and pydantic's have limits above it."""

MAX_DIGITS = 256
"""Maximum characters of a number. The time to read an integer grows with the square of its digits."""

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_STRING = re.compile(rb'"[^"]*"?')


def decode(body: bytes) -> dict[str, Any]:
    """Parse the JSON object in `body`. Raises Malformed.

    Duplicate keys, NaN, infinities and text that UTF-8 cannot encode are rejected, and bodies above `MAX_VALUES`,
    `MAX_DEPTH` or `MAX_DIGITS`.
    """
    if _has_too_many_values(body):
        raise Malformed(
            f"the body must have at most {MAX_VALUES} list items and object members", field="body"
        )
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_reject_duplicate_keys,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_reject_constant,
        )
        if _ESCAPED_SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise Malformed("the body is not valid UTF-8", field="body") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Malformed(f"the body is not JSON: {error.msg} at {where}", field="body") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise Malformed(
            f"the body contains a number with more than {MAX_DIGITS} digits", field="body"
        ) from error
    if not isinstance(value, dict):
        raise Malformed("the body must be a JSON object", field="body")
    _check_depth(value)
    return value


def _has_too_many_values(body: bytes) -> bool:
    """Return whether `body` has more than MAX_VALUES values, in linear time and without building any.

    Each value follows a comma or an opening bracket. If the body has more of these, those in its strings are left out.
    """
    if _separators(body) <= MAX_VALUES:
        return False
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # A member has at most two strings, so that more strings are too many members in any case.
    if unescaped.count(b'"') > 4 * (MAX_VALUES + 1):
        return True
    return _separators(_STRING.sub(b"", unescaped)) > MAX_VALUES


def _separators(body: bytes) -> int:
    return sum(map(body.count, (b",", b"[", b"{")))


def _check_depth(value: Any) -> None:
    """Raise Malformed if lists and objects are nested deeper than MAX_DEPTH. Takes no recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        members: Iterable[Any] = chain.from_iterable(
            each.values() if isinstance(each, dict) else each for each in level
        )
        level = [each for each in members if isinstance(each, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> Malformed:
    return Malformed(f"the body's JSON is nested deeper than {MAX_DEPTH} levels", field="body")


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise Malformed(f"duplicate key {excerpt(key)!r}; each key may occur once", field="body")
    return value


def _int(digits: str) -> int:
    return int(_of_fair_length(digits))


def _float(digits: str) -> float:
    return float(_of_fair_length(digits))


def _of_fair_length(digits: str) -> str:
    if len(digits) > MAX_DIGITS:
        raise ValueError("too many digits")
    return digits


def _reject_constant(name: str) -> NoReturn:
    raise Malformed(f"the body contains {name}, which is not a JSON number", field="body")

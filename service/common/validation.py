"""Messages for pydantic's validation errors, in the words of every other error message."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from secondpass.service.common.errors import ECHO_LIMIT, excerpt

_MESSAGES = {
    "missing": "is missing",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be a boolean",
    "bool_parsing": "must be a boolean",
    "string_type": "must be a string",
    "string_too_short": "must be at least {min_length} characters long",
    "string_too_long": "must be at most {max_length} characters long",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "none_required": "must be null",
    "too_short": "needs {min_length} or more items, got {actual_length}",
    "too_long": "takes at most {max_length} items, got {actual_length}",
}
"""Messages by pydantic's error type."""

_NAME_LIMIT = 60  # an OpenAI error object may contain the name of a field three times
_MAX_NEAREST = 12
_MAX_LISTED = 40

_WITHOUT_VALUE = frozenset(("missing", "string_too_long", "too_short", "too_long"))


def message(problem: ErrorDetails) -> str:
    """Return the message of a validation error, without the field and the invalid value."""
    context = {name: _plain(each) for name, each in problem.get("ctx", {}).items()}
    if problem["type"] in ("literal_error", "enum"):
        allowed = context["expected"].replace(" or ", ", ")
        return f"must be one of {allowed}" if ", " in allowed else f"must be {allowed}"
    if problem["type"] in _MESSAGES:
        return _MESSAGES[problem["type"]].format(**context)
    return problem["msg"].removeprefix("Value error, ")


def _plain(value: Any) -> Any:
    """Return the int of a whole float, so that a bound is 2 instead of 2.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def message_with_value(problem: ErrorDetails) -> str:
    """Return the message, followed by the invalid value if it is a scalar rejected by type or range."""
    kind = problem["type"]
    is_rule = kind in ("literal_error", "enum") or kind in _MESSAGES.keys() - _WITHOUT_VALUE
    return message(problem) + (shown(problem["input"]) if is_rule else "")


def shown(value: Any) -> str:
    """Return `, not VALUE` for a scalar, truncated to `ECHO_LIMIT` characters, else an empty text."""
    if value is None or isinstance(value, bool):
        return f", not {json.dumps(value)}"
    if isinstance(value, str):
        value = value[: ECHO_LIMIT + 1]
    return f", not {excerpt(repr(value))}" if isinstance(value, str | int | float) else ""


def unknown_name(value: str, allowed: Iterable[str], kind: str) -> str:
    """Return the message for an unknown name, with the allowed names or the nearest of many."""
    allowed = sorted(allowed)
    if len(allowed) > _MAX_LISTED:
        nearest = get_close_matches(value[:_NAME_LIMIT], allowed, n=_MAX_NEAREST, cutoff=0.5)
        allowed = nearest or [*allowed[:_MAX_LISTED], "…"]
    listed = ", ".join(allowed)
    return f"unknown {kind} {shorten_name(value)!r}; allowed: {listed}"


def shorten_name(text: str) -> str:
    """Shorten a name from a request to the length that an error may repeat."""
    return text if len(text) <= _NAME_LIMIT else text[: _NAME_LIMIT - 1] + "…"

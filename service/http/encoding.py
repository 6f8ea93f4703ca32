"""Encoding of responses: JSON, server-sent events, and documents of usage and budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from pydantic import BaseModel

from secondpass.service.runs.outcome import RoleUsage, Spend
from secondpass.strategies.api.values import BudgetKind, Role


def dumps(value: Any) -> bytes:
    """Encode as JSON in UTF-8. A lone surrogate, left by an interrupted stream, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def jsonable(value: Any) -> Any:
    """Convert dataclasses and models to JSON objects."""
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value


def sse_event(kind: str, number: int, document: Mapping[str, Any]) -> bytes:
    """Encode one server-sent event."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), number, dumps(document))


def error_members(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the extra members of an error to JSON: the usage and budget of a failed run."""
    document = dict(extra)
    if "usage" in document:
        document["usage"] = usage_document(document["usage"])
    if "budget" in document:
        document["budget"] = budget_document(document["budget"])
    return document


def usage_document(roles: Mapping[Role, RoleUsage]) -> dict[str, Any]:
    """Convert the usage of each role to JSON."""
    return {
        role: {
            "calls": role_usage.calls,
            "prompt": role_usage.prompt,
            "cached": role_usage.cached,
            "completion": role_usage.completion,
            "wasted": role_usage.wasted,
            "cost": role_usage.cost,
            "estimated": role_usage.is_estimated,
        }
        for role, role_usage in roles.items()
    }


def budget_document(
    kinds: Mapping[BudgetKind, Spend], deadline_ms: int | None = None, took_ms: float | None = None
) -> dict[str, Any]:
    """Convert the amounts of each kind, under the field names of the request.

    `withheld` and `overrun` are present only if they are not 0.
    """
    document: dict[str, Any] = {}
    for kind, spend in kinds.items():
        amounts = {"limit": spend.limit, "spent": spend.spent}
        rare = {"withheld": spend.withheld, "overrun": spend.overrun}
        amounts |= {name: amount for name, amount in rare.items() if amount}
        document[f"max_{kind}"] = {
            name: amount if kind == "cost" else _whole(amount) for name, amount in amounts.items()
        }
    if took_ms is not None:
        document["deadline_ms"] = {"limit": deadline_ms, "spent": round(took_ms, 3)}
    return document


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)

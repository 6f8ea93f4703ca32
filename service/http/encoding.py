"""How values become bytes: JSON, server-sent events, and bills by the names that the request has for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from pydantic import BaseModel

from secondpass.service.runs.outcome import RoleUsage, Spend
from secondpass.strategies.api.values import BudgetKind, Role


def dumps(value: Any) -> bytes:
    """JSON in UTF-8; half a surrogate pair, which a cut stream may leave behind, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def plain(value: Any) -> Any:
    """`value` as JSON has it: dataclasses and models become objects."""
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def frame(kind: str, number: int, document: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), number, dumps(document))


def bill(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What a failed run used, as an error carries it."""
    document = dict(extra)
    if "usage" in document:
        document["usage"] = usage(document["usage"])
    if "budget" in document:
        document["budget"] = budget(document["budget"])
    return document


def usage(bills: Mapping[Role, RoleUsage]) -> dict[str, Any]:
    """The bill of each role."""
    return {
        role: {
            "calls": role_bill.calls,
            "prompt": role_bill.prompt,
            "cached": role_bill.cached,
            "completion": role_bill.completion,
            "wasted": role_bill.wasted,
            "cost": role_bill.cost,
            "estimated": role_bill.is_estimated,
        }
        for role, role_bill in bills.items()
    }


def budget(
    books: Mapping[BudgetKind, Spend], deadline_ms: int | None = None, took_ms: float | None = None
) -> dict[str, Any]:
    """Limit and spent of each kind, by the names that the request has for them."""
    document: dict[str, Any] = {
        f"max_{kind}": {
            "limit": spend.limit if kind == "cost" else _whole(spend.limit),
            "spent": spend.spent if kind == "cost" else _whole(spend.spent),
        }
        for kind, spend in books.items()
    }
    if took_ms is not None:
        document["deadline_ms"] = {"limit": deadline_ms, "spent": round(took_ms, 3)}
    return document


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)

"""Field-wise vote over JSON objects, for open questions whose answers have errors in different fields.

The vote elects one of the objects; it never combines fields of several.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any

from secondpass.strategies.api.values import Candidate
from secondpass.strategies.judging.reply_schemas import unique_keys

Fields = Mapping[str, str]
"""Field values in canonical JSON, by JSON Pointer (RFC 6901): {"/city/name": '"Rome"'}."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def fields_of(text: str) -> Fields | None:
    """Return the fields of a JSON object, which is the whole text or its only code fence; else None.

    Nested objects are flattened; lists are values. Numbers are compared by value, strings ignoring differences in white
    space. Returns None for an object with a duplicate key or NaN.
    """
    try:
        found = json.loads(
            _unfenced(text),
            object_pairs_hook=unique_keys,
            parse_constant=_refuse,
            parse_int=Decimal,
            parse_float=Decimal,
        )
        return dict(_leaves(found, "")) if isinstance(found, dict) else None
    except (ValueError, ArithmeticError, RecursionError):
        return None


@dataclass
class FieldVote:
    """A vote over the fields of JSON objects; the leader has the majority value in the most fields.

    A missing field counts as a value. Ties go to the object with the lower index and to its values. Candidates without
    an answer, such as truncated ones, do not count.

    Attributes:
        leader: None for fewer than two objects, or unless more than half of the answers are objects. Its score is its
            lowest field share.
        shares: Per field of the leader, the share (0 to 1) of objects that agree with it.
    """

    leader: Candidate | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    _objects: list[tuple[Candidate, Fields]] = field(default_factory=list)
    _others: int = 0

    def add(self, candidate: Candidate) -> Candidate | None:
        """Count a candidate and return the leader."""
        if candidate.answer is None:
            return self.leader
        found = fields_of(candidate.answer)
        if found is None:
            self._others += 1
        else:
            self._objects.append((candidate, found))
            self._objects.sort(key=lambda pair: pair[0].index)
        self.leader, self.shares = None, {}
        if len(self._objects) >= max(2, self._others + 1):
            self._elect()
        return self.leader

    def _elect(self) -> None:
        paths = dict.fromkeys(path for _, fields in self._objects for path in fields)
        counts = {path: Counter(fields.get(path) for _, fields in self._objects) for path in paths}
        majority = {path: values.most_common(1)[0][0] for path, values in counts.items()}

        def rank(fields: Fields) -> tuple[int, int]:
            """Number of majority values, and total votes for the object's values."""
            own = [(path, fields.get(path)) for path in majority]
            return (
                sum(majority[path] == value for path, value in own),
                sum(counts[path][value] for path, value in own),
            )

        candidate, fields = max(self._objects, key=lambda pair: rank(pair[1]))
        number = len(self._objects)
        self.shares = {path: counts[path][value] / number for path, value in fields.items()}
        self.leader = replace(
            candidate,
            score=min(self.shares.values()),
            score_kind="field_share",
            why=f"{rank(fields)[0]} of {len(majority)} fields as in most of {number} objects",
        )


def _unfenced(text: str) -> str:
    parts = text.split("```")
    if text.lstrip().startswith("{") or len(parts) != 3:
        return text
    language, newline, block = parts[1].partition("\n")
    return block if newline and language.strip().lower() in ("", "json") else text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _leaves(value: Any, path: str) -> list[tuple[str, str]]:
    if not isinstance(value, dict) or not value:
        return [(path, _canonical(value))]
    return [
        leaf
        for key, inner in value.items()
        for leaf in _leaves(inner, f"{path}/{key.replace('~', '~0').replace('/', '~1')}")
    ]


def _canonical(value: Any) -> str:
    match value:
        case dict():
            pairs = (f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value))
            return "{" + ",".join(pairs) + "}"
        case list():
            return "[" + ",".join(map(_canonical, value)) + "]"
        case Decimal():
            return str(value.normalize(_EXACT)) if value else "0"
        case str():
            return json.dumps(" ".join(value.split()))
        case _:
            return json.dumps(value)

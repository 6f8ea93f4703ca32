"""A vote over JSON objects, field by field: of several answers to an open question, each may be wrong in another place.

Pure. No object is assembled from parts: one of the given objects is elected.
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
"""The value of each field, in canonical JSON, by its JSON Pointer (RFC 6901): {"/city/name": '"Rome"'}."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def fields_of(text: str) -> Fields | None:
    """The fields of the JSON object that a text, or its only code fence, consists of; None for any other text.

    Objects are taken apart, lists are values. Numbers are equal by value, strings but for white space. An object that gives
    a key twice, or holds NaN, has no fields.
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
    """A vote over the fields of JSON objects, which always knows the object that has most of the elected values.

    A missing field is one of the values that a field may have. Ties go to the object with the lower index, and to its value.
    Candidates without an answer, truncated ones for instance, do not count. `leader` is None before there are
    two objects, and unless more than half of the answers are objects; its score is the share of its least sure field.
    `shares` (0 to 1) are those of the objects that agree with the leader, for each of its fields.
    """

    leader: Candidate | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    _objects: list[tuple[Candidate, Fields]] = field(default_factory=list)
    _others: int = 0

    def add(self, candidate: Candidate) -> Candidate | None:
        """Count a candidate; returns the leader."""
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
        most = {path: values.most_common(1)[0][0] for path, values in counts.items()}

        def rank(fields: Fields) -> tuple[int, int]:
            """The number of values that are the majority's, and of objects that have the same values, over all fields."""
            own = [(path, fields.get(path)) for path in most]
            return (
                sum(most[path] == value for path, value in own),
                sum(counts[path][value] for path, value in own),
            )

        candidate, fields = max(self._objects, key=lambda pair: rank(pair[1]))
        number = len(self._objects)
        self.shares = {path: counts[path][value] / number for path, value in fields.items()}
        self.leader = replace(
            candidate,
            score=min(self.shares.values()),
            score_kind="field_share",
            why=f"{rank(fields)[0]} of {len(most)} fields as in most of {number} objects",
        )


def _unfenced(text: str) -> str:
    pieces = text.split("```")
    if text.lstrip().startswith("{") or len(pieces) != 3:
        return text
    language, newline, block = pieces[1].partition("\n")
    return block if newline and language.strip().lower() in ("", "json") else text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


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

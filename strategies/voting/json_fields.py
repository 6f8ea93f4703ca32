"""Field-wise vote over JSON objects, for open questions whose answers have errors in different fields.

The vote elects one of the objects; it never combines fields of several.
"""

from __future__ import annotations

import json
from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any

from secondpass.strategies.api.values import Candidate
from secondpass.strategies.judging.reply_schemas import unique_keys

Fields = Mapping[str, str]
"""Field values in canonical JSON, by JSON Pointer (RFC 6901): {"/city/name": '"Rome"'}."""

MAX_LENGTH = 50_000
"""Most characters of an object that is read."""

MAX_FIELDS = 500
"""Most fields of an object that is read."""

MAX_PATH = 256
"""Most characters of a field's path. Nested objects repeat the path of their parents for each field."""

_MAX_DIGITS = 10_000
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def fields_of(text: str) -> Fields | None:
    """Return the fields of a JSON object, which is the whole text or its only code fence; else None.

    Nested objects are flattened; lists are values. Numbers are compared by value, strings ignoring differences in white
    space. Returns None for an object with a duplicate key or NaN, and for one beyond `MAX_LENGTH`, `MAX_FIELDS` or
    `MAX_PATH`.
    """
    source = _unfenced(text)
    if len(source) > MAX_LENGTH:
        return None
    try:
        found = json.loads(
            source,
            object_pairs_hook=unique_keys,
            parse_constant=_refuse,
            parse_int=_number,
            parse_float=_number,
        )
        return _flattened(found) if isinstance(found, dict) else None
    except (ValueError, ArithmeticError, RecursionError):
        return None


@dataclass(slots=True)
class _PathTally:
    """Votes for the values of one path, by canonical value.

    Attributes:
        present: Number of objects that have the path.
        best: Most votes of a value.
    """

    votes: dict[str, int] = field(default_factory=dict)
    present: int = 0
    best: int = 0

    def add(self, value: str) -> None:
        """Count the value of one object."""
        votes = self.votes[value] = self.votes.get(value, 0) + 1
        self.present += 1
        self.best = max(self.best, votes)


@dataclass
class FieldVote:
    """A vote over the fields of JSON objects; the leader has the majority value in the most fields.

    A missing field counts as a value. Ties go to the object with the lower index and to its values. Candidates without
    an answer, such as truncated ones, do not count. A new object is counted in time linear in its fields, and an
    election takes time linear in the fields of all objects.

    Attributes:
        leader: None for fewer than two objects, or unless more than half of the answers are objects. Its score is its
            lowest field share.
        shares: Per field of the leader, the share (0 to 1) of objects that agree with it.
    """

    leader: Candidate | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    _objects: list[tuple[Candidate, Fields]] = field(default_factory=list)
    _tallies: dict[str, _PathTally] = field(default_factory=dict)
    _frequent: set[str] = field(default_factory=set)  # paths that at least half of the objects have
    _others: int = 0

    def add(self, candidate: Candidate) -> Candidate | None:
        """Count a candidate and return the leader."""
        if candidate.answer is None:
            return self.leader
        found = fields_of(candidate.answer)
        if found is None:
            self._others += 1
        else:
            insort(self._objects, (candidate, found), key=lambda pair: pair[0].index)
            for path, value in found.items():
                self._tallies.setdefault(path, _PathTally()).add(value)
            number = len(self._objects)
            self._frequent = {
                path
                for path in self._frequent.union(found)
                if 2 * self._tallies[path].present >= number
            }
        self.leader, self.shares = None, {}
        if len(self._objects) >= max(2, self._others + 1):
            self._elect()
        return self.leader

    def _elect(self) -> None:
        number, majority = len(self._objects), self._majority()
        lacking = len(self._tallies) - len(majority)  # paths that most objects lack
        agreed = [self._agreed(fields, majority) + lacking for _, fields in self._objects]
        nearest = [pair for pair, n in zip(self._objects, agreed, strict=True) if n == max(agreed)]
        candidate, fields = max(nearest, key=lambda pair: self._votes_of(pair[1]))
        self.shares = {
            path: self._tallies[path].votes[value] / number for path, value in fields.items()
        }
        self.leader = replace(
            candidate,
            score=min(self.shares.values()),
            score_kind="field_share",
            why=f"{max(agreed)} of {len(self._tallies)} fields as in most of {number} objects",
        )

    def _majority(self) -> dict[str, str]:
        """Return the most frequent value of each path; without the paths that most objects lack."""
        found = {path: self._first(path) for path in self._frequent}
        return {path: value for path, value in found.items() if value is not None}

    def _first(self, path: str) -> str | None:
        """Return the value of the first object that has the most frequent one; None if it lacks the path."""
        tally = self._tallies[path]
        lacking = len(self._objects) - tally.present
        most = max(tally.best, lacking)
        values = (fields.get(path) for _, fields in self._objects)
        return next(
            value for value in values if (lacking if value is None else tally.votes[value]) == most
        )

    @staticmethod
    def _agreed(fields: Fields, majority: Mapping[str, str]) -> int:
        """Count the fields with the majority value, less those that most objects lack."""
        return sum(
            1 if value == expected else -(expected is None)
            for value, expected in zip(fields.values(), map(majority.get, fields), strict=True)
        )

    def _votes_of(self, fields: Fields) -> int:
        """Return the votes for the values of an object, less those for all paths as missing."""
        number = len(self._objects)
        tallies = map(self._tallies.__getitem__, fields)
        return sum(
            tally.votes[value] - (number - tally.present)
            for tally, value in zip(tallies, fields.values(), strict=True)
        )


def _unfenced(text: str) -> str:
    parts = text.split("```")
    if text.lstrip().startswith("{") or len(parts) != 3:
        return text
    language, newline, block = parts[1].partition("\n")
    return block if newline and language.strip().lower() in ("", "json") else text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _number(text: str) -> Decimal:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number has more than {_MAX_DIGITS} characters")
    return Decimal(text)


def _flattened(found: dict[str, Any]) -> Fields | None:
    """Return the values of an object by path; None beyond `MAX_FIELDS` or `MAX_PATH`."""
    fields: dict[str, str] = {}
    for path, value in _leaves(found, ""):
        if len(fields) == MAX_FIELDS or len(path) > MAX_PATH:
            return None
        fields[path] = _canonical(value)
    return fields


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the paths and values of all leaves; of an object with too long a path only that path."""
    if not isinstance(value, dict) or not value or len(path) > MAX_PATH:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{path}/{key.replace('~', '~0').replace('/', '~1')}")


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

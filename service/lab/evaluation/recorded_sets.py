"""Recorded sample sets as plain values: votes with scores, and two-turn revision chains.

A row of votes has `id` and `samples`: `[{"pred", "correct", ...}]`. `pred: null` is a sample without an answer; the fields
in SCORES are optional. A row of revisions has `initial` and one or more `repair_...`:
`{"correct", "code" or "text", "feedback"?}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondpass.service.lab.evaluation.run_record import Turn
from secondpass.service.lab.evaluation.votes import Poll
from secondpass.service.lab.pools.jsonl import BadLine, Row, read_rows

SCORES = ("rm_score", "p_true")
"""Optional scores of a sample: from a reward model, or the model's own P(True)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteSet:
    """Polls of one size with unique ids; `scores` maps a name to the scores of each poll's samples."""

    name: str
    model: str
    polls: tuple[Poll, ...]
    scores: Mapping[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionSet:
    """Two-turn chains by kind of revision, with the questions in the same order."""

    name: str
    model: str
    chains: Mapping[str, tuple[tuple[Turn, ...], ...]]


def read_recorded_set(path: Path) -> VoteSet | RevisionSet:
    """Read the recorded set of a file. Raises BadLine that names line and field."""
    lines: list[tuple[int, Row]] = list(read_rows(path))
    if not lines:
        raise BadLine(path, None, "the file contains no question")
    seen: dict[str, int] = {}
    for number, row in lines:
        key = str(_field(path, number, row, "id", str))
        if key in seen:
            raise BadLine(path, number, f"the id {key!r} is already in line {seen[key]}")
        seen[key] = number
    return _revisions(path, lines) if "initial" in lines[0][1] else _votes(path, lines)


def _votes(path: Path, lines: Sequence[tuple[int, Row]]) -> VoteSet:
    polls: list[Poll] = []
    samples: list[list[Row]] = []
    for number, row in lines:
        drawn: list[Row] = _field(path, number, row, "samples", list)
        if not drawn or (polls and len(drawn) != len(polls[0].classes)):
            size = f"{len(polls[0].classes)} entries, as in the rows before" if polls else "1 or more entries"  # fmt: skip
            raise BadLine(path, number, f"samples: must have {size}, not {len(drawn)}")
        polls.append(
            Poll(
                question=row["id"],
                classes=class_ids(_pred(path, number, at, each) for at, each in enumerate(drawn)),
                correct=tuple(
                    _field(path, number, each, "correct", bool, f"samples[{at}].")
                    for at, each in enumerate(drawn)
                ),
            )
        )
        samples.append(drawn)
    scored = [name for name in SCORES if any(name in each for drawn in samples for each in drawn)]
    return VoteSet(
        name=path.stem,
        model=str(lines[0][1].get("model", "unknown")),
        polls=tuple(polls),
        scores={name: _scores(path, lines, samples, name) for name in scored},
    )


def class_ids(answers: Iterable[Any]) -> tuple[int | None, ...]:
    """Return small ids of equal answers, in order of first appearance; None stays None."""
    ids: dict[str, int] = {}
    return tuple(
        None if answer is None else ids.setdefault(json.dumps(answer), len(ids))
        for answer in answers
    )


def _scores(
    path: Path, lines: Sequence[tuple[int, Row]], samples: Sequence[Sequence[Row]], name: str
) -> tuple[tuple[float, ...], ...]:
    return tuple(
        tuple(
            float(_field(path, number, each, name, (int, float), f"samples[{at}]."))
            for at, each in enumerate(drawn)
        )
        for (number, _), drawn in zip(lines, samples, strict=True)
    )


def _revisions(path: Path, lines: Sequence[tuple[int, Row]]) -> RevisionSet:
    kinds = [key for key in lines[0][1] if key.startswith("repair_")]
    if not kinds:
        raise BadLine(
            path, lines[0][0], "repair_...: at least one such field is required beside initial"
        )
    chains: dict[str, list[tuple[Turn, ...]]] = {kind: [] for kind in kinds}
    for number, row in lines:
        first = _turn(path, number, row, "initial")
        for kind in kinds:
            chains[kind].append((first, _turn(path, number, row, kind)))
    return RevisionSet(
        name=path.stem,
        model=str(lines[0][1].get("model", "unknown")),
        chains={kind: tuple(each) for kind, each in chains.items()},
    )


def _turn(path: Path, number: int, row: Row, key: str) -> Turn:
    """Return the turn at `key`; feedback rejects the answer if it has an `error_message`."""
    given: Row = _field(path, number, row, key, dict)
    feedback = given.get("feedback")
    return Turn(
        correct=_field(path, number, given, "correct", bool, f"{key}."),
        answer=given.get("code") or given.get("text"),
        accepted=None if feedback is None else feedback.get("error_message") is None,
    )


def _pred(path: Path, number: int, at: int, sample: Any) -> Any:
    if not isinstance(sample, dict) or "pred" not in sample:
        raise BadLine(path, number, f"samples[{at}].pred: missing; use null for no answer")
    return sample["pred"]


def _field(
    path: Path,
    number: int,
    row: Row,
    key: str,
    kind: type | tuple[type, ...],
    prefix: str = "",
) -> Any:
    value = row.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = {"str": "a string", "bool": "true or false", "list": "a list", "dict": "an object"}
        expected = "a number" if isinstance(kind, tuple) else names[kind.__name__]
        raise BadLine(path, number, f"{prefix}{key}: must be {expected}, not {value!r:.60}")
    return value

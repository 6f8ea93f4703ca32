"""Recorded pairs of mathematical answers, with whether they are equal."""

import json
from pathlib import Path
from typing import NamedTuple

_CASES = Path(__file__).parents[1] / "cases"


class Pair(NamedTuple):
    """Two answers to one question, and whether they are in one class."""

    a: str
    b: str
    same: bool


def math_pairs(
    *names: str,
) -> list[Pair]:
    """Return the recorded pairs of the named files, by default all."""
    names = names or ("math_equal", "math_equal_more", "math_equal_notations")
    files = [_CASES / f"{name}.jsonl" for name in names]
    rows = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    return [Pair(row["a"], row["b"], row["same"]) for row in rows]

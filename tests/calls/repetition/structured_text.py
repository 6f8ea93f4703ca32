"""Generated structured text: tables, code, lists, drawings and numbers, with repeated lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random

_WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "omega",
    "left",
    "right",
    "total",
    "yes",
    "no",
    "TODO",
    "n/a",
    "unknown",
    "value",
]


def table(random: Random, lines: int) -> Iterator[str]:
    """Yield a Markdown table; a fifth of its rows equal the row before."""
    columns = random.randint(2, 8)
    yield "| " + " | ".join(random.choices(_WORDS, k=columns)) + " |"
    yield "|" + " --- |" * columns
    row = ""
    for _ in range(lines):
        if not row or random.random() < 0.8:
            row = "| " + " | ".join(random.choices([*_WORDS, "0", "1"], k=columns)) + " |"
        yield row


def code(random: Random, lines: int) -> Iterator[str]:
    """Yield functions with equal bodies."""
    for number in range(lines // 5):
        yield f"def {random.choice(_WORDS).lower().strip('/')}_{number}(value):"
        yield "    if value is None:"
        yield "        return None"
        yield "    return value"
        yield ""


def bullets(random: Random, lines: int) -> Iterator[str]:
    """Yield a nested list."""
    for _ in range(lines):
        yield "  " * random.randint(0, 3) + f"- {' '.join(random.choices(_WORDS, k=2))}"


def tasks(_random: Random, lines: int) -> Iterator[str]:
    """Yield numbered items with equal texts."""
    for number in range(1, lines + 1):
        yield f"{number}. [ ] TODO: implement this step and write a test for it"


def csv(random: Random, lines: int) -> Iterator[str]:
    """Yield mostly empty rows."""
    for _ in range(lines):
        yield ",".join(random.choice(["", "", "", "0", "1"]) for _ in range(12))


def numbers(random: Random, lines: int) -> Iterator[str]:
    """Yield a sequence of numbers."""
    start, step = random.randint(0, 99), random.randint(1, 9)
    for line in range(lines):
        yield ", ".join(str(start + step * (10 * line + i)) for i in range(10))


def array(random: Random, lines: int) -> Iterator[str]:
    """Yield a JSON array of similar objects."""
    yield "["
    for number in range(lines):
        yield "  " + json.dumps({"id": number, "ok": True, "kind": random.choice(_WORDS)}) + ","
    yield "]"


def drawing(random: Random, lines: int) -> Iterator[str]:
    """Yield a box with a frame and repeated rows."""
    width = random.randint(10, 120)
    for _ in range(lines // 12):
        yield "+" + "-" * width + "+"
        for _ in range(10):
            yield "|" + " " * width + "|"
        yield "+" + "=" * width + "+"
        yield f"Figure {random.randint(1, 9999)}"


def matrix(random: Random, _lines: int) -> Iterator[str]:
    """Yield an image of 28 by 28 zeros."""
    yield f"image_{random.randint(0, 99999)} = ["
    for _ in range(28):
        yield "    [" + ", ".join(["0"] * 28) + "],"
    yield "]"


def brackets(random: Random, _lines: int) -> Iterator[str]:
    """Yield a Dyck word that closes 250 brackets."""
    yield " (" * 250 + f" {random.choice(_WORDS)}" + " )" * 250


Writer = Callable[[Random, int], Iterator[str]]
WRITERS: tuple[Writer, ...] = (
    table,
    code,
    bullets,
    tasks,
    csv,
    numbers,
    array,
    drawing,
    matrix,
    brackets,
)

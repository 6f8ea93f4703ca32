"""What commands draw at a terminal with rich: bars and tables of plain text."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text


@contextmanager
def bar(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar of `total` steps on stderr; each call says how things stand, and how many steps were just done."""
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda says, steps: progress.update(task, advance=steps, description=says)


def table_of(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """A table of plain text."""
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def printable(text: str) -> str:
    """`text` without what a terminal would act on: control characters but line ends and tabs become U+FFFD."""
    return "".join(
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t\u200d" else c
        for c in text
    )

"""Progress bars and tables of plain text, drawn with rich."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar of `total` steps on stderr and yield `update(description, finished_steps)`."""
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda description, steps: progress.update(
            task, advance=steps, description=description
        )


def table_of(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """Return a table of plain text."""
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def printable(text: str) -> str:
    """Replace characters that could control a terminal by U+FFFD.

    These are control and format characters (Cc, Cf) except line feed, tab and zero-width joiner.
    """
    return "".join(
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t\u200d" else c
        for c in text
    )

"""Progress bars and tables of plain text, drawn with rich."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from secondpass.service.cli.common.output import console, printable


class PrintableConsole(Console):
    """A console whose text is printable, whatever is drawn; its own control codes are kept."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of a renderable with printable text."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar of `total` steps on stderr and yield `update(description, finished_steps)`."""
    columns = (BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console(to_stderr=True)) as progress:
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

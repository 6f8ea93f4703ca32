"""Live display of a run at a terminal, followed by its answer and usage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from secondpass.service.cli.common.failure import Json
from secondpass.service.cli.common.output import printable
from secondpass.service.cli.solve.run_display import RunDisplay
from secondpass.service.common.concurrency import task_group

FRAME_SECONDS = 0.1


@asynccontextmanager
async def live_display(display: RunDisplay, console: Console) -> AsyncIterator[None]:
    """Redraw the run during the block and leave its final state on the screen, on every exit path."""
    with Live(display, console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            async with task_group() as group:
                group.start_soon(_refresh, live)
                yield
                group.cancel_scope.cancel()
        finally:
            display.finish()


async def _refresh(live: Live) -> None:
    while True:
        live.refresh()
        await anyio.sleep(FRAME_SECONDS)


def print_answer(console: Console, answer: Json) -> None:
    """Print the text, the extracted answer, the stop reason and the usage by role."""
    console.print()
    console.print(Text(printable(answer["text"])))
    console.print()
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(answer):
        facts.add_row(Text(name, style="dim"), Text(printable(value)))
    console.print(facts)
    console.print(_usage_table(answer["usage"]))


def _facts(answer: Json) -> list[tuple[str, str]]:
    confidence, degraded, saved = (
        answer["confidence"],
        answer["degraded"],
        answer["saved"],
    )
    facts = {
        "answer": answer["answer"],
        "confidence": None
        if confidence is None
        else f"{confidence:.2f} {answer['confidence_kind']}",
        "stop reason": answer["stop_reason"],
        "failed": degraded
        and "  ".join(f"{n} calls of the {role}" for role, n in degraded.items()),
        "saved": saved and f"{saved['samples']} samples, about {saved['tokens']} tokens",
    }
    return [(name, str(value)) for name, value in facts.items() if value]


def _usage_table(usage: Mapping[str, Json]) -> Table:
    columns = ("calls", "prompt", "cached", "completion", "wasted", "cost")
    table = Table("role", box=None, header_style="dim", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    for role, record in usage.items():
        approximately = "~" if record["estimated"] else ""
        table.add_row(role, *(f"{approximately}{record[column]:g}" for column in columns))
    return table

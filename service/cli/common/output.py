"""Output: JSON on one line, tables, and complaints on stderr."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from secondpass.service.cli.common.command import Options
from secondpass.service.cli.common.failure import Json

if TYPE_CHECKING:
    from rich.console import Console

EXTRA = "pip install 'secondpass[cli]'"


def print_json(document: Json) -> None:
    """Print a document on one line."""
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")))  # noqa: T201


def print_rows(
    options: Options, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    """Print rows as a table at a terminal, else separated by tabs."""
    if sys.stdout.isatty() and has_rich(options):
        from secondpass.service.cli.common.screen import table_of  # noqa: PLC0415 - an extra

        console().print(table_of(headings, rows))
        return
    for row in (headings, *rows):
        print("\t".join(row))  # noqa: T201


def has_rich(options: Options) -> bool:
    """True where rich is installed; else complain that the output is plain."""
    if importlib.util.find_spec("rich") is not None:
        return True
    complain(options, f"plain output; to see more at a terminal: {EXTRA}")
    return False


def console(*, to_stderr: bool = False) -> Console:
    """A console of rich that prints text as it is."""
    from rich.console import Console  # noqa: PLC0415 - an extra

    return Console(stderr=to_stderr, highlight=False, markup=False, emoji=False)


def complain(options: Options, what: str) -> None:
    """Print each line on stderr, after the command's name."""
    for line in what.splitlines():
        print(f"secondpass {options.command}: {line}", file=sys.stderr)  # noqa: T201

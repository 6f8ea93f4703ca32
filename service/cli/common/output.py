"""Output of commands: JSON and tables on stdout, error messages on stderr."""

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

INSTALL_CLI_EXTRA = "pip install 'secondpass[cli]'"


def print_json(document: Json) -> None:
    """Print a document as JSON on one line."""
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")))  # noqa: T201


def print_rows(
    options: Options, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    """Print rows as a table at a terminal, tab-separated otherwise."""
    if sys.stdout.isatty() and has_rich(options):
        from secondpass.service.cli.common.rich_output import table_of  # noqa: PLC0415 - an extra

        console().print(table_of(headings, rows))
        return
    for row in (headings, *rows):
        print("\t".join(row))  # noqa: T201


def has_rich(options: Options) -> bool:
    """Return whether rich is installed. Print how to install it if not."""
    if importlib.util.find_spec("rich") is not None:
        return True
    print_error(options, f"rich is not installed, so the output is plain: {INSTALL_CLI_EXTRA}")
    return False


def console(*, to_stderr: bool = False) -> Console:
    """Return a rich console that interprets no markup."""
    from rich.console import Console  # noqa: PLC0415 - an extra

    return Console(stderr=to_stderr, highlight=False, markup=False, emoji=False)


def print_error(options: Options, message: str) -> None:
    """Print each line of the message on stderr, prefixed with the command."""
    for line in message.splitlines():
        print(f"secondpass {options.command}: {line}", file=sys.stderr)  # noqa: T201

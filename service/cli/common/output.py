"""Output of commands: JSON, text and tables on stdout, error messages on stderr.

All output of the command line passes through this module. Text of models and servers is untrusted: no control character
in it reaches a terminal, and rich interprets no markup in it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from secondpass.service.cli.common.command import Options
from secondpass.service.cli.common.failure import Json
from secondpass.strategies.api.quoting import invisible_characters

if TYPE_CHECKING:
    from rich.console import Console

INSTALL_CLI_EXTRA = "pip install 'secondpass[cli]'"


def printable(text: str) -> str:
    """Replace characters that could control a terminal by U+FFFD.

    These are control and format characters, among them those that reorder text. Line feeds and tabs are kept, and a
    carriage return before a line feed is dropped.
    """
    return invisible_characters().sub("\ufffd", text.replace("\r\n", "\n"))


def print_text(text: str, *, to_stderr: bool = False) -> None:
    """Print printable text and a line feed."""
    print(printable(text), file=sys.stderr if to_stderr else sys.stdout, flush=to_stderr)


def print_json(document: Json) -> None:
    """Print a document as JSON on one line. At a terminal, control characters are escaped."""
    line = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    if sys.stdout.isatty():
        line = invisible_characters().sub(_escape, line)
    print(line)  # noqa: T201


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def print_rows(
    options: Options, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    """Print rows as a table at a terminal, tab-separated otherwise."""
    if sys.stdout.isatty() and has_rich(options):
        from secondpass.service.cli.common.rich_output import table_of  # noqa: PLC0415 - an extra

        console().print(table_of(headings, rows))
        return
    for row in (headings, *rows):
        print_text("\t".join(row))


def has_rich(options: Options) -> bool:
    """Return whether rich is installed. Print how to install it if not."""
    if importlib.util.find_spec("rich") is not None:
        return True
    print_error(options, f"rich is not installed, so the output is plain: {INSTALL_CLI_EXTRA}")
    return False


def console(*, to_stderr: bool = False) -> Console:
    """Return a rich console that interprets no markup and writes printable text only."""
    from secondpass.service.cli.common.rich_output import PrintableConsole  # noqa: PLC0415 - an extra

    return PrintableConsole(stderr=to_stderr, highlight=False, markup=False, emoji=False)


def print_error(options: Options, message: str) -> None:
    """Print each line of the message on stderr, prefixed with the command."""
    for line in message.splitlines():
        print_text(f"secondpass {options.command}: {line}", to_stderr=True)

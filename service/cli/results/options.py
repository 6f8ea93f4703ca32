"""Options of `secondpass results`."""

from __future__ import annotations

import argparse

from secondpass.service.cli.common.command import Options

EPILOG = """\
Reads rec_*.jsonl (recorded samples) and *.records.jsonl (records of runs) in the folders, and writes
tables and plots. Only the text between the markers <!-- results --> and <!-- /results --> of a document
is replaced. Plots need the `eval` extra: pip install 'secondpass[eval]'

exit codes:
  0    The documents are written. Their paths are printed.
  2    An option or a file is invalid, or matplotlib is missing.

examples:
  secondpass results --data recorded --out docs/results.md
  secondpass results --data recorded --pools runs --out docs/results.md --readme README.md
"""


class ResultsOptions(Options):
    """Input folders and output documents."""

    data: list[str]
    pools: list[str]
    out: str
    readme: str | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--data",
        action="append",
        required=True,
        metavar="DIR",
        help="folder with recorded samples and records; may be repeated",
    )
    add(
        "--pools",
        action="append",
        default=[],
        metavar="DIR",
        help="another folder with records; may be repeated",
    )
    add(
        "--out",
        required=True,
        metavar="FILE",
        help="summary document to write; pages and plots go to a folder next to it",
    )
    add("--readme", metavar="FILE", help="second document, for the short table (default: none)")

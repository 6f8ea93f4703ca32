"""The options of `secondpass results`."""

from __future__ import annotations

import argparse

from secondpass.service.cli.common.command import Options

EPILOG = """\
Reads rec_*.jsonl (recorded samples) and *.records.jsonl (runs of strategies) of the folders, and writes tables and plots. What stands
outside of the markers <!-- results --> and <!-- /results --> is kept.

examples:
  secondpass results --data recorded --out docs/results.md
  secondpass results --data recorded --pools runs --out docs/results.md --readme README.md
"""


class ResultsOptions(Options):
    """Folders that are read, and documents that are written."""

    data: list[str]
    pools: list[str]
    out: str
    readme: str | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--data", action="append", required=True, metavar="DIR", help="a folder; may be repeated")
    add("--pools", action="append", default=[], metavar="DIR", help="one more folder of runs; may be repeated")  # fmt: skip
    add(
        "--out",
        required=True,
        metavar="FILE",
        help="the summary; pages and plots go to a folder beside it",
    )
    add("--readme", metavar="FILE", help="a second document, for the short table")

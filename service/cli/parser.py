"""Parser of the command line, assembled from the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from secondpass import __version__
from secondpass.service.cli import check_config, completion, listings
from secondpass.service.cli.calibrate import command as calibrate
from secondpass.service.cli.common.command import Command, Options, add_parser
from secondpass.service.cli.evaluate import command as evaluate
from secondpass.service.cli.new_strategy import command as new_strategy
from secondpass.service.cli.pool import command as pool
from secondpass.service.cli.results import command as results
from secondpass.service.cli.solve import command as solve

COMMANDS: Mapping[str, Command[Any]] = {
    command.name: command
    for command in (
        solve.COMMAND,
        listings.STRATEGIES,
        listings.MODELS,
        pool.COMMAND,
        calibrate.COMMAND,
        evaluate.COMMAND,
        results.COMMAND,
        new_strategy.COMMAND,
        check_config.COMMAND,
        completion.COMMAND,
    )
}
"""All commands except `serve`, whose options are generated from the settings."""

_SUMMARY = "Self-correction of language models at inference time, within a budget."
_EPILOG = """\
examples:
  secondpass serve --engine http --engine-url http://127.0.0.1:9000/v1 --model NAME
  secondpass solve "What is 6 times 7?" --strategy self_consistency --n 8
  secondpass strategies
"""


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error on one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of the command line and the parser of each command. `serve` has no options here."""
    parser = _Parser(
        prog="secondpass",
        description=_SUMMARY,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"secondpass {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_parser(subparsers, "serve", "serve the HTTP API")
    for command in COMMANDS.values():
        command.add(add_parser(subparsers, command.name, command.summary, command.epilog))
    return parser, subparsers.choices


def parse(arguments: Sequence[str]) -> Options:
    """Parse the arguments into the command's options class. Raises SystemExit as argparse does."""
    before, flags = _split_serve_flags(list(arguments))
    uses_local_service = flags is not None
    parser, subparsers = build_parser()
    if not before:
        parser.print_help(sys.stderr)
        parser.exit(2)
    name = before[0]
    if not name.startswith("-") and name not in subparsers:
        parser.error(f"unknown command {name!r}; must be one of: {', '.join(subparsers)}")
    command = COMMANDS.get(name)
    options_class = Options if command is None else command.options
    options: Options = parser.parse_args(
        before, options_class(uses_local_service=uses_local_service, serve_flags=flags or [])
    )
    if command is not None:
        command.complete(subparsers[name], options)
    return options


def _split_serve_flags(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """Split the arguments at `--` into those of the command and the flags of `serve`.

    The flags are None if the command takes none. The arguments are not split then.
    """
    at = arguments.index("--") if "--" in arguments else len(arguments)
    before, flags = arguments[:at], arguments[at + 1 :]
    command = COMMANDS.get(before[0]) if before else None
    if command is None or not command.uses_local_service(before):
        return arguments, None
    return before, flags

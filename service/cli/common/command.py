"""Definition of a command: its name, options and entry point."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar


class Options(argparse.Namespace):
    """Options common to all commands.

    Attributes:
        command: Name of the command.
        uses_local_service: True if the command runs the service in this process.
        serve_flags: Flags of `serve` after `--`, which configure that service.
    """

    command: str
    uses_local_service: bool
    serve_flags: list[str]


OptionsT = TypeVar("OptionsT", bound=Options)
Parser = TypeVar("Parser", bound=argparse.ArgumentParser)


def _accept(_parser: argparse.ArgumentParser, _options: Options) -> None:
    """Check nothing: the default of `Command.complete`."""


def _never(_arguments: list[str]) -> bool:
    return False


def add_parser(
    subparsers: argparse._SubParsersAction[Parser],
    name: str,
    summary: str,
    epilog: str | None = None,
) -> Parser:
    """Add the parser of a command or an action. Its description is the summary as a sentence."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[OptionsT]):
    """A command of `secondpass`.

    Attributes:
        name: Name on the command line.
        summary: One line in lower case, without a period.
        options: Class of the parsed options.
        add: Declares the options on a parser.
        run: Runs the command. Raises Failure.
        epilog: Text after the options in `--help`.
        complete: Checks options that depend on each other and fills in defaults. Reports through `parser.error`.
        uses_local_service: Returns, for the arguments before `--`, whether flags of `serve` may follow.
        interrupted: Message after Ctrl-C or SIGTERM.
    """

    name: str
    summary: str
    options: type[OptionsT]
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[OptionsT], None]
    epilog: str | None = None
    complete: Callable[[argparse.ArgumentParser, OptionsT], None] = _accept
    uses_local_service: Callable[[list[str]], bool] = _never
    interrupted: str = "interrupted"

"""A command: its name, its options and what it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar


class Options(argparse.Namespace):
    """The options of every command.

    `has_service` is true where the command uses a service in its own process; `serve_flags`, the flags of `serve` that
    follow `--`, describe it.
    """

    command: str
    has_service: bool
    serve_flags: list[str]


Given = TypeVar("Given", bound=Options)
Parser = TypeVar("Parser", bound=argparse.ArgumentParser)


def _accept(_parser: argparse.ArgumentParser, _options: Options) -> None:
    """Options that need no check beyond what argparse does."""


def _never(_arguments: list[str]) -> bool:
    return False


def add_parser(
    subparsers: argparse._SubParsersAction[Parser],
    name: str,
    summary: str,
    epilog: str | None = None,
) -> Parser:
    """Add the parser of a command or an action, described by its summary."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[Given]):
    """A command of `secondpass`.

    `summary` is a line without a full stop, and `epilog` follows the options in `--help`. `add` declares the options,
    `complete` checks them together and fills in defaults (it reports through `parser.error`), and `run` raises Failure.
    `has_service` takes the arguments before `--`, and is true where flags of `serve` may follow it.
    """

    name: str
    summary: str
    options: type[Given]
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Given], None]
    epilog: str | None = None
    complete: Callable[[argparse.ArgumentParser, Given], None] = _accept
    has_service: Callable[[list[str]], bool] = _never
    interrupted: str = "interrupted"

"""A command: its name, its options and what it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar


class Options(argparse.Namespace):
    """The options of every command. `serve_flags` are the flags of `serve` that follow `--`."""

    command: str
    serve_flags: list[str]


Given = TypeVar("Given", bound=Options)


def _accept(_parser: argparse.ArgumentParser, _options: Options) -> None:
    """Options that need no check beyond what argparse does."""


def _never(_arguments: list[str]) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[Given]):
    """A command of `secondpass`.

    `summary` is a line without a full stop, and `epilog` follows the options in `--help`. `add` declares the options,
    `complete` checks them together and fills in defaults (it reports through `parser.error`), and `run` raises Failure.
    `takes_serve_flags` says of the arguments before `--` whether flags of `serve` may follow it.
    """

    name: str
    summary: str
    options: type[Given]
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Given], None]
    epilog: str | None = None
    complete: Callable[[argparse.ArgumentParser, Given], None] = _accept
    takes_serve_flags: Callable[[list[str]], bool] = _never
    interrupted: str = "interrupted"

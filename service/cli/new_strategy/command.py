"""`secondpass new-strategy`: write a strategy's module, prompt, import line and page into a checkout."""

from __future__ import annotations

import argparse
import keyword
from pathlib import Path

from secondpass.service.cli.common.command import Command, Options
from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.cli.common.output import print_text
from secondpass.service.cli.new_strategy.checkout import Checkout
from secondpass.service.cli.new_strategy.skeletons import SKELETONS
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.registry import NAME_PATTERN

_EPILOG = """\
The result works as it is: it passes its contract tests, the linters and the tests of the documentation. Edit it from there.
`vote` draws completions and lets their answers vote; it needs no prompt. `judge` asks a judge about each answer.
To change the kind, undo the command as its output describes, and run it again.

examples:
  secondpass new-strategy best_of_three
  secondpass new-strategy quick_vote --kind vote --root ~/secondpass
"""


class NewStrategyOptions(Options):
    """The name, the skeleton, and the checkout that is written to."""

    name: str
    kind: str
    root: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "name",
        type=strategy_name,
        metavar="NAME",
        help="name of the strategy: lower-case letters, digits and underscores",
    )
    parser.add_argument(
        "--kind", choices=tuple(SKELETONS), default="judge", help="the skeleton (default: judge)"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="checkout of secondpass (default: the current folder)",
    )


def strategy_name(text: str) -> str:
    """Parse the name of a strategy and its module."""
    if NAME_PATTERN.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"must match {NAME_PATTERN.pattern}, not {text!r}")
    if keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a Python keyword")
    return text


def new_strategy(options: NewStrategyOptions) -> None:
    """Write the files, and print their paths and the next commands.

    Raises Failure if the name or the folder cannot be used; nothing is written then.
    """
    name, skeleton = options.name, SKELETONS[options.kind]
    if problem := skeleton.problem_of(name):
        raise Failure(f"NAME: {problem}", REFUSED)
    checkout = Checkout(options.root)
    if name in STRATEGIES:
        raise Failure(
            f"NAME: strategy {name!r} is already registered by {STRATEGIES[name].module}", REFUSED
        )
    created = {f"strategies/{name}.py": skeleton.module(name)}
    if skeleton.prompt is not None:
        created[f"strategies/prompts/{name}.txt"] = skeleton.prompt
    created[f"docs/strategies/{name}.md"] = skeleton.page(name)
    for line in checkout.add(name, created, skeleton.cells(name)):
        print_text(line)
    print_text(_next_commands(name))


def _next_commands(name: str) -> str:
    return "\n".join(
        [
            "next:",
            f"  pytest tests/strategies/test_contract.py --strategy {name}",
            "  pytest tests/docs/test_strategy_pages.py",
            "  make check",
            "to undo: delete the created files, and the line and the row that were added",
        ]
    )


COMMAND = Command(
    name="new-strategy",
    summary="write the files of a new strategy into a checkout",
    epilog=_EPILOG,
    options=NewStrategyOptions,
    add=add_options,
    run=new_strategy,
)

"""`secondpass completion`: a completion script made from the options of every command."""

from __future__ import annotations

import argparse
import importlib.util

from secondpass.service.cli.common.command import Command, Options
from secondpass.service.cli.common.failure import Failure
from secondpass.service.cli.common.output import EXTRA

SHELLS = ("bash", "zsh", "fish")

_EPILOG = """\
examples:
  source <(secondpass completion bash)
  secondpass completion zsh > ~/.zfunc/_secondpass
  secondpass completion fish > ~/.config/fish/completions/secondpass.fish
"""


class CompletionOptions(Options):
    """The shell."""

    shell: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("shell", choices=SHELLS)


def completion(options: CompletionOptions) -> None:
    """Print the script. Raises Failure where shtab is not installed."""
    if importlib.util.find_spec("shtab") is None:
        raise Failure(f"completion scripts need an extra: {EXTRA}")
    import shtab  # noqa: PLC0415 - an extra
    from pydantic_settings import CliSettingsSource  # noqa: PLC0415 - slow, and needed here only

    from secondpass.service.cli.parser import build_parser  # noqa: PLC0415 - it knows this command
    from secondpass.service.config.settings import Settings  # noqa: PLC0415

    parser, commands = build_parser()
    CliSettingsSource(Settings, root_parser=commands["serve"])  # adds the options
    print(shtab.complete(parser, options.shell))  # noqa: T201


COMMAND = Command(
    name="completion",
    summary="print a completion script for a shell",
    epilog=_EPILOG,
    options=CompletionOptions,
    add=add_options,
    run=completion,
)

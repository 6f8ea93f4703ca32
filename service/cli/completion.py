"""`secondpass completion`: print a shell completion script."""

from __future__ import annotations

import argparse
import importlib.util

from secondpass.service.cli.common.command import Command, Options
from secondpass.service.cli.common.failure import Failure
from secondpass.service.cli.common.output import INSTALL_CLI_EXTRA, print_text

SHELLS = ("bash", "zsh", "fish")

_EPILOG = """\
The script completes commands, options and their values. It needs the `cli` extra: pip install 'secondpass[cli]'

examples:
  source <(secondpass completion bash)
  secondpass completion zsh > ~/.zfunc/_secondpass
  secondpass completion fish > ~/.config/fish/completions/secondpass.fish
"""


class CompletionOptions(Options):
    """Shell for which the script is printed."""

    shell: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("shell", choices=SHELLS, help="shell that runs the script")


def completion(options: CompletionOptions) -> None:
    """Print the completion script. Raises Failure without shtab."""
    if importlib.util.find_spec("shtab") is None:
        raise Failure(f"shtab is not installed: {INSTALL_CLI_EXTRA}")
    import shtab  # noqa: PLC0415 - an extra
    from pydantic_settings import CliSettingsSource  # noqa: PLC0415 - slow to import

    from secondpass.service.cli.parser import build_parser  # noqa: PLC0415 - it imports this module
    from secondpass.service.config.settings import Settings  # noqa: PLC0415

    parser, commands = build_parser()
    CliSettingsSource(Settings, root_parser=commands["serve"])  # declares the options of serve
    print_text(shtab.complete(parser, options.shell))


COMMAND = Command(
    name="completion",
    summary="print a shell completion script",
    epilog=_EPILOG,
    options=CompletionOptions,
    add=add_options,
    run=completion,
)

"""`secondpass check-config FILE`: check that `serve` can start with a settings file."""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

from secondpass.service.cli.common.command import Command, Options
from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.cli.common.output import print_text
from secondpass.service.common.errors import BadSettings
from secondpass.service.config.replicas import PER_POD
from secondpass.service.config.settings import Settings, load
from secondpass.service.server.app import check

_EPILOG = """\
The file is read as by `secondpass serve --config FILE`: SECONDPASS_* environment variables override it,
and the API keys and files that it names must exist. No engine is started or called.

exit codes:
  0  The settings are valid. The engines and their limits are printed.
  2  The settings are invalid. One line per problem is printed.

examples:
  secondpass check-config secondpass.toml
  BIG_KEY=none secondpass check-config secondpass.toml
"""


class CheckOptions(Options):
    """Path of the settings file."""

    file: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="settings file in TOML")


def run(options: CheckOptions) -> None:
    """Check the file and print a summary. Raises Failure with one line per problem."""
    try:
        settings = load(["--config", str(options.file)])
        anyio.run(check, settings)
    except BadSettings as error:
        raise Failure(str(error), REFUSED) from error
    print_text("\n".join(_summary(options.file, settings)))


def _summary(file: Path, settings: Settings) -> list[str]:
    lines = [f"{file}: valid"]
    for name, table in settings.engine_tables.items():
        roles = [role for role, engine in settings.role_engines.items() if engine == name]
        role_names = ", ".join(roles) or "no role"
        calls = table.max_concurrent_calls or settings.max_concurrent_calls
        lines.append(
            f"engine {name}: {table.kind}, {table.model}: {role_names}; {calls} concurrent calls"
        )
    lines.append(f"replicas: {settings.replicas}")
    longest, grace = settings.max_deadline_ms / 1e3, settings.shutdown_grace_seconds
    lines.append(f"longest deadline: {longest:g} s; shutdown_grace_seconds: {grace:g}")
    if grace < longest:
        lines.append(
            "on shutdown, runs that exceed the grace period return their best candidate so far"
        )
    if settings.replicas == "many":
        limits = ", ".join(f"{name} = {getattr(settings, name)}" for name in PER_POD)
        lines.append(f"limits per pod: the concurrent calls of each engine, {limits}")
    return lines


COMMAND = Command(
    name="check-config",
    summary="check a settings file without serving",
    epilog=_EPILOG,
    options=CheckOptions,
    add=add_options,
    run=run,
)

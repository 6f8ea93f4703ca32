"""`secondpass check-config FILE`: whether `serve` would start with a file of settings."""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

from secondpass.service.cli.common.command import Command, Options
from secondpass.service.cli.common.failure import REFUSED, Failure
from secondpass.service.common.errors import BadSettings
from secondpass.service.config.replicas import PER_POD
from secondpass.service.config.settings import Settings, load
from secondpass.service.server.app import check

_EPILOG = """\
The file is read as `secondpass serve --config FILE` reads it: SECONDPASS_* variables win over it, and the keys and files
that it names must be there. No engine is started or asked.

examples:
  secondpass check-config secondpass.toml
  BIG_KEY=none secondpass check-config secondpass.toml
"""


class CheckOptions(Options):
    """The file of settings."""

    file: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="TOML file with settings")


def run(options: CheckOptions) -> None:
    """Check the file and print what would be served. Raises Failure, which has a line for each problem."""
    try:
        settings = load(["--config", str(options.file)])
        anyio.run(check, settings)
    except BadSettings as error:
        raise Failure(str(error), REFUSED) from error
    print("\n".join(_summary(options.file, settings)))  # noqa: T201 - the command's own output


def _summary(file: Path, settings: Settings) -> list[str]:
    lines = [f"{file}: valid"]
    for name, table in settings.engine_tables.items():
        roles = [role for role, engine in settings.role_engines.items() if engine == name]
        played = ", ".join(roles) or "no role"
        calls = table.max_concurrent_calls or settings.max_concurrent_calls
        lines.append(f"engine {name}: {table.kind}, {table.model}: {played}; {calls} calls at once")
    lines.append(f"replicas: {settings.replicas}")
    longest, grace = settings.max_deadline_ms / 1e3, settings.shutdown_grace_seconds
    lines.append(f"longest solve: {longest:g} s; shutdown_grace_seconds: {grace:g}")
    if grace < longest:
        lines.append("a shutdown ends solves that run longer than the grace with their best so far")
    if settings.replicas == "many":
        limits = ", ".join(f"{name} = {getattr(settings, name)}" for name in PER_POD)
        lines.append(f"for each pod: the calls at once of each engine, {limits}")
    return lines


COMMAND = Command(
    name="check-config",
    summary="check a file of settings without serving",
    epilog=_EPILOG,
    options=CheckOptions,
    add=add_options,
    run=run,
)

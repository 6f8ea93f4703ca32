"""Options that several commands share: the server, the embedded server, and the budget of a run."""

from __future__ import annotations

import argparse

from secondpass.service.cli.common.command import Options
from secondpass.service.cli.common.failure import Json
from secondpass.service.cli.common.values import seconds

DEFAULT_URL = "http://127.0.0.1:8000"
WAIT_SECONDS = 300.0


class ServerOptions(Options):
    """Address of the server, and the environment variable that contains its API key."""

    url: str
    api_key_env: str | None


class EmbeddedOptions(ServerOptions):
    """A server, or with `embedded` one in this process. `wait` is in seconds."""

    embedded: bool
    wait: float


class LimitOptions(Options):
    """Budget of one run. `deadline` is in seconds."""

    budget_tokens: int | None
    budget_calls: int | None
    deadline: float | None


def limits(options: LimitOptions) -> Json:
    """Return the `budget` of a request with the limits that were given."""
    return given(
        max_tokens=options.budget_tokens,
        max_calls=options.budget_calls,
        deadline_ms=None if options.deadline is None else round(options.deadline * 1000),
    )


def given(**values: object) -> Json:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def complete_server(_parser: argparse.ArgumentParser, options: ServerOptions) -> None:
    """Fill in the default address of the server."""
    options.url = options.url or DEFAULT_URL


def complete_embedded(parser: argparse.ArgumentParser, options: EmbeddedOptions) -> None:
    """Reject --url with --embedded and --wait without it, and fill in defaults."""
    url, wait = vars(options)["url"], vars(options)["wait"]  # None unless given
    if options.embedded and url is not None:
        parser.error("--url and --embedded exclude each other")
    if not options.embedded and wait is not None:
        parser.error("--wait needs --embedded")
    options.wait = WAIT_SECONDS if wait is None else wait
    complete_server(parser, options)


def is_embedded(arguments: list[str]) -> bool:
    """Return whether the arguments before `--` contain --embedded."""
    return "--embedded" in arguments


def add_server(parser: argparse.ArgumentParser) -> None:
    """Declare --url and --api-key-env."""
    parser.add_argument("--url", help=f"address of the server (default: {DEFAULT_URL})")
    parser.add_argument(
        "--api-key-env",
        metavar="VAR",
        help="environment variable that contains the API key (default: no key)",
    )


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Declare --wait for a command that always runs an engine."""
    parser.add_argument(
        "--wait",
        type=seconds,
        default=WAIT_SECONDS,
        metavar="SECONDS",
        help="time limit for the engine to become ready, 0 or more (default: %(default)g)",
    )


def add_embedded(parser: argparse.ArgumentParser) -> None:
    """Declare --embedded and --wait."""
    add = parser.add_argument
    add(
        "--embedded",
        action="store_true",
        help="run the server in this process; flags of `secondpass serve` follow after --",
    )
    add(
        "--wait",
        type=seconds,
        metavar="SECONDS",
        help="with --embedded: time limit for the engines to become ready, 0 or more; loading a model with "
        f"--engine vllm does not count (default: {WAIT_SECONDS:g})",
    )

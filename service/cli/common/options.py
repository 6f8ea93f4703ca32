"""Options that several commands take: the server, an embedded service, and the limits of a run."""

from __future__ import annotations

import argparse

from secondpass.service.cli.common.command import Options
from secondpass.service.cli.common.failure import Json
from secondpass.service.cli.common.values import seconds

DEFAULT_URL = "http://127.0.0.1:8000"
WAIT_SECONDS = 300.0


class ServerOptions(Options):
    """The server that the command calls."""

    url: str
    api_key_env: str | None


class EmbeddedOptions(ServerOptions):
    """A server, or with `embedded` a service in this process; `wait` is in seconds."""

    embedded: bool
    wait: float


class LimitOptions(Options):
    """The budget of one run; `deadline` is in seconds."""

    budget_tokens: int | None
    budget_calls: int | None
    deadline: float | None


def limits(options: LimitOptions) -> Json:
    """The limits that the options set, by the names of the request."""
    return given(
        max_tokens=options.budget_tokens,
        max_calls=options.budget_calls,
        deadline_ms=None if options.deadline is None else round(options.deadline * 1000),
    )


def given(**values: object) -> Json:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def complete_server(_parser: argparse.ArgumentParser, options: ServerOptions) -> None:
    """Fill in the address of the server."""
    options.url = options.url or DEFAULT_URL


def complete_embedded(parser: argparse.ArgumentParser, options: EmbeddedOptions) -> None:
    """Reject --url with --embedded and --wait without it; fill in defaults."""
    url, wait = vars(options)["url"], vars(options)["wait"]  # None where they were not given
    if options.embedded and url is not None:
        parser.error("--url names a server, and --embedded answers without one")
    if not options.embedded and wait is not None:
        parser.error("--wait needs --embedded")
    options.wait = WAIT_SECONDS if wait is None else wait
    complete_server(parser, options)


def is_embedded(arguments: list[str]) -> bool:
    """True where the arguments before `--` ask for a service in this process."""
    return "--embedded" in arguments


def add_server(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which server is asked."""
    parser.add_argument("--url", help=f"the server (default: {DEFAULT_URL})")
    parser.add_argument(
        "--api-key-env", metavar="VAR", help="name of the variable that holds the server's key"
    )


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Declare how long an engine of the command's own may take to be ready."""
    parser.add_argument(
        "--wait",
        type=seconds,
        default=WAIT_SECONDS,
        metavar="SECONDS",
        help="for the engine to be ready",
    )


def add_embedded(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a service in this process."""
    add = parser.add_argument
    add(
        "--embedded",
        action="store_true",
        help="answer without a server: the flags of `secondpass serve` follow after --",
    )
    add(
        "--wait",
        type=seconds,
        metavar="SECONDS",
        help="--embedded: how long its engines may take to get ready, once a vllm one has loaded its model "
        f"(default: {WAIT_SECONDS:g})",
    )

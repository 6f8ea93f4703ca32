"""`secondpass strategies` and `secondpass models`: what a running server has."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import anyio

from secondpass.service.cli.common.client import connect, get, key_in
from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.failure import Json
from secondpass.service.cli.common.options import ServerOptions, add_server, complete_server
from secondpass.service.cli.common.output import print_json, print_rows
from secondpass.service.cli.common.values import fields_of

_EPILOG = """\
examples:
  secondpass {name}
  secondpass {name} --url https://solve.example --api-key-env KEY --json | jq .
"""


class ListOptions(ServerOptions):
    """The server, and the form of the output."""

    json: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_server(parser)
    parser.add_argument("--json", action="store_true", help="the server's reply on one line")


def strategies(options: ListOptions) -> None:
    """List what the server can do with a question."""
    listed = anyio.run(_listed, options, "/strategies")
    _show(
        options,
        listed,
        ("name", "what it does", "learns from", "does with it", "paper", "params"),
        [_strategy_row(entry, listed) for entry in listed["strategies"]],
    )


def models(options: ListOptions) -> None:
    """List the server's models; each takes @STRATEGY on the chat endpoint."""
    listed = anyio.run(_listed, options, "/v1/models")
    names = [entry["id"] for entry in listed["data"]]
    rows = [
        (entry["id"], str(entry.get("max_model_len", "")))
        for entry in listed["data"]
        if not any(entry["id"].startswith(f"{name}@") for name in names)
    ]
    _show(options, listed, ("model", "context"), rows)


async def _listed(options: ListOptions, path: str) -> Json:
    async with connect(options.url, key_in(options.api_key_env)) as client:
        return await get(client, path)


def _show(
    options: ListOptions, listed: Json, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    """As one line of JSON, as a table at a terminal, or else with tabs."""
    if options.json:
        print_json(listed)
    else:
        print_rows(options, headings, rows)


def _strategy_row(entry: Json, listed: Json) -> tuple[str, ...]:
    params = (
        f"{name}={json.dumps(about['default'])}" if about.get("default") is not None else name
        for name, about in fields_of(entry["params"]).items()
    )
    name = entry["name"]
    is_open_default = name == listed.get("default_open")
    role = "default" if name == listed["default"] else "default if open" if is_open_default else ""
    return (
        f"{name} ({role})" if role else name,
        entry["summary"],
        entry["signal"],
        entry["update"],
        f"arxiv.org/abs/{entry['paper']}" if entry["paper"] else "",
        " ".join(params),
    )


STRATEGIES, MODELS = (
    Command(
        name=name,
        summary=f"list the {name} of a running server",
        epilog=_EPILOG.format(name=name),
        options=ListOptions,
        add=add_options,
        complete=complete_server,
        run=run,
    )
    for name, run in (("strategies", strategies), ("models", models))
)

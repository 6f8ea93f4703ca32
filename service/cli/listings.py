"""`secondpass strategies` and `secondpass models`: list what a running server offers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import anyio

from secondpass.service.cli.common.client import connect, get, read_api_key
from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.failure import Json
from secondpass.service.cli.common.options import ServerOptions, add_server, complete_server
from secondpass.service.cli.common.output import print_json, print_rows
from secondpass.service.cli.common.values import param_schemas

_EPILOG = """\
The output is a table at a terminal, and tab-separated in a pipe.

exit codes:
  0  Listed.
  1  The server failed or cannot be reached.
  2  An option is invalid, or the server rejected the API key.

examples:
  secondpass {name}
  secondpass {name} --url https://solve.example --api-key-env KEY --json | jq .
"""


class ListOptions(ServerOptions):
    """The server and the output format."""

    json: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_server(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the response of the server as JSON on one line"
    )


def strategies(options: ListOptions) -> None:
    """Print the strategies of the server."""
    listed = anyio.run(_fetch, options, "/strategies")
    _print(
        options,
        listed,
        ("name", "summary", "signal", "update", "paper", "params"),
        [_strategy_row(entry, listed) for entry in listed["strategies"]],
    )


def models(options: ListOptions) -> None:
    """Print the models of the server, without the MODEL@STRATEGY names of the chat endpoint."""
    listed = anyio.run(_fetch, options, "/v1/models")
    names = [entry["id"] for entry in listed["data"]]
    rows = [
        (entry["id"], str(entry.get("max_model_len", "")))
        for entry in listed["data"]
        if not any(entry["id"].startswith(f"{name}@") for name in names)
    ]
    _print(options, listed, ("model", "context"), rows)


async def _fetch(options: ListOptions, path: str) -> Json:
    async with connect(options.url, read_api_key(options.api_key_env)) as client:
        return await get(client, path)


def _print(
    options: ListOptions, listed: Json, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    """Print JSON on one line with --json, else a table at a terminal, else tab-separated rows."""
    if options.json:
        print_json(listed)
    else:
        print_rows(options, headings, rows)


def _strategy_row(entry: Json, listed: Json) -> tuple[str, ...]:
    params = (
        f"{name}={json.dumps(schema['default'])}" if schema.get("default") is not None else name
        for name, schema in param_schemas(entry["params"]).items()
    )
    name = entry["name"]
    role = ""
    if name == listed["default"]:
        role = "default"
    elif name == listed.get("default_open"):
        role = "default if open"
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

"""The commands themselves: what each does, what goes to stdout, and with which code it ends."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import anyio

from secondpass.service.cli.body import limits, solve_body
from secondpass.service.cli.calibrate import calibrate
from secondpass.service.cli.client import Event, ask, connect, get, key_in
from secondpass.service.cli.embedded import embedded
from secondpass.service.cli.eval import evaluate
from secondpass.service.cli.failure import ANSWERED, FAILED, INTERRUPTED, NOTHING, Failure, Json
from secondpass.service.cli.options import Options, build_parser, parse
from secondpass.service.cli.pool import pool
from secondpass.service.cli.results import results

if TYPE_CHECKING:
    from rich.console import Console

EXTRA = "pip install 'secondpass[cli]'"


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; returns the exit code. Prints no traceback for what can go wrong."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal's encoding must not lose an answer
    try:
        options = parse(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    try:
        with _sigterm_as_ctrl_c():
            COMMANDS[options.command](options)
            sys.stdout.flush()
    except Failure as failure:
        _complain(options, str(failure))
        return failure.code
    except KeyboardInterrupt:
        _complain(options, _INTERRUPTED.get(options.command, "interrupted"))
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on; what is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return ANSWERED


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM ends a command the way Ctrl-C does: engines that it started end with it, and nothing written is lost."""

    def end(_: int, frame: FrameType | None) -> None:
        on_ctrl_c = signal.getsignal(signal.SIGINT)  # of the event loop, while there is one
        if callable(on_ctrl_c):
            on_ctrl_c(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


_INTERRUPTED = {
    "solve": "interrupted; the connection is closed, so the server ends the run and frees its engine",
    "eval": "interrupted; what was answered is in the log folder, and the same command goes on from there",
    "pool": "interrupted; what was drawn is in the pool, and the same command goes on from there",
}


def solve(options: Options) -> None:
    """Ask one question, and show the answer as stdout and --json want it."""
    anyio.run(
        _solve, options, solve_body(options)
    )  # stdin is read before: a loop would hold Ctrl-C


async def _solve(options: Options, body: Json) -> None:
    async with AsyncExitStack() as stack:
        url = options.url
        if options.embedded:
            url = await stack.enter_async_context(embedded(options.serve_flags, options.wait))
        client = await stack.enter_async_context(connect(url, key_in(options.api_key_env)))
        events = await stack.enter_async_context(aclosing(ask(client, body)))
        is_watched = sys.stdout.isatty() and not options.json and _has_rich(options)
        answer = await (_watch if is_watched else _wait)(events, options)
    if answer["finish_reason"] == "length" and answer["answer"] is None:
        reason = answer["stop_reason"]
        limit = "the cap of one call (--max-tokens)" if reason == "finished" else reason
        raise Failure(f"the text was cut before it held an answer: {limit}", NOTHING)


def strategies(options: Options) -> None:
    """List what the server can do with a question."""
    listed = anyio.run(_listed, options, "/strategies")
    _show_list(
        options,
        listed,
        ("name", "what it does", "learns from", "does with it", "paper", "params"),
        [_strategy_row(entry, listed) for entry in listed["strategies"]],
    )


def models(options: Options) -> None:
    """List the server's models; each takes @STRATEGY on the chat endpoint."""
    listed = anyio.run(_listed, options, "/v1/models")
    names = [entry["id"] for entry in listed["data"]]
    rows = [
        (entry["id"], str(entry.get("max_model_len", "")))
        for entry in listed["data"]
        if not any(entry["id"].startswith(f"{name}@") for name in names)
    ]
    _show_list(options, listed, ("model", "context"), rows)


def completion(options: Options) -> None:
    """Print a completion script made from the options of every command."""
    if importlib.util.find_spec("shtab") is None:
        raise Failure(f"completion scripts need an extra: {EXTRA}")
    import shtab  # noqa: PLC0415 - an extra
    from pydantic_settings import CliSettingsSource  # noqa: PLC0415 - slow, and needed here only

    from secondpass.service.config.settings import Settings  # noqa: PLC0415

    parser, commands = build_parser()
    CliSettingsSource(Settings, root_parser=commands["serve"])  # adds the options
    print(shtab.complete(parser, options.shell))  # noqa: T201


COMMANDS: Mapping[str, Callable[[Options], None]] = {
    "solve": solve,
    "strategies": strategies,
    "models": models,
    "pool": pool,
    "calibrate": calibrate,
    "eval": evaluate,
    "results": results,
    "completion": completion,
}


async def _watch(events: AsyncIterator[Event], options: Options) -> Json:
    """At a terminal: everything, as it comes. The answer object."""
    from secondpass.service.cli.picture import Picture  # noqa: PLC0415 - an extra
    from secondpass.service.cli.screen import drawn, show_answer  # noqa: PLC0415

    picture, console = Picture(limits(options)), _console()
    answer: Json = {}
    async with drawn(picture, console):
        async for name, document in events:
            picture.see(name, document)
            answer = document
    show_answer(console, answer)
    return answer


async def _wait(events: AsyncIterator[Event], options: Options) -> Json:
    """In a pipe: the answer alone; with --trace its run on stderr, unless it is in the JSON. The answer object."""
    seen = [event async for event in events]
    _, answer = seen[-1]
    if options.json:
        _print_json(answer)
        return answer
    if options.trace and _has_rich(options):
        from secondpass.service.cli.picture import Picture  # noqa: PLC0415 - an extra

        picture = Picture({})
        for event in seen:
            picture.see(*event)
        picture.end()
        _console(to_stderr=True).print(picture)
    print(answer["text"] if answer["answer"] is None else answer["answer"])  # noqa: T201
    return answer


async def _listed(options: Options, path: str) -> Json:
    async with connect(options.url, key_in(options.api_key_env)) as client:
        return await get(client, path)


def _show_list(
    options: Options, listed: Json, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    """As one line of JSON, as a table at a terminal, or else with tabs."""
    if options.json:
        _print_json(listed)
    elif sys.stdout.isatty() and _has_rich(options):
        from secondpass.service.cli.screen import table_of  # noqa: PLC0415 - an extra

        _console().print(table_of(headings, rows))
    else:
        for row in (headings, *rows):
            print("\t".join(row))  # noqa: T201


def _strategy_row(entry: Json, listed: Json) -> tuple[str, ...]:
    params = (
        f"{name}={json.dumps(about['default'])}" if about.get("default") is not None else name
        for name, about in entry["params"].get("properties", {}).items()
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


def _print_json(document: Json) -> None:
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")))  # noqa: T201


def _has_rich(options: Options) -> bool:
    if importlib.util.find_spec("rich") is not None:
        return True
    _complain(options, f"plain output; to see more at a terminal: {EXTRA}")
    return False


def _console(*, to_stderr: bool = False) -> Console:
    from rich.console import Console  # noqa: PLC0415 - an extra

    return Console(stderr=to_stderr, highlight=False, markup=False, emoji=False)


def _complain(options: Options, what: str) -> None:
    for line in what.splitlines():
        print(f"secondpass {options.command}: {line}", file=sys.stderr)  # noqa: T201

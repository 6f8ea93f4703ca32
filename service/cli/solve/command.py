"""`secondpass solve`: what goes to stdout and to stderr, and with which exit code it ends."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import anyio

from secondpass.service.cli.common.client import Event, ask, connect, key_in
from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.embedded import embedded
from secondpass.service.cli.common.failure import NOTHING, Failure, Json
from secondpass.service.cli.common.options import complete_embedded, is_embedded, limits
from secondpass.service.cli.common.output import console, has_rich, print_json
from secondpass.service.cli.solve.body import solve_body
from secondpass.service.cli.solve.options import EPILOG, SolveOptions, add_options


def solve(options: SolveOptions) -> None:
    """Ask one question, and show the answer as stdout and --json want it."""
    anyio.run(
        _solve, options, solve_body(options)
    )  # stdin is read before: a loop would hold Ctrl-C


async def _solve(options: SolveOptions, body: Json) -> None:
    async with AsyncExitStack() as stack:
        url = options.url
        if options.embedded:
            url = await stack.enter_async_context(embedded(options.serve_flags, options.wait))
        client = await stack.enter_async_context(connect(url, key_in(options.api_key_env)))
        events = await stack.enter_async_context(aclosing(ask(client, body)))
        is_watched = sys.stdout.isatty() and not options.json and has_rich(options)
        answer = await (_watch if is_watched else _wait)(events, options)
    if answer["finish_reason"] == "length" and answer["answer"] is None:
        reason = answer["stop_reason"]
        limit = "the cap of one call (--max-tokens)" if reason == "finished" else reason
        raise Failure(f"the text was cut before it held an answer: {limit}", NOTHING)


async def _watch(events: AsyncIterator[Event], options: SolveOptions) -> Json:
    """At a terminal: everything, as it comes. The answer object."""
    from secondpass.service.cli.solve.picture import Picture  # noqa: PLC0415 - an extra
    from secondpass.service.cli.solve.screen import drawn, show_answer  # noqa: PLC0415

    picture, screen = Picture(limits(options)), console()
    answer: Json = {}
    async with drawn(picture, screen):
        async for name, document in events:
            picture.see(name, document)
            answer = document
    show_answer(screen, answer)
    return answer


async def _wait(events: AsyncIterator[Event], options: SolveOptions) -> Json:
    """In a pipe: the answer alone; with --trace its run on stderr, unless it is in the JSON. The answer object."""
    seen = [event async for event in events]
    _, answer = seen[-1]
    if options.json:
        print_json(answer)
        return answer
    if options.trace and has_rich(options):
        from secondpass.service.cli.solve.picture import Picture  # noqa: PLC0415 - an extra

        picture = Picture({})
        for event in seen:
            picture.see(*event)
        picture.end()
        console(to_stderr=True).print(picture)
    print(answer["text"] if answer["answer"] is None else answer["answer"])  # noqa: T201
    return answer


COMMAND = Command(
    name="solve",
    summary="answer one question by a running server",
    epilog=EPILOG,
    options=SolveOptions,
    add=add_options,
    complete=complete_embedded,
    has_service=is_embedded,
    run=solve,
    interrupted="interrupted; the connection is closed, so the server ends the run and frees its engine",
)

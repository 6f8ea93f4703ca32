"""`secondpass solve`: send one question, print the answer, and map the outcome to an exit code."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import anyio

from secondpass.service.cli.common.client import Event, connect, read_api_key, stream_solve
from secondpass.service.cli.common.command import Command
from secondpass.service.cli.common.embedded import embedded_server
from secondpass.service.cli.common.failure import NO_ANSWER, Failure, Json
from secondpass.service.cli.common.options import complete_embedded, is_embedded, limits
from secondpass.service.cli.common.output import console, has_rich, print_json, print_text
from secondpass.service.cli.solve.options import EPILOG, SolveOptions, add_options
from secondpass.service.cli.solve.request import solve_request


def solve(options: SolveOptions) -> None:
    """Answer one question. Raises Failure without an answer."""
    # stdin is read before the event loop starts, which would block Ctrl-C.
    anyio.run(_solve, options, solve_request(options))


async def _solve(options: SolveOptions, body: Json) -> None:
    async with AsyncExitStack() as stack:
        url = options.url
        if options.embedded:
            url = await stack.enter_async_context(
                embedded_server(options.serve_flags, options.wait)
            )
        client = await stack.enter_async_context(connect(url, read_api_key(options.api_key_env)))
        events = await stack.enter_async_context(aclosing(stream_solve(client, body)))
        is_live = sys.stdout.isatty() and not options.json and has_rich(options)
        answer = await (_show_live if is_live else _print_result)(events, options)
    if answer["finish_reason"] == "length" and answer["answer"] is None:
        limit = _limit_of(answer)
        raise Failure(f"the text was truncated before it contained an answer: {limit}", NO_ANSWER)


def _limit_of(answer: Json) -> str:
    """Return the limit that truncated the text, or the stop reason of a run that no limit ended."""
    reason: str = answer["stop_reason"]
    if "repetition" in answer["notes"] and reason == "finished":
        return "it repeats itself"
    if reason == "finished":
        return "the token limit of one call (--max-tokens)"
    if reason == "draining":
        return reason
    field = "deadline_ms" if reason == "deadline" else f"max_{reason.removeprefix('budget_')}"
    return f"{reason} (budget.{field})"


async def _show_live(events: AsyncIterator[Event], options: SolveOptions) -> Json:
    """Draw the run while it progresses, then its answer. Return the answer object."""
    from secondpass.service.cli.solve.live import live_display, print_answer  # noqa: PLC0415 - an extra
    from secondpass.service.cli.solve.run_display import RunDisplay  # noqa: PLC0415

    display, screen = RunDisplay(limits(options)), console()
    answer: Json = {}
    async with live_display(display, screen):
        async for name, document in events:
            display.update(name, document)
            answer = document
    print_answer(screen, answer)
    return answer


async def _print_result(events: AsyncIterator[Event], options: SolveOptions) -> Json:
    """Print the answer, or the answer object with --json, and return the answer object.

    With --trace and without --json the run is drawn on stderr.
    """
    seen = [event async for event in events]
    _, answer = seen[-1]
    if options.json:
        print_json(answer)
        return answer
    if options.trace and has_rich(options):
        from secondpass.service.cli.solve.run_display import RunDisplay  # noqa: PLC0415 - an extra

        display = RunDisplay({})
        for event in seen:
            display.update(*event)
        display.finish()
        console(to_stderr=True).print(display)
    print_text(answer["text"] if answer["answer"] is None else answer["answer"])
    return answer


COMMAND = Command(
    name="solve",
    summary="answer one question with a running server",
    epilog=EPILOG,
    options=SolveOptions,
    add=add_options,
    complete=complete_embedded,
    uses_local_service=is_embedded,
    run=solve,
    interrupted="interrupted; the connection is closed, so the server cancels the run and frees its engine",
)

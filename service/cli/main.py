"""The command line: run the command that was named, and end with its exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from secondpass.service.cli.common.failure import ANSWERED, FAILED, INTERRUPTED, Failure
from secondpass.service.cli.common.output import complain
from secondpass.service.cli.parser import COMMANDS, parse
from secondpass.service.server.serve import serve
from secondpass.service.server.signals import handled_by
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.entry_points import StrategyNotLoaded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments (default: those of the process) name; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["serve"]:
        return serve(given[1:])
    return _run(given)


def _run(arguments: Sequence[str]) -> int:
    """Run a command other than `serve`. Prints no traceback for what can go wrong."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal's encoding must not lose an answer
    try:
        options = parse(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    try:
        with _sigterm_as_ctrl_c():
            if options.has_service:
                # The first read imports other distributions, which may run an event loop themselves.
                STRATEGIES.load()
            COMMANDS[options.command].run(options)
            sys.stdout.flush()
    except Failure as failure:
        complain(options, str(failure))
        return failure.code
    except StrategyNotLoaded as failure:
        complain(options, str(failure))
        return FAILED
    except KeyboardInterrupt:
        complain(options, COMMANDS[options.command].interrupted)
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

    with handled_by(end, signal.SIGTERM):
        yield

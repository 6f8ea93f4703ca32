"""Entry point of the command line: run a command and return its exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from secondpass.service.cli.common.failure import FAILED, INTERRUPTED, SUCCEEDED, Failure
from secondpass.service.cli.common.output import print_error
from secondpass.service.cli.parser import COMMANDS, parse
from secondpass.service.server.serve import serve
from secondpass.service.server.signals import signal_handler
from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.entry_points import StrategyNotLoaded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. `arguments` default to those of the process."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["serve"]:
        return serve(arguments[1:])
    return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    """Run a command other than `serve`. Expected errors are printed without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An answer may contain characters that the terminal cannot encode.
            stream.reconfigure(errors="replace")
    try:
        options = parse(arguments)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else FAILED
    try:
        with _sigterm_as_ctrl_c():
            if options.uses_local_service:
                # Loading imports other distributions, which may start an event loop: do it outside of one.
                STRATEGIES.load()
            COMMANDS[options.command].run(options)
            sys.stdout.flush()
    except Failure as failure:
        print_error(options, str(failure))
        return failure.code
    except StrategyNotLoaded as error:
        print_error(options, str(error))
        return FAILED
    except KeyboardInterrupt:
        print_error(options, COMMANDS[options.command].interrupted)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader closed the pipe. Flushing the buffer at exit must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return SUCCEEDED


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that engines in this process are stopped and output is kept."""

    def interrupt(_: int, frame: FrameType | None) -> None:
        on_ctrl_c = signal.getsignal(signal.SIGINT)  # the running event loop may have replaced it
        if callable(on_ctrl_c):
            on_ctrl_c(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    with signal_handler(interrupt, signal.SIGTERM):
        yield

"""Request body of POST /solve from the options of `secondpass solve`.

The server checks most ranges, because its error names the field.
"""

from __future__ import annotations

import sys

from secondpass.service.cli.common.failure import REFUSED, Failure, Json
from secondpass.service.cli.common.options import given, limits
from secondpass.service.cli.common.output import print_text
from secondpass.service.cli.solve.options import SolveOptions


def solve_request(options: SolveOptions) -> Json:
    """Return the request body.

    Raises:
        Failure: stdin is not UTF-8, a parameter is given twice or without --strategy, or --option without a task.
    """
    body: Json = {
        "question": _question(options.question),
        "strategy": _strategy(options),
        "task": _task(options),
        "models": given(actor=options.model),
        "sampling": given(
            max_tokens=options.max_tokens, temperature=options.temperature, seed=options.seed
        ),
        "budget": limits(options),
    }
    non_empty = {field: value for field, value in body.items() if value not in (None, {})}
    return non_empty | {"stream": True, "trace": "full" if options.trace else "none"}


def _question(argument: str) -> str:
    if argument != "-":
        return argument
    if sys.stdin.isatty():
        print_text("Type the question, then Ctrl-D on a new line:", to_stderr=True)
    try:
        return sys.stdin.buffer.read().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Failure(f"the question on stdin is not UTF-8: byte {error.start}", REFUSED) from error


def _strategy(options: SolveOptions) -> Json | None:
    params: Json = {}
    for key, value in (*options.param, *given(n=options.n).items()):
        if key in params:
            raise Failure(f"the parameter {key!r} is given twice", REFUSED)
        params[key] = value
    if options.strategy is None:
        if params:
            raise Failure("--n and --param require --strategy", REFUSED)
        return None
    return {"name": options.strategy, "params": params}


def _task(options: SolveOptions) -> Json | None:
    if options.task is None:
        if options.option:
            raise Failure("--option needs --task choice", REFUSED)
        return None
    return {"kind": options.task} | given(options=options.option or None)

"""From options to the body of POST /solve. Ranges are the server's to check: it names the field."""

from __future__ import annotations

import sys

from secondpass.service.cli.common.failure import REFUSED, Failure, Json
from secondpass.service.cli.common.options import given, limits
from secondpass.service.cli.solve.options import SolveOptions


def solve_body(options: SolveOptions) -> Json:
    """The request. Raises Failure for what no request can say."""
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
    told = {field: value for field, value in body.items() if value not in (None, {})}
    return told | {"stream": True, "trace": "full" if options.trace else "none"}


def _question(given: str) -> str:
    if given != "-":
        return given
    if sys.stdin.isatty():
        print("the question, then Ctrl-D on a line of its own:", file=sys.stderr, flush=True)  # noqa: T201
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
            raise Failure(f"{', '.join(params)}: --strategy must say whose parameter", REFUSED)
        return None
    return {"name": options.strategy, "params": params}


def _task(options: SolveOptions) -> Json | None:
    if options.task is None:
        if options.option:
            raise Failure("--option needs --task choice", REFUSED)
        return None
    return {"kind": options.task} | given(options=options.option or None)

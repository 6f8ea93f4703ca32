"""The options of `secondpass solve`."""

from __future__ import annotations

import argparse

from secondpass.service.cli.common.options import (
    EmbeddedOptions,
    LimitOptions,
    add_embedded,
    add_server,
)
from secondpass.service.cli.common.values import number, param

EPILOG = """\
On a terminal the calls, candidates and the budget are drawn while the run goes on. In a pipe there is the answer
alone: what was extracted from the text, or the text where nothing is extracted.

exit codes:
  0    answered
  1    the server or its engine failed, or cannot be reached
  2    the options are wrong, or the server refused the request
  3    nothing to show within the budget or the deadline, or only a text that was cut before it held an answer
  130  Ctrl-C, or SIGTERM: the connection is closed, so the server ends the run and frees its engine

examples:
  secondpass solve "What is 6 times 7?"
  secondpass solve "What is 6 times 7?" --strategy self_consistency --n 16 --param stop=lead
  secondpass solve "Which is prime?" --task choice --option 21 --option 23 --option 27
  secondpass solve - --budget-tokens 2000 --deadline 20 < question.txt
  secondpass solve "What is 6 times 7?" --json --trace | jq .candidates
  secondpass solve "What is 6 times 7?" --embedded -- --engine scripted --model scripted
"""


class SolveOptions(EmbeddedOptions, LimitOptions):
    """One question, and how it is answered and shown."""

    question: str
    strategy: str | None
    n: int | None
    param: list[tuple[str, object]]
    task: str | None
    option: list[str]
    model: str | None
    max_tokens: int | None
    temperature: float | None
    seed: int | None
    json: bool
    trace: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_server(parser)
    _add_question(parser)
    _add_limits(parser)
    _add_output(parser)
    add_embedded(parser)


def _add_question(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("question", help="the question; - reads it from stdin")
    add("--strategy", metavar="NAME", help="see `secondpass strategies`; the server has a default")
    add("--n", type=int, help="the strategy's n: candidates at most")
    add(
        "--param",
        action="append",
        default=[],
        type=param,
        metavar="KEY=VALUE",
        help="any other parameter of the strategy; may be repeated",
    )
    add(
        "--task",
        choices=("math", "choice", "code", "open"),
        help="how answers are compared; else guessed",
    )
    add(
        "--option",
        action="append",
        default=[],
        metavar="TEXT",
        help="an option of --task choice; may be repeated",
    )
    add("--model", metavar="NAME", help="the actor's model; see `secondpass models`")
    add("--max-tokens", type=int, metavar="N", help="completion tokens of one call")
    add("--temperature", type=number, metavar="T", help="of the answer's own call")
    add("--seed", type=int, metavar="N", help="where the strategy's seeds begin")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--budget-tokens", type=int, metavar="N", help="completion tokens of all calls, at most")
    add("--budget-calls", type=int, metavar="N", help="engine requests, at most")
    add("--deadline", type=number, metavar="SECONDS", help="time of the whole run, at most")


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", action="store_true", help="the whole answer object on one line")
    add(
        "--trace",
        action="store_true",
        help="with what every call wrote: in the drawn tree, in --json, or else on stderr",
    )

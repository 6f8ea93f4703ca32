"""Options of `secondpass solve`."""

from __future__ import annotations

import argparse

from secondpass.service.cli.common.options import (
    EmbeddedOptions,
    LimitOptions,
    add_embedded,
    add_server,
)
from secondpass.service.cli.common.values import count, number, param, sampling_value

EPILOG = """\
At a terminal, the calls, candidates and budget are drawn during the run, and the answer with its usage at the end.
In a pipe, only the answer is printed: the extracted answer, or the whole text if none was extracted.

exit codes:
  0    Answered.
  1    The server or its engine failed, or the server cannot be reached.
  2    An option is invalid, or the server rejected the request.
  3    No answer within the budget or the deadline, or the text was truncated before it contained an answer.
  130  Ctrl-C or SIGTERM. The connection is closed, so the server cancels the run and frees its engine.

examples:
  secondpass solve "What is 6 times 7?"
  secondpass solve "What is 6 times 7?" --strategy self_consistency --n 16 --param stop=lead

  secondpass solve "Which is prime?" --task choice --option 21 --option 23 --option 27
  secondpass solve - --budget-tokens 2000 --deadline 20 < question.txt

  secondpass solve "What is 6 times 7?" --json --trace | jq .candidates
  secondpass solve "What is 6 times 7?" --embedded -- --engine scripted --model scripted
"""


class SolveOptions(EmbeddedOptions, LimitOptions):
    """The question, its strategy, task, sampling and budget, and the output format."""

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
    add("question", help="the question, or - to read it from stdin")
    add(
        "--strategy",
        metavar="NAME",
        help="strategy, see `secondpass strategies` (default: the server's)",
    )
    add(
        "--n",
        type=count,
        metavar="N",
        help="parameter `n` of the strategy: maximum number of drafts, 1 or more (default: the strategy's)",
    )
    add(
        "--param",
        action="append",
        default=[],
        type=param,
        metavar="KEY=VALUE",
        help="another parameter of the strategy; VALUE is parsed as JSON, otherwise taken as a string; may be repeated",
    )
    add(
        "--task",
        choices=("math", "choice", "code", "open"),
        help="kind of the task, which decides how answers are extracted and compared (default: guessed)",
    )
    add(
        "--option",
        action="append",
        default=[],
        metavar="TEXT",
        help="an option of --task choice, two or more; may be repeated",
    )
    add(
        "--model",
        metavar="NAME",
        help="model of the actor, see `secondpass models` (default: the server's)",
    )
    add(
        "--max-tokens",
        type=int,
        metavar="N",
        help="completion tokens per call, 1 or more (default: the server's)",
    )
    add(
        "--temperature",
        type=sampling_value("temperature", float),
        metavar="T",
        help="sampling temperature, 0 to 2, of a strategy without a parameter `temperature` (default: the server's)",
    )
    add(
        "--seed",
        type=int,
        metavar="N",
        help="first seed of the run, 0 or more (default: none)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--budget-tokens",
        type=int,
        metavar="N",
        help="completion tokens of all calls together, 1 or more (default: the server's)",
    )
    add(
        "--budget-calls",
        type=int,
        metavar="N",
        help="engine calls, 1 or more (default: the server's)",
    )
    add(
        "--deadline",
        type=number,
        metavar="SECONDS",
        help="wall time of the run, above 0 (default: the server's)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", action="store_true", help="print the answer object as JSON on one line")
    add(
        "--trace",
        action="store_true",
        help="include the text of every call: in the drawn tree, in the JSON, or else on stderr",
    )
